/** Bot, runner and commands as processes on a host that is full. */
import { type ChildProcess, spawn } from 'node:child_process'
import { resolve } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { openCli } from '../support/cli.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

vi.setConfig({ testTimeout: 120_000 })
const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')
// Machines have 4 GiB: two fit.
const full = { AGENT_SWARM_SYNTHETIC_MEMORY_MIB: '9000' }
let cli: ReturnType<typeof openCli>
let jira: JiraStandIn
let up: ChildProcess | null
beforeEach(async () => {
  cli = openCli()
  jira = await startJira({ issues: { 'DROP-1': 'one' } })
  up = null
})
afterEach(async () => {
  up?.kill('SIGKILL')
  await jira.stop()
  cli.close()
})

const startUp = async (): Promise<string> => {
  const env = cli.environment({ ...full, ...jira.settings, JIRA_PROJECTS: 'DROP', PORT: '0' })
  up = spawn(process.execPath, [entry, 'up'], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  up.stderr?.on('data', chunk => {
    stderr += chunk
  })
  return until('up to listen', () => stderr.match(/listens on (http:[^\s,]+)/)?.[1])
}
const waiting = async () => (await cli.json(['status'], full)).waiting as { ticket: string; why: string }[]

test('a create of an event waits without an attempt, says behind what, and goes on after a stop', async () => {
  for (const ticket of ['KEEP-1', 'KEEP-2']) await cli.swarm(['create', ticket], full)
  jira.sendTo(await startUp())
  expect(await jira.move('DROP-1', 'In Progress')).toBe(202)
  const why = await until('the reason', async () => (await waiting()).find(({ ticket }) => ticket === 'DROP-1')?.why)
  expect(why).toContain('waits for room: KEEP-1, KEEP-2 use 8 GiB of 8.3 GiB of memory')
  expect(await cli.json(['list'], full)).toHaveLength(2)
  await cli.swarm(['stop', 'KEEP-1'], full)
  await until('the machine', async () =>
    ((await cli.json(['list'], full)) as { ticket: string; status: string }[]).some(
      ({ ticket, status }) => ticket === 'DROP-1' && status === 'running',
    ),
  )
})

test('create --detach --wait waits in the background', async () => {
  for (const ticket of ['KEEP-1', 'KEEP-2']) await cli.swarm(['create', ticket], full)
  const words = ['create', 'DROP-1', '--detach', '--wait', '--json']
  const { stdout } = await cli.processes.swarm(words, { environment: full })
  expect(JSON.parse(stdout)).toMatchObject({ result: 'detached' })
  expect(await waiting()).toMatchObject([{ ticket: 'DROP-1', why: expect.stringContaining('KEEP-1, KEEP-2') }])
  await cli.swarm(['stop', 'KEEP-1'], full)
  await until('the machine', async () => ((await cli.json(['list'], full)) as unknown[]).length === 3)
})
