/** The agents of attempts: a copy of the conversation, and what it is told first. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { NEW_PROGRESS } from '../../../src/registry/agents.ts'
import type { AgentRow } from '../../../src/registry/registry.ts'
import { attemptText } from '../../../src/runner/agent/prompt.ts'
import { transcriptFile } from '../../../src/runner/agent/transcript.ts'
import { agentLogs } from '../../../src/runner/project/logs.ts'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

const agent: AgentRow = {
  ...{ use: 'claude', run: '0a1b2c3d', state: 'running', startedAt: null, endedAt: null, result: null, reason: null },
  ...{ summary: null, turns: 3, tokens: 500, usd: 1, rounds: 1, pullRequest: 'draft', session: 'a-session' },
  ...{ workedMs: 60_000, task: { summary: 'Login', description: '', acceptance: '' }, progress: NEW_PROGRESS },
}

test('it goes on in a copy of the session, as a run of its own, with what it was told last', async () => {
  const { registry } = it.context
  const message = {
    text: 'Use the other table.',
    by: { via: 'cli', who: 'dev' },
    at: '2026-11-24T10:00:00.000Z',
    round: null,
  } as const
  registry.nextRun('DROP-1', agent, [{ ...message, id: registry.addMessage('DROP-1', message) }])
  await it.do(actions.fork('DROP-1', 2))
  const [one, two] = [registry.agent('DROP-1~1'), registry.agent('DROP-1~2')]
  for (const row of [one, two])
    expect(row).toMatchObject({ state: 'wanted', session: 'a-session', tokens: 500, turns: 3 })
  expect(new Set([one?.run, two?.run, agent.run]).size).toBe(3)
  expect(registry.messagesOf('DROP-1~1', one?.run ?? '')).toMatchObject([{ text: 'Use the other table.' }])
  expect(registry.agent('DROP-1')).toMatchObject({ run: agent.run, state: 'running' })
  // It is at work in its machine, and none of its source's operations ends it.
  expect(registry.restoredSince('DROP-1~1', one?.progress.operation ?? 0)).toBe(null)
})

test('one that has ended waits for a message', async () => {
  const { registry } = it.context
  registry.setAgent('DROP-1', { ...agent, state: 'ended', result: 'done' })
  await it.do(actions.fork('DROP-1'))
  expect(registry.agent('DROP-1~1')).toMatchObject({ state: 'ended', result: 'done', session: 'a-session' })
  expect(registry.agentsToLookAt()).toEqual([])
})

test('after a promote, the agent of the attempt is the ticket’s, and a restore of the former machine is none of it', async () => {
  const { registry } = it.context
  registry.setAgent('DROP-1', agent)
  await it.do(actions.checkpoint('DROP-1', 'one'))
  await it.do(actions.fork('DROP-1'))
  const run = registry.agent('DROP-1~1')?.run
  await it.do(actions.restore('DROP-1', 'one'))
  await it.do(actions.promote('DROP-1', 1))
  const row = registry.agent('DROP-1')
  expect(row).toMatchObject({ run, state: 'wanted' })
  expect(registry.restoredSince('DROP-1', row?.progress.operation ?? 0)).toBe(null)
})

test('all machines of a ticket share its budget, through fork, promote and move; the fork counts nothing twice', async () => {
  const { registry } = it.context
  registry.setAgent('DROP-1', { ...agent, tokens: 0, usd: null })
  registry.payAgent('DROP-1', { tokens: 500, usd: 1 })
  await it.do(actions.fork('DROP-1', 2))
  expect(registry.agentUse('DROP-1~2')).toEqual({ tokens: 500, usd: 1 })
  registry.payAgent('DROP-1~1', { tokens: 30, usd: null })
  registry.payAgent('DROP-1~2', { tokens: 4, usd: 0.5 })
  for (const key of ['DROP-1', 'DROP-1~1', 'DROP-1~2'])
    expect(registry.agentUse(key)).toEqual({ tokens: 534, usd: 1.5 })
  // Each shows what its own conversation has used.
  expect(registry.agent('DROP-1~1')).toMatchObject({ tokens: 530, usd: 1 })
  await it.do(actions.promote('DROP-1', 2))
  expect(registry.agentUse('DROP-1')).toEqual({ tokens: 534, usd: 1.5 })
  await it.do(actions.move('DROP-1', 'SHOP-7'))
  expect(registry.agentUse('SHOP-7')).toEqual({ tokens: 534, usd: 1.5 })
  await it.do(actions.delete('SHOP-7'))
  // A request that was under way.
  registry.payAgent('SHOP-7', { tokens: 1, usd: null })
  expect(registry.agentUse('SHOP-7')).toEqual({ tokens: 0, usd: 0 })
})

test('after a promote and a move, the log is that of the agent which was chosen, in all its runs', async () => {
  const { registry } = it.context
  registry.setAgent('DROP-1', { ...agent, use: 'command', state: 'ended', result: 'done' })
  await it.do(actions.fork('DROP-1'))
  const write = (ticket: string, text: string) => {
    const file = transcriptFile(it.home, it.vmIdOf(ticket), agent.run)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  }
  write('DROP-1~1', 'chosen\n')
  // Written last, and its machine stays, since its work cannot be saved.
  write('DROP-1', 'thrown away\n')
  it.addUnsavedWork('DROP-1')
  const log = (ticket: string) => agentLogs(it.context, ticket, 10)
  await it.do(actions.promote('DROP-1', 1))
  expect(await log('DROP-1')).toEqual([{ name: 'agent', text: 'chosen' }])
  expect(await log('DROP-1~2')).toEqual([{ name: 'agent', text: 'thrown away' }])
  await it.do(actions.move('DROP-1', 'SHOP-7'))
  expect(await log('SHOP-7')).toEqual([{ name: 'agent', text: 'chosen' }])
})

test('it is told which attempt it is, and others are told nothing', () => {
  const text = attemptText('DROP-1~2', { of: 'DROP-1', from: 'before' }, 'DROP-1-x-attempt-2')
  expect(text).toContain('You are attempt 2 of DROP-1.')
  expect(text).toContain('a copy of the machine of DROP-1 at the checkpoint before')
  expect(text).toContain('Your branch is DROP-1-x-attempt-2')
  expect(attemptText('DROP-1', null, 'DROP-1-x')).toBe('')
})
