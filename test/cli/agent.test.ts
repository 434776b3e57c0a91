/** The commands for agents, as people type them. The runner that acts on what they write is tested beside it. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openCli } from '../support/cli.ts'
import { knownMachine } from '../support/context.ts'
import { outputValidator } from '../support/json-outputs.ts'

let cli: ReturnType<typeof openCli>
beforeEach(() => {
  cli = openCli()
})
afterEach(() => cli.close())

const withAgent = () => {
  mkdirSync(join(cli.home, 'state'), { recursive: true, mode: 0o700 })
  writeFileSync(join(cli.home, 'state', 'config.yaml'), 'agent:\n  use: command\n  command: my-agent\n', {
    mode: 0o600,
  })
}
const machine = () => cli.know(registry => knownMachine(registry, 'DROP-8', '192.0.2.8'))

test('agent start, tell and agent stop write down what the runner does', async () => {
  withAgent()
  machine()
  expect(await cli.swarm(['tell', 'DROP-8', 'hello'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('DROP-8 has no agent\nStart one: agent-swarm agent start DROP-8'),
  })
  expect(await cli.swarm(['agent', 'start', 'DROP-8'])).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('The agent of DROP-8 starts'),
    stderr: expect.stringContaining('No runner runs with this home, and only it acts on this.'),
  })
  expect(await cli.swarm(['agent', 'start', 'DROP-8'])).toMatchObject({
    stdout: expect.stringContaining('already at work'),
  })
  const told = await cli.swarm(['tell', 'DROP-8', 'Use', 'tabs.', '--json'])
  expect(outputValidator('tell')(JSON.parse(told.stdout))).toBe('valid')
  cli.know(registry => expect(registry.waitingMessages('DROP-8').map(({ text }) => text)).toEqual(['Use tabs.']))
  const stopped = await cli.swarm(['agent', 'stop', 'DROP-8', '--json'])
  expect(JSON.parse(stopped.stdout)).toMatchObject({
    result: 'done',
    environment: { agent: { state: 'ended', result: 'stopped', reason: expect.stringContaining('stopped it') } },
  })
  // What waited would have started it again.
  cli.know(registry => expect(registry.waitingMessages('DROP-8')).toEqual([]))
})

test('without an agent in the configuration, and on the owner’s own system, the reason is said', async () => {
  machine()
  expect(await cli.swarm(['agent', 'start', 'DROP-8'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('no agent is configured on this host'),
  })
  withAgent()
  await cli.swarm(['create', 'DROP-1'])
  expect(await cli.swarm(['agent', 'start', 'DROP-1'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('a folder on the owner’s own system, where agents do not run'),
  })
})

test('attach needs a terminal', async () => {
  machine()
  expect(await cli.swarm(['attach', 'DROP-8'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('attach needs a terminal\nWithout one: agent-swarm status DROP-8'),
  })
})

test('half a command, a machine without a project, and a message where there is no agent: what is missing is said', async () => {
  machine()
  expect(await cli.swarm(['agent'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('"agent" is one of agent start, agent stop.'),
  })
  expect(await cli.swarm(['logs', 'DROP-8'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(
      'the machine of DROP-8 has no project\nGive it one: agent-swarm create DROP-8 --repo',
    ),
  })
  expect(await cli.swarm(['logs', 'DROP-9'])).toMatchObject({
    stderr: expect.stringContaining('DROP-9 has no machine'),
  })
  expect(await cli.swarm(['tell', 'DROP-8', 'hello'])).toMatchObject({
    stderr: expect.stringContaining('no agent is configured on this host'),
  })
})
