/** Tickets that move while machines are kept ready: bot and runner as two processes, one of which is killed. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { openRegistry, type Registry } from '../../src/registry/registry.ts'
import { openCli } from '../support/cli.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

vi.setConfig({ testTimeout: 180_000 })
const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')
const PATIENCE = { within: 60_000 }
const TOKEN = 'token-between-runner-and-bot'
let cli: ReturnType<typeof openCli>
let jira: JiraStandIn
let registry: Registry
let running: ChildProcess[]
beforeEach(async () => {
  cli = openCli()
  jira = await startJira({ issues: { 'DROP-1': 'one', 'DROP-2': 'two' } })
  running = []
})
afterEach(async () => {
  for (const child of running) child.kill('SIGKILL')
  registry.close()
  await jira.stop()
  cli.close()
})

const start = async (words: string[], more: Record<string, string>) => {
  const env = cli.environment({ AGENT_SWARM_RUNNER_TOKEN: TOKEN, ...more })
  const child = spawn(process.execPath, [entry, ...words], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  running.push(child)
  let stderr = ''
  child.stderr.on('data', chunk => {
    stderr += chunk
  })
  const address = () => stderr.match(/(?:listens on|takes work from) (http:[^\s,]+)/)?.[1]
  return { child, url: await until(`${words[0]} to be up`, address, PATIENCE) }
}
const commentOn = (ticket: string) =>
  until(`the machine of ${ticket}`, () => jira.comments(ticket).find(text => text.includes('has a machine')), PATIENCE)

test.for(['memory', 'disk'])('held in %s: a ticket that moves gets the ready one, and the next is made', async hold => {
  const home = join(cli.home, 'state')
  mkdirSync(home, { mode: 0o700 })
  const pool = `pool: [{image: agent-swarm-base, ready: 1, hold: ${hold}}]\n`
  writeFileSync(join(home, 'config.yaml'), pool, { mode: 0o600 })
  registry = openRegistry(join(home, 'registry.db'))
  const nextReady = (former: readonly string[]) =>
    until(
      'a ready machine',
      () => registry.poolMachines().find(({ state, vmId }) => state === 'ready' && !former.includes(vmId))?.vmId,
      PATIENCE,
    )
  const bot = await start(['bot', '--port', '0'], { ...jira.settings, JIRA_PROJECTS: 'DROP' })
  jira.sendTo(bot.url)
  const startRunner = async () => (await start(['runner'], { AGENT_SWARM_BOT_URL: bot.url })).child
  const runner = await startRunner()
  const first = await nextReady([])
  await jira.move('DROP-1', 'In Progress')
  expect(await commentOn('DROP-1')).toContain(first)
  expect(registry.environment('DROP-1')).toMatchObject({ vmId: first, status: 'running' })
  const second = await nextReady([first])
  runner.kill('SIGKILL')
  // It is handed out by the runner that comes after.
  await jira.move('DROP-2', 'In Progress')
  await startRunner()
  await commentOn('DROP-2')
  expect(registry.environment('DROP-2')).toMatchObject({ vmId: second, status: 'running' })
  await jira.move('DROP-1', 'Done')
  await until('the end of DROP-1', () => registry.environment('DROP-1') === null, PATIENCE)
  await nextReady([first, second])
  expect(registry.environments().map(({ ticket }) => ticket)).toEqual(['DROP-2'])
})
