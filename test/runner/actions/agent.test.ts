/** The wishes about agents that actions write down. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
import { wantAgentAfterSetup } from '../../../src/runner/actions/agent.ts'
import { requireEnvironment } from '../../../src/runner/context.ts'
import type { Target } from '../../../src/runner/operation.ts'
import type { Action } from '../../../src/schema/action.ts'
import { knownMachine, openTestContext, type TestContext } from '../../support/context.ts'

const TASK = { summary: 'A greeting', description: '', acceptance: '' }
let runner: TestContext
beforeEach(async () => {
  runner = await openTestContext()
  knownMachine(runner.context.registry, 'DROP-1', '192.0.2.8')
  runner.context.provider = async () => ({ name: 'kvm' }) as Provider
})
afterEach(() => runner.close())

const configure = () =>
  Object.assign(runner.context, { config: { ...runner.context.config, agent: { use: 'claude', rounds: 1 } } })
const target = (provider: object = { name: 'kvm' }) =>
  ({ context: runner.context, provider, row: requireEnvironment(runner.context, 'DROP-1') }) as Target
const by = { via: 'cli', who: 'ada' } as const
const act = (action: object) => runner.do({ by, replyTo: null, ticket: 'DROP-1', ...action } as Action)
const agent = () => runner.context.registry.agent('DROP-1')

test.for([
  ['a command without the text of a ticket starts none', {}, true, {}, ''],
  [
    'a bot that sends no word about the agent has none configured',
    { by: { via: 'jira', who: 'ada' } },
    true,
    {},
    expect.stringContaining("on the bot's host has no `agent`"),
  ],
  ['the same where this host has none', { by: { via: 'jira', who: 'ada' } }, false, {}, ''],
  ['a host without an agent says nothing', { task: TASK }, false, {}, ''],
  [
    'another’s ticket is told',
    { noAgent: 'No agent was started: its reporter is not listed.' },
    true,
    {},
    '. No agent was started: its reporter is not listed',
  ],
  [
    'a machine that is a folder of this system is told',
    { task: TASK },
    true,
    { runInGuest: () => {} },
    expect.stringContaining('No agent starts'),
  ],
] as const)('%s', ([, action, isConfigured, provider, sentence]) => {
  if (isConfigured) configure()
  expect(wantAgentAfterSetup(target(provider), { by, ...action })).toEqual(sentence)
  expect(agent()).toBeNull()
})

test('the text of a ticket makes an agent wanted, once: another attempt of the create changes nothing', () => {
  configure()
  expect(wantAgentAfterSetup(target(), { by, task: TASK })).toBe('. Its agent starts')
  const row = agent()
  expect(row).toMatchObject({ use: 'claude', state: 'wanted', task: TASK, tokens: 0, session: null })
  wantAgentAfterSetup(target(), { by, task: { ...TASK, summary: 'Another' } })
  expect(agent()).toEqual(row)
})

test('where the project could not be cloned, it does not say that the agent starts at once', () => {
  configure()
  runner.context.registry.setProject('DROP-1', {
    ...{ repo: 'acme/shop', branch: 'login', summary: null, path: '~/shop', ports: [], save: [], setup: null },
    ...{ start: null, problem: 'GitHub answered 503', prepared: false },
  })
  expect(wantAgentAfterSetup(target(), { by, task: TASK })).toBe('. Its agent starts when the project is there')
})

test('a new start keeps what was used and the session; another program begins a conversation of its own', async () => {
  configure()
  wantAgentAfterSetup(target(), { by, task: TASK })
  const { registry } = runner.context
  const end = () =>
    registry.updateAgent('DROP-1', agent()?.run ?? '', () => ({ state: 'ended', tokens: 5, turns: 3, session: 's-1' }))
  end()
  await act({ kind: 'agent', what: 'start' })
  expect(agent()).toMatchObject({
    state: 'wanted',
    tokens: 5,
    session: 's-1',
    task: TASK,
    progress: { turnsBefore: 3 },
  })
  end()
  Object.assign(runner.context, { config: { ...runner.context.config, agent: { use: 'codex' } } })
  await act({ kind: 'agent', what: 'start' })
  expect(agent()).toMatchObject({ use: 'codex', tokens: 5, session: null })
})

test('rounds are told as often as the operator allows', async () => {
  configure()
  wantAgentAfterSetup(target(), { by, task: TASK })
  expect(await act({ kind: 'tell', text: 'one', round: 1 })).toMatchObject({ result: 'done' })
  expect(await act({ kind: 'tell', text: 'two', round: 2 })).toMatchObject({
    result: 'skipped',
    reason: 'the agent of DROP-1 has been told 1 of 1 rounds',
  })
  expect(agent()?.rounds).toBe(1)
  expect(await act({ kind: 'tell', text: 'a person' })).toMatchObject({ result: 'done' })
})
