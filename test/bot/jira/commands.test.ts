/** Commands in comments on a ticket: who may give them, what is read of them, and how they are answered. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Audience } from '../../../src/bot/jira/answers.ts'
import type { Outcome } from '../../../src/schema/outcome.ts'
import { until } from '../../support/wait.ts'
import { type Desk, openDesk, tickets } from '../desk.ts'
import { environmentOf, openStage, type Stage } from '../stage.ts'

const [ASSIGNEE, LISTED, STRANGER] = ['557058:assignee', '557058:listed', '557058:stranger']
const settings = { JIRA_COMMANDERS: LISTED }

describe('what is decided', () => {
  let desk: Desk
  let ahead = 0
  beforeAll(async () => {
    desk = await openDesk({ people: {}, issues: tickets(9), jiraCommanders: [LISTED], clock: () => Date.now() + ahead })
    for (const ticket of Object.keys(tickets(9))) await desk.jira.assign(ticket, ASSIGNEE)
    await desk.decided()
  })
  afterAll(() => desk.close())

  test('the assignee commands, line by line', async () => {
    const id = await desk.jira.write('DROP-1', 'Please\n/swarm create\n/swarm checkpoint before\n/swarm fly', {
      by: ASSIGNEE,
    })
    await desk.decided()
    expect(await desk.actionsOf('DROP-1')).toMatchObject([
      { kind: 'create', by: { via: 'jira', who: ASSIGNEE }, replyTo: { ticket: 'DROP-1', commentId: id, line: 0 } },
      { kind: 'checkpoint', name: 'before' },
    ])
    const requests = await desk.store.requests.ofComment({ ticket: 'DROP-1', commentId: id })
    expect(requests.map(({ what, verdict, by }) => [what, verdict, by.who])).toEqual([
      ['/swarm create', 'allowed', ASSIGNEE],
      ['/swarm checkpoint before', 'allowed', ASSIGNEE],
      ['/swarm fly', 'answered', ASSIGNEE],
    ])
  })

  test('a webhook that arrives twice, and again under another id, has one effect', async () => {
    const id = await desk.jira.write('DROP-2', '/swarm stop', { by: ASSIGNEE })
    await desk.decided()
    await desk.jira.deliver(desk.jira.commentPayloadOf('DROP-2', id))
    await desk.decided()
    expect(await desk.states('DROP-2')).toEqual(['stop pending'])
  })

  test('a listed account commands on every ticket', async () => {
    await desk.jira.write('DROP-3', '/swarm ssh', { by: LISTED })
    await desk.decided()
    expect(await desk.actionsOf('DROP-3')).toMatchObject([{ kind: 'status', about: 'ssh' }])
  })

  test('a former assignee does not command', async () => {
    await desk.jira.assign('DROP-4', STRANGER)
    await desk.jira.write('DROP-4', '/swarm delete --force', { by: ASSIGNEE })
    await desk.decided()
    expect(await desk.states('DROP-4')).toEqual([])
  })

  test('the document counts, and not its text in the webhook: a code block that holds its own end', async () => {
    const block = { type: 'codeBlock', content: [{ type: 'text', text: '{code}\n/swarm delete --force\n{code}' }] }
    await desk.jira.write(
      'DROP-5',
      { type: 'doc', version: 1, content: [block] },
      { by: ASSIGNEE, wiki: '{code}\n{code}\n/swarm delete --force\n{code}\n{code}' },
    )
    await desk.decided()
    expect(await desk.states('DROP-5')).toEqual([])
  })

  test('a comment that was deleted or edited before it was read does nothing, nor does one that is edited later', async () => {
    const id = await desk.jira.write('DROP-6', '/swarm create', { by: ASSIGNEE, send: false })
    const payload = desk.jira.commentPayloadOf('DROP-6', id)
    desk.jira.remove('DROP-6', id)
    await desk.jira.deliver(payload)
    await desk.jira.write('DROP-6', '/swarm create', { by: ASSIGNEE, edited: true })
    const talk = await desk.jira.write('DROP-6', 'hello', { by: ASSIGNEE })
    await desk.jira.rewrite('DROP-6', talk, '/swarm create')
    // Jira may not show it yet.
    expect(await desk.decided()).toEqual([
      'reading a comment on DROP-6: an event told of it, and Jira does not show it; asking again',
    ])
    ahead += 61_000
    expect(await desk.decided()).toEqual([])
    expect(await desk.states('DROP-6')).toEqual([])
    expect(await desk.store.outbox.due(100)).not.toContainEqual(
      expect.objectContaining({ key: expect.stringContaining('DROP-6') }),
    )
  })

  test('a comment that Jira shows only after its event takes effect', async () => {
    const id = await desk.jira.write('DROP-9', '/swarm create', { by: ASSIGNEE, send: false })
    const payload = desk.jira.commentPayloadOf('DROP-9', id)
    const issue = desk.jira.issue('DROP-9')
    const late = issue?.comments.splice(0) ?? []
    await desk.jira.deliver({ ...payload, comment: { ...payload.comment, created: new Date(Date.now() + ahead) } })
    expect(await desk.decided()).toHaveLength(1)
    issue?.comments.push(...late)
    expect(await desk.decided()).toEqual([])
    expect(await desk.states('DROP-9')).toEqual(['create pending'])
  })

  test('talk costs no request', async () => {
    const before = desk.jira.requests.length
    for (const talk of ['hello', 'see /swarm create', '{code}\n/swarm create\n{code}', '> /swarm create'])
      await desk.jira.write('DROP-7', talk, { by: ASSIGNEE })
    await desk.decided()
    expect(desk.jira.requests.length).toBe(before)
  })

  test('a command waits while Jira cannot be read', async () => {
    desk.jira.setDown(true)
    await desk.jira.write('DROP-8', '/swarm start', { by: ASSIGNEE })
    expect(await desk.decided()).toHaveLength(1)
    expect(await desk.states('DROP-8')).toEqual([])
    desk.jira.setDown(false)
    await desk.decided()
    expect(await desk.states('DROP-8')).toEqual(['start pending'])
  })
})

const replies = (stage: Stage, ticket: string) =>
  stage.jira.comments(ticket).filter(text => text.startsWith('Answer to comment'))
const reply = (stage: Stage, ticket: string, ...parts: string[]) =>
  until(`a reply with ${parts.join(' and ')}`, () =>
    replies(stage, ticket).find(text => parts.every(part => text.includes(part))),
  )
const done = (summary: string, ticket: string): Outcome => ({
  result: 'done',
  summary,
  environment: environmentOf(ticket),
  seconds: 1.5,
})

describe('how it is answered', () => {
  let stage: Stage
  let ahead = 0
  beforeAll(async () => {
    stage = await openStage({ people: {}, issues: tickets(5), settings, clock: () => Date.now() + ahead })
    await stage.heartbeat([])
    for (const ticket of Object.keys(tickets(5))) await stage.jira.assign(ticket, ASSIGNEE)
    await stage.decided()
  })
  afterAll(() => stage.close())
  const writes = () => stage.jira.requests.filter(({ method }) => method !== 'GET')

  test('at once and when the work is done, by one reply that is edited', async () => {
    const id = await stage.jira.write('DROP-1', '/swarm create\n/swarm checkpoint before\n/swarm fly', { by: ASSIGNEE })
    await reply(stage, 'DROP-1', `Answer to comment ${id}:`, '/swarm create', 'Next in the queue', 'Unknown command')
    // A reply is edited every five seconds at most.
    ahead += 6_000
    await stage.work(() => done('DROP-1 has a machine', 'DROP-1'))
    await stage.work(() => done('Made checkpoint before of DROP-1', 'DROP-1'))
    await reply(stage, 'DROP-1', 'DROP-1 has a machine', 'Made checkpoint before of DROP-1')
    expect(replies(stage, 'DROP-1')).toHaveLength(1)
    // Whoever watches the ticket is notified once.
    for (const { method, path } of writes()) if (method === 'PUT') expect(path).toContain('notifyUsers=false')
  })

  test.for<[string, string, Audience]>([
    ['of a group', 'DROP-2', { visibility: { type: 'group', value: 'platform' } }],
    [
      'that the customers of a service project do not see',
      'DROP-3',
      { properties: [{ key: 'sd.public.comment', value: { internal: true } }] },
    ],
  ])('a comment %s is answered to the same people, at once and later', async ([, ticket, to]) => {
    await stage.jira.write(ticket, '/swarm start', { by: ASSIGNEE, to })
    await reply(stage, ticket, '/swarm start')
    ahead += 6_000
    await stage.work(() => done(`${ticket} runs`, ticket))
    await reply(stage, ticket, `${ticket} runs`)
    expect(stage.jira.audiences(ticket)).toEqual([to, to])
  })

  test('where comments cannot be edited, by a second reply at the end', async () => {
    stage.jira.setEdits(false)
    const before = writes().length
    await stage.jira.write('DROP-4', '/swarm start', { by: ASSIGNEE })
    await reply(stage, 'DROP-4', '/swarm start')
    ahead += 6_000
    await stage.work(() => done('DROP-4 runs', 'DROP-4'))
    await reply(stage, 'DROP-4', 'DROP-4 runs', 'It took')
    stage.jira.setEdits(true)
    expect(replies(stage, 'DROP-4')).toHaveLength(2)
    const methods = writes()
      .slice(before)
      .map(({ method }) => method)
    expect(methods).toEqual(expect.arrayContaining(['POST', 'PUT', 'POST']))
  })

  test('by a second reply also when the command ends while an edit is on its way to be refused', async () => {
    const [editing, ended] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    stage.jira.setEdits(false, () => {
      editing.resolve()
      return ended.promise
    })
    await stage.jira.write('DROP-5', '/swarm start', { by: ASSIGNEE })
    await reply(stage, 'DROP-5', '/swarm start')
    ahead += 6_000
    // That it is under way now is news, which the bot tries to edit in.
    await stage.work(async () => {
      await editing.promise
      return done('DROP-5 runs', 'DROP-5')
    })
    ended.resolve()
    await reply(stage, 'DROP-5', 'DROP-5 runs', 'It took')
    await stage.published()
    stage.jira.setEdits(true)
    expect(replies(stage, 'DROP-5')).toHaveLength(2)
  })
})

describe('without a webhook', () => {
  let stage: Stage
  beforeAll(async () => {
    stage = await openStage({
      people: {},
      issues: tickets(5),
      settings: { ...settings, JIRA_WEBHOOK_SECRET: null },
      before: async (_github, jira) => {
        await jira.write('DROP-1', '/swarm create')
      },
    })
    const polls = () => stage.jira.requests.filter(({ path }) => path.includes('/search/jql')).length
    await until('a poll', () => polls() > 1)
  })
  afterAll(() => stage.close())

  test('a new comment is found, also by the account that writes for the bot; old ones are left alone', async () => {
    await stage.jira.write('DROP-2', '/swarm create', { by: LISTED })
    // The owner of the bot's token may command like anybody; the bot's own comments may not.
    await stage.jira.write('DROP-3', '/swarm create')
    await stage.jira.write('DROP-4', '/swarm create', { by: STRANGER })
    const count = async () => (await stage.states('DROP-2')).length + (await stage.states('DROP-3')).length
    await until('both', async () => (await count()) === 2)
    await stage.decided()
    expect([await stage.states('DROP-1'), await stage.states('DROP-4')]).toEqual([[], []])
    await reply(stage, 'DROP-3', '/swarm create')
  })

  test('one among many is found too', async () => {
    for (let n = 0; n < 120; n += 1) await stage.jira.write('DROP-5', `note ${n}`)
    await stage.jira.write('DROP-5', '/swarm status')
    await until('the request', async () => (await stage.states('DROP-5')).length === 1)
  })
})
