/** The host of the machines restarts: every process is killed (-9), every machine is off, and what lies in run folders is gone. */
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openCli } from '../../support/cli.ts'
import { actions } from '../../support/context.ts'
import { type JiraStandIn, startJira } from '../../support/jira.ts'
import { until } from '../../support/wait.ts'

let cli: ReturnType<typeof openCli>
let jira: JiraStandIn
const home = () => join(cli.home, 'state')
beforeEach(async () => {
  cli = openCli()
  jira = await startJira({ issues: {} })
})
afterEach(async () => {
  cli.close()
  await jira.stop()
})

const settings = () => ({ ...jira.settings, JIRA_PROJECTS: 'DROP', PORT: '0', AGENT_SWARM_PROVIDER: 'synthetic' })
const swarm = async (...words: string[]) => {
  const ran = await cli.processes.swarm(words, { environment: settings() })
  expect([ran.code, ran.code === 0 ? '' : ran.stderr]).toEqual([0, ''])
  return ran.stdout
}
const list = async (): Promise<Record<string, string>> =>
  Object.fromEntries(
    (JSON.parse(await swarm('list', '--json')) as { ticket: string; status: string }[]).map(({ ticket, status }) => [
      ticket,
      status,
    ]),
  )
const plan = async (): Promise<unknown[]> => JSON.parse(await swarm('reconcile', '--dry-run', '--json'))
const killAt = (phase: string, action: object) =>
  promisify(execFile)(process.execPath, [
    join(import.meta.dirname, '../../support/die-at.ts'),
    home(),
    phase,
    '',
    JSON.stringify(action),
  ])
const up = async () => {
  const process = cli.processes.begin(['up'], settings())
  await process.says('with a runner on this host')
  return process
}

const powerOff = () => {
  const marks = join(home(), 'synthetic-state')
  for (const name of readdirSync(marks)) renameSync(join(marks, name), join(marks, name.replace(/running$/, 'stopped')))
  for (const folder of ['links', 'locks']) rmSync(join(home(), folder), { recursive: true, force: true })
}

test('environments come back to what was last asked for, and nothing is left without an owner', async () => {
  await swarm('create', 'DROP-1', 'DROP-2', 'DROP-4')
  await swarm('stop', 'DROP-2')
  const before = await up()
  await expect(killAt('start', actions.create('DROP-3'))).rejects.toMatchObject({ signal: 'SIGKILL' })
  await expect(killAt('delete', actions.delete('DROP-4', true))).rejects.toMatchObject({ signal: 'SIGKILL' })
  before.kill('SIGKILL')
  await before.ended
  powerOff()
  expect(await list()).toMatchObject({ 'DROP-1': 'stopped', 'DROP-2': 'stopped' })
  expect((await plan()).length).toBeGreaterThan(0)
  const after = await up()
  await until('the machines as they were asked for', async () => {
    const now = await list()
    return now['DROP-1'] === 'running' && Object.keys(now).length === 2 ? now : null
  })
  expect(await list()).toEqual({ 'DROP-1': 'running', 'DROP-2': 'stopped' })
  await until('nothing left to do', async () => (await plan()).length === 0)
  expect(readdirSync(join(home(), 'synthetic'))).toHaveLength(2)
  expect(existsSync(join(home(), 'runner-id'))).toBe(true)
  after.kill('SIGTERM')
  expect((await after.ended).code).toBe(0)
})

test('the command line does the same as the runner', async () => {
  await swarm('create', 'DROP-1')
  powerOff()
  const findings = await plan()
  expect(findings).toMatchObject([{ ticket: 'DROP-1', step: 'start it' }])
  expect(JSON.parse(await swarm('reconcile', '--json'))).toEqual(findings)
  expect(await list()).toEqual({ 'DROP-1': 'running' })
  expect(await plan()).toEqual([])
  const ran = await cli.processes.swarm(['reconcile'], { environment: settings() })
  expect([ran.code, ran.stderr]).toEqual([0, 'Registry and hypervisor agree.\n'])
})
