/** `agent-swarm logs` and `/swarm logs`: the logs of setup and start are in the machine, that of the agent is on this host. */
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { type AgentRow, NEW_PROGRESS } from '../../src/registry/agents.ts'
import type { ProjectRow } from '../../src/registry/projects.ts'
import { transcriptFile } from '../../src/runner/agent/transcript.ts'
import { openCli } from '../support/cli.ts'
import { actions, knownMachine, openTestContext } from '../support/context.ts'
import { outputValidator } from '../support/json-outputs.ts'

let cli: ReturnType<typeof openCli>
beforeEach(() => {
  cli = openCli()
})
afterEach(() => cli.close())

const AGENT: AgentRow = {
  ...{ use: 'command', run: '0123abcd', state: 'running', startedAt: null, endedAt: null, result: null, reason: null },
  ...{ summary: null, turns: 0, tokens: 0, usd: null, rounds: 0, pullRequest: 'draft' },
  ...{ task: { summary: '', description: '', acceptance: '' }, session: null, workedMs: 0, progress: NEW_PROGRESS },
}
const transcript = (vmId = 'as-drop-8-00000001') => transcriptFile(join(cli.home, 'state'), vmId, AGENT.run)
const withAgent = (text: string) => {
  cli.know(registry => {
    knownMachine(registry, 'DROP-8', '192.0.2.8')
    registry.setAgent('DROP-8', AGENT)
  })
  mkdirSync(dirname(transcript()), { recursive: true })
  writeFileSync(transcript(), text)
}

test("the agent's log is shown without its machine, and moves no cursor", async () => {
  withAgent('one\n\u001b[2Jtwo\n')
  for (const words of [
    ['logs', 'DROP-8'],
    ['logs', 'DROP-8', '--agent'],
  ])
    expect(await cli.swarm(words)).toEqual({ code: 0, stdout: 'one\ntwo\n', stderr: '' })
  const printed = await cli.json(['logs', 'DROP-8'])
  expect(outputValidator('logs')(printed)).toBe('valid')
  expect(printed).toEqual({ ticket: 'DROP-8', logs: [{ name: 'agent', text: 'one\ntwo' }] })
})

test('it is followed until Ctrl-C', async () => {
  withAgent('one\n')
  const following = cli.begin(['logs', 'DROP-8', '-f', '--agent'])
  await following.says('one')
  appendFileSync(transcript(), 'two\n')
  await following.says('two')
  following.interrupt()
  expect(await following.ended).toMatchObject({ stdout: 'one\ntwo\n' })
})

test('what a machine has no log of, and why', async () => {
  expect((await cli.swarm(['logs', 'DROP-8'])).stderr).toContain('DROP-8 has no machine')
  cli.know(registry => knownMachine(registry, 'DROP-8', '192.0.2.8'))
  expect((await cli.swarm(['logs', 'DROP-8'])).stderr).toContain('the machine of DROP-8 has no project')
  expect((await cli.swarm(['logs', 'DROP-8', '--agent'])).stderr).toContain('the machine of DROP-8 has no agent')
  cli.know(registry => registry.setAgent('DROP-8', AGENT))
  expect((await cli.swarm(['logs', 'DROP-8', '--agent'])).stderr).toContain('DROP-8 has no logs of agent yet.')
})

const PROJECT: ProjectRow = {
  ...{ repo: 'acme/shop', branch: 'DROP-8-x', summary: null, path: '~/shop', ports: [], save: [], problem: null },
  ...{ setup: null, start: null, prepared: true },
}

test("of a stopped machine the agent's log is shown, and --start, which names a log, starts nothing", async () => {
  for (const words of [
    ['create', 'DROP-8'],
    ['stop', 'DROP-8'],
  ])
    expect(await cli.swarm(words)).toMatchObject({ code: 0 })
  cli.know(registry => registry.setProject('DROP-8', PROJECT))
  const refused = await cli.swarm(['logs', 'DROP-8', '--start'])
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('DROP-8 is stopped') })
  expect(refused.stderr).toMatch(/Start it: agent-swarm start DROP-8\n$/)
  cli.know(registry => {
    registry.setAgent('DROP-8', AGENT)
    const file = transcript(registry.environment('DROP-8')?.vmId)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, 'one\n')
  })
  for (const words of [
    ['logs', 'DROP-8'],
    ['logs', 'DROP-8', '--start', '--agent'],
  ])
    expect(await cli.swarm(words)).toMatchObject({
      ...{ code: 0, stdout: '== agent ==\none\n\n' },
      stderr: expect.stringContaining('DROP-8 is stopped: the logs in it are left out'),
    })
  expect(await cli.json(['list'])).toMatchObject([{ status: 'stopped' }])
})

test('a choice that cannot be shown is said', async () => {
  withAgent('one\n')
  const { stdout, stderr } = await cli.swarm(['logs', 'DROP-8', '--setup', '--agent'])
  expect([stdout, stderr]).toEqual([
    'one\n',
    'The machine of DROP-8 has no project, and so no logs of setup and start.\n',
  ])
  expect(await cli.swarm(['logs', 'DROP-8', '-f', '--json'])).toMatchObject({
    ...{ code: 2, stdout: expect.stringContaining('--follow prints lines') },
  })
})

test('/swarm logs has the last lines of the agent', async () => {
  const it = await openTestContext()
  onTestFinished(it.close)
  await it.do(actions.create('DROP-1'))
  const logs = async () => it.do({ ...actions.status('DROP-1'), kind: 'status', about: 'logs' })
  expect(await logs()).toMatchObject({ log: 'This machine has no project, and so no logs.' })
  it.context.registry.setAgent('DROP-1', AGENT)
  expect(await logs()).toMatchObject({ log: 'There are no logs of setup, start and agent yet.' })
  const file = transcriptFile(it.home, it.vmIdOf('DROP-1'), AGENT.run)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, 'one\n\u001b[2Jtwo\n')
  expect(await logs()).toMatchObject({ log: '== agent ==\none\ntwo', environment: { agent: { run: AGENT.run } } })
})
