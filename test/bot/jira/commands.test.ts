/** Commands in comments on a ticket, from Jira to the queue and back. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Audience } from '../../../src/bot/jira/answers.ts'
import type { Outcome } from '../../../src/schema/outcome.ts'
import { until } from '../../support/wait.ts'
import { environmentOf, openStage, type Stage } from '../stage.ts'

const [ASSIGNEE, LISTED, STRANGER] = ['557058:assignee', '557058:listed', '557058:stranger']
const issues = Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`DROP-${n + 1}`, 'a ticket']))
const settings = { JIRA_COMMANDERS: LISTED }

const answers = (stage: Stage, ticket: string) =>
  stage.jira.comments(ticket).filter(one => one.startsWith('Answer to comment'))
const said = (stage: Stage, ticket: string, ...parts: string[]) =>
  until(
    `an answer with ${parts.join(' and ')}`,
    () => answers(stage, ticket).find(one => parts.every(part => one.includes(part))),
    { within: 15_000 },
  )
const done = (said: string, ticket: string): Outcome => ({
  result: 'done',
  summary,
  environment: environmentOf(ticket),
  seconds: 1.5,
})

describe('with a webhook', () => {
  let stage: Stage
  let ahead = 0
  beforeAll(async () => {
    stage = await openStage({ people: {}, issues, settings, clock: () => Date.now() + ahead })
    await stage.heartbeat([])
    for (const ticket of Object.keys(issues)) await stage.jira.assign(ticket, ASSIGNEE)
    await stage.decided()
  })
  afterAll(() => stage.close())
  const writes = () => stage.jira.asked.filter(one => one.method !== 'GET')
  const leaveOnly = (ticket: string) =>
    stage.queue.list({ state: 'pending' }).forEach(({ id, action }) => {
      if (action.ticket !== ticket) stage.queue.cancel(id)
    })

  test('the assignee commands: heard at once, done in their order, one answer that is edited', async () => {
    const id = await stage.jira.write('DROP-1', 'Please\n/swarm create\n/swarm checkpoint before\n/swarm fly', {
      by: ASSIGNEE,
    })
    await said(stage, 'DROP-1', `Answer to comment ${id}:`, '/swarm create', 'Heard. ', 'There is no command')
    // A comment is edited every five seconds at most.
    ahead += 6_000
    expect(stage.actionsOf('DROP-1').map(one => one.action)).toMatchObject([
      { kind: 'create', by: { via: 'jira', who: ASSIGNEE }, replyTo: { ticket: 'DROP-1', commentId: id, line: 0 } },
      { kind: 'checkpoint', name: 'before' },
    ])
    await stage.work(() => done('DROP-1 has a machine', 'DROP-1'))
    await stage.work(() => done('checkpoint before of DROP-1 is made', 'DROP-1'))
    await said(stage, 'DROP-1', 'DROP-1 has a machine', 'checkpoint before of DROP-1 is made')
    expect(answers(stage, 'DROP-1')).toHaveLength(1)
    // Whoever watches the ticket is told once.
    for (const { method, path } of writes()) if (method === 'PUT') expect(path).toContain('notifyUsers=false')
  }, 30_000)

  test('a webhook that comes twice, and again with another name, asks once', async () => {
    const id = await stage.jira.write('DROP-2', '/swarm stop', { by: ASSIGNEE })
    await stage.decided()
    await stage.jira.deliver(stage.jira.commentPayloadOf('DROP-2', id))
    await stage.decided()
    expect(stage.told('DROP-2')).toEqual(['stop pending'])
  })

  test('an account that is listed commands on every ticket', async () => {
    await stage.jira.write('DROP-3', '/swarm ssh', { by: LISTED })
    await stage.decided()
    expect(stage.actionsOf('DROP-3').map(one => one.action)).toMatchObject([{ kind: 'status', about: 'ssh' }])
  })

  test('who is no longer the assignee commands no more', async () => {
    await stage.jira.assign('DROP-4', STRANGER)
    await stage.jira.write('DROP-4', '/swarm delete --force', { by: ASSIGNEE })
    await stage.decided()
    expect(stage.told('DROP-4')).toEqual([])
  })

  test('the document decides, and not the text that was made of it: a code block that holds its own end', async () => {
    const block = { type: 'codeBlock', content: [{ type: 'text', text: '{code}\n/swarm delete --force\n{code}' }] }
    await stage.jira.write(
      'DROP-5',
      { type: 'doc', version: 1, content: [block] },
      { by: ASSIGNEE, wiki: '{code}\n{code}\n/swarm delete --force\n{code}\n{code}' },
    )
    await stage.decided()
    expect(stage.told('DROP-5')).toEqual([])
  })

  test('what was deleted before it was read is not done, nor is what was edited, before or after', async () => {
    const before = writes().length
    const id = await stage.jira.write('DROP-6', '/swarm create', { by: ASSIGNEE, send: false })
    const payload = stage.jira.commentPayloadOf('DROP-6', id)
    stage.jira.remove('DROP-6', id)
    await stage.jira.deliver(payload)
    await stage.jira.write('DROP-6', '/swarm create', { by: ASSIGNEE, edited: true })
    const talk = await stage.jira.write('DROP-6', 'hello', { by: ASSIGNEE })
    await stage.jira.rewrite('DROP-6', talk, '/swarm create')
    await stage.decided()
    expect(stage.told('DROP-6')).toEqual([])
    expect(writes().length).toBe(before)
  })

  test('talk costs no request', async () => {
    const before = stage.jira.asked.length
    for (const talk of ['hello', 'see /swarm create', '{code}\n/swarm create\n{code}', '> /swarm create'])
      await stage.jira.write('DROP-7', talk, { by: ASSIGNEE })
    await stage.decided()
    expect(stage.jira.asked.length).toBe(before)
  })

  test('while Jira cannot be asked, a command waits', async () => {
    stage.jira.setDown(true)
    await stage.jira.write('DROP-8', '/swarm start', { by: ASSIGNEE })
    await until('a try that failed', () => stage.postponed().length > 0)
    expect(stage.told('DROP-8')).toEqual([])
    stage.jira.setDown(false)
    await stage.decided()
    expect(stage.told('DROP-8')).toEqual(['start pending'])
  })

  test.for<[string, string, Audience]>([
    ['of a group', 'DROP-10', { visibility: { type: 'group', value: 'platform' } }],
    [
      'that the customers of a service project do not see',
      'DROP-11',
      { properties: [{ key: 'sd.public.comment', value: { internal: true } }] },
    ],
  ])('a comment %s is answered to those alone, at once and when the work is done', async ([, ticket, to]) => {
    await stage.jira.write(ticket, '/swarm start', { by: ASSIGNEE, to })
    await said(stage, ticket, 'Heard. ')
    ahead += 6_000
    leaveOnly(ticket)
    await stage.work(() => done(`${ticket} runs`, ticket))
    await said(stage, ticket, `${ticket} runs`)
    expect(stage.jira.audiences(ticket)).toEqual([to, to])
  })

  test('where a comment may not be edited, the end is told by another', async () => {
    stage.jira.setEdits(false)
    const before = writes().length
    await stage.jira.write('DROP-9', '/swarm start', { by: ASSIGNEE })
    await said(stage, 'DROP-9', 'Heard. ')
    ahead += 6_000
    leaveOnly('DROP-9')
    await stage.work(() => done('DROP-9 runs', 'DROP-9'))
    await said(stage, 'DROP-9', 'DROP-9 runs', 'It took')
    stage.jira.setEdits(true)
    expect(answers(stage, 'DROP-9')).toHaveLength(2)
    expect(
      writes()
        .slice(before)
        .map(one => one.method),
    ).toEqual(expect.arrayContaining(['POST', 'PUT', 'POST']))
  }, 30_000)
})

describe('without a webhook', () => {
  let stage: Stage
  beforeAll(async () => {
    stage = await openStage({
      people: {},
      issues,
      settings: { ...settings, JIRA_WEBHOOK_SECRET: null },
      before: async (_github, jira) => {
        await jira.write('DROP-1', '/swarm create')
      },
    })
    await until('a look', () => stage.jira.asked.filter(one => one.path.includes('/search/jql')).length > 1)
  })
  afterAll(() => stage.close())

  test('a new comment is found, whose account it is that writes for the bot or not; old ones are left alone', async () => {
    await stage.jira.write('DROP-2', '/swarm create', { by: LISTED })
    // Whose token the bot has may command as anybody; the bot's own comments may not.
    await stage.jira.write('DROP-3', '/swarm create')
    await stage.jira.write('DROP-4', '/swarm create', { by: STRANGER })
    await until('both', () => stage.told('DROP-2').length + stage.told('DROP-3').length === 2, { within: 15_000 })
    await stage.decided()
    expect([stage.told('DROP-1'), stage.told('DROP-4')]).toEqual([[], []])
    await said(stage, 'DROP-3', 'Heard. ')
  }, 30_000)

  test('one among many is found too', async () => {
    for (let n = 0; n < 120; n += 1) await stage.jira.write('DROP-5', `note ${n}`)
    await stage.jira.write('DROP-5', '/swarm status')
    await until('the question', () => stage.told('DROP-5').length === 1, { within: 15_000 })
  }, 30_000)
})
