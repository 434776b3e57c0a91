/** Which messages an outcome makes. */
import { expect, test } from 'vitest'
import { completeAction, outcomeMessages } from '../../../src/bot/runners/outcomes.ts'
import type { Action } from '../../../src/schema/action.ts'
import type { Outcome } from '../../../src/schema/outcome.ts'
import type { ActionRow, Message, NewRequest } from '../../../src/store/port.ts'
import { environmentOf } from '../../store/fixtures.ts'
import { actionOn, dev, offer, openRunnerStage, START } from './stage.ts'

const comment = { repo: 'acme/shop', number: 7, commentId: 500 }
const replyTo = (line: number) => ({ replyTo: { ...comment, line } })
const remove: Action = { kind: 'delete', force: false, ticket: 'DROP-1', by: dev, replyTo: null }
const running = environmentOf('DROP-1', { observedAt: '2026-11-24T10:00:00.000Z' })
const rowOf = (action: Action, id = 'a'): ActionRow => ({
  ...{ id, action, correlation: 'd', seq: 1, state: 'active', attempt: 1, runnerId: 'one', token: 't' },
  ...{ leaseUntil: null, progress: null, needs: null, createdAt: START, notBefore: 0, outcome: null },
})
const requestOf = (id: string, action: Action, line: number): NewRequest => ({
  ...{ id, at: START, by: dev, person: true, place: 'acme/shop#7', ticket: 'DROP-1', what: '/swarm', action },
  ...{ command: { comment, line }, verdict: 'allowed', reason: null, answer: null, ok: null },
})
const done = (environment: typeof running | null = running): Outcome => ({
  ...{ result: 'done', summary: 'done', seconds: 1 },
  environment,
})
const failed = (kind: 'capacity' | 'unsaved-work', message = 'no'): Outcome => ({
  result: 'failed',
  failure: { kind, message, remedy: null },
  environment: null,
})
const reactions = (messages: readonly Message[]) =>
  messages.flatMap(({ body }) => (body.kind === 'reaction' ? body.content : []))

test.for([
  ['a create of Jira', actionOn('DROP-1', 'create'), done(), ['status:DROP-1', 'jira:ready:as-drop-1-1a2b3c4d']],
  [
    'a create by a command',
    actionOn('DROP-1', 'create', replyTo(0)),
    done(),
    ['reply:github:acme/shop:500', 'reaction:acme/shop:500:done', 'status:DROP-1', 'jira:ready:as-drop-1-1a2b3c4d'],
  ],
  ['a failed create of Jira', actionOn('DROP-1', 'create'), failed('capacity'), ['jira:failed:a']],
  [
    'a failed create by a command, which gets a reply',
    actionOn('DROP-1', 'create', replyTo(0)),
    failed('capacity'),
    ['reply:github:acme/shop:500', 'reaction:acme/shop:500:done'],
  ],
  ['a delete that kept the machine', remove, failed('unsaved-work'), ['jira:failed:a']],
  ['a delete that saved work', remove, { ...done(null), rescued: 'it is in ~/x' }, ['jira:deleted:a']],
  ['a delete that had nothing to save', remove, done(null), ['jira:deleted:a']],
  [
    'a delete by a command on a pull request',
    { ...remove, ...replyTo(0) },
    done(null),
    ['reply:github:acme/shop:500', 'reaction:acme/shop:500:done', 'jira:deleted:a'],
  ],
  [
    'a promote by the merge of an attempt',
    { kind: 'promote', attempt: 2, ticket: 'DROP-1', by: dev, replyTo: null } as const,
    done(),
    ['status:DROP-1', 'jira:promoted:a'],
  ],
  ['a delete that found no machine', remove, { result: 'skipped', reason: 'no machine', environment: null }, []],
  ['a failed stop', actionOn('DROP-1', 'stop'), failed('capacity'), ['jira:failed:a']],
  [
    'a failed move',
    { kind: 'move', from: 'SHOP-7', ticket: 'DROP-1', by: dev, replyTo: null },
    failed('capacity'),
    ['jira:failed:a'],
  ],
  [
    'a failed checkpoint of a push, which the status comment shows',
    { kind: 'checkpoint', ticket: 'DROP-1', by: dev, replyTo: null, name: 'push-abc1234', why: 'push', commit: null },
    failed('capacity'),
    [],
  ],
  ['a start', actionOn('DROP-1', 'start'), done(), ['status:DROP-1']],
] as [string, Action, Outcome, string[]][])('%s', async ([, action, outcome, expected]) => {
  const { context, record } = await openRunnerStage()
  if (action.replyTo !== null) await record(requestOf('a', action, 0))
  expect((await outcomeMessages(context, rowOf(action), outcome)).map(({ key }) => key)).toEqual(expected)
})

test('a delete by a command in Jira is told by its reply alone, unless work was rescued', async () => {
  const { context, record } = await openRunnerStage()
  const about = { ticket: 'DROP-1', commentId: '10001' }
  const action: Action = { ...remove, replyTo: { ...about, line: 0 } }
  await record({ ...requestOf('a', action, 0), command: { comment: about, line: 0 } })
  const keys = async (outcome: Outcome) =>
    (await outcomeMessages(context, rowOf(action), outcome)).map(({ key }) => key)
  expect(await keys(done(null))).toEqual(['reply:jira:DROP-1:10001'])
  expect(await keys({ ...done(null), rescued: 'it is in ~/x' } as Outcome)).toEqual([
    'reply:jira:DROP-1:10001',
    'jira:deleted:a',
  ])
})

test('the comment about a wait is brought up to date when the action ends', async () => {
  const { context, store } = await openRunnerStage()
  const action = actionOn('DROP-1', 'start')
  const keys = async () => (await outcomeMessages(context, rowOf(action), done())).map(({ key }) => key)
  expect(await keys()).toEqual(['status:DROP-1'])
  await store.comments.set({ side: 'jira', kind: 'note', ticket: 'DROP-1', about: 'waiting:a' }, '10002', 'x')
  expect(await keys()).toEqual(['status:DROP-1', 'jira-waiting:a'])
})

test('the note about a new machine has what the runner says about its agent', async () => {
  const { context } = await openRunnerStage()
  const create: Action = { ...actionOn('DROP-1', 'create'), kind: 'create', noProject: 'No project was cloned.' }
  const outcome = { ...done(), noAgent: 'No agent was started.' } as Outcome
  const notes = (await outcomeMessages(context, rowOf(create), outcome)).flatMap(({ body }) =>
    body.kind === 'jira-note' && body.note.kind === 'ready' ? [body.note.without] : [],
  )
  expect(notes).toEqual([['No project was cloned.', 'No agent was started.']])
})

test('without Jira there are no notes', async () => {
  const { context } = await openRunnerStage({ toJira: false })
  const messages = await outcomeMessages(context, rowOf(actionOn('DROP-1', 'create')), done())
  expect(messages.map(({ key }) => key)).toEqual(['status:DROP-1'])
})

test('a ticket that now has a machine shows its pull requests in Jira, once', async () => {
  const { context, store, heartbeat } = await openRunnerStage()
  const link = {
    repo: 'acme/shop',
    number: 7,
    ticket: 'DROP-1',
    branch: 'drop-1',
    state: 'open',
    closedAt: null,
  } as const
  await store.pullRequests.link(link)
  const keys = async () =>
    (await outcomeMessages(context, rowOf(actionOn('DROP-1', 'start')), done())).map(({ key }) => key)
  expect(await keys()).toContain('jira-link:acme/shop:7')
  await heartbeat([running])
  expect(await keys()).toEqual(['status:DROP-1'])
})

test('a comment with several commands gets its last reaction when all have ended, and it shows the worst result', async () => {
  const { context, record, enqueue, store, acquire } = await openRunnerStage()
  const [first, second] = [actionOn('DROP-1', 'start', replyTo(0)), actionOn('DROP-1', 'stop', replyTo(1))]
  await record(requestOf('a', first, 0), requestOf('b', second, 1))
  await enqueue('a', first)
  await enqueue('b', second)
  const { token } = await acquire()
  const row = (await store.queue.get('a')) as ActionRow
  expect(reactions(await outcomeMessages(context, row, failed('capacity')))).toEqual([])
  await store.queue.fail('a', token, {
    ...{ failure: { kind: 'capacity', message: 'no', remedy: null }, retry: false, environment: null, messages: [] },
  })
  expect(reactions(await outcomeMessages(context, rowOf(second, 'b'), done()))).toEqual(['confused'])
})

test('a secret in an outcome is stored nowhere', async () => {
  const { context, store, record, enqueue } = await openRunnerStage()
  const action = actionOn('DROP-1', 'create', replyTo(0))
  await record(requestOf('a', action, 0))
  await enqueue('a', action)
  const token = (await store.queue.claim('one', offer()))?.token ?? ''
  const row = (await store.queue.get('a')) as ActionRow
  expect(await completeAction(context, row, token, failed('capacity', 'curl -u dev:hunter22 failed'))).toBe('ok')
  const stored = [await store.outbox.due(10), await store.requests.ofComment(comment), await store.queue.get('a')]
  expect(JSON.stringify(stored)).toContain('dev:[redacted]')
  expect(JSON.stringify(stored)).not.toContain('hunter22')
})

test('the note in Jira tells what a new machine lacks; where a reply on the ticket does, it does not', async () => {
  const { store } = await openRunnerStage()
  const noteOf = async (replyTo: Action['replyTo']) => {
    const action = {
      ...actionOn('DROP-1', 'create'),
      replyTo,
      noProject: 'No project.',
      noAgent: 'No agent.',
    } as Action
    const messages = await outcomeMessages({ store, toJira: true }, rowOf(action), done())
    return messages.flatMap(({ body }) =>
      body.kind === 'jira-note' && body.note.kind === 'ready' ? [body.note.without] : [],
    )
  }
  expect(await noteOf(null)).toEqual([['No project.', 'No agent.']])
  expect(await noteOf({ ticket: 'DROP-1', commentId: '5', line: 0 })).toEqual([[]])
})
