/** What belongs to an attempt, and what happens to it. */
import { describe, expect, test } from 'vitest'
import type { Facts, PullRequestNow, StatusCategory } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import { readCommand } from '../../handlers/slash-commands.ts'
import type { AgentReport } from '../../src/schema/environment.ts'
import {
  environment,
  pullRequestEvent,
  pullRequestFacts,
  pullRequestNow,
  pushEvent,
  pushFacts,
  rules,
  summarize,
  ticketEvent,
  ticketFacts,
} from './fixtures.ts'

const attempt = { environment: { ...environment(), ticket: 'DROP-1~2' } }
const branch = 'DROP-1-x-attempt-2'

test('a push to the branch of an attempt makes a checkpoint of that', () => {
  const event = pushEvent({ ref: `refs/heads/${branch}` })
  expect(summarize(handlers.push(event, pushFacts(attempt), rules))).toBe('checkpoint DROP-1~2 push-abcdef0')
  // The attempt is not there any more.
  expect(summarize(handlers.push(event, pushFacts(), rules))).toBe('checkpoint DROP-1 push-abcdef0')
})

describe('the pull request of an attempt', () => {
  const decide = (now: Partial<PullRequestNow>, more: Partial<Facts['pull-request']> = {}, change = rules) => {
    const facts = pullRequestFacts({ now: pullRequestNow({ branch, ...now }), ...attempt, ...more })
    return summarize(handlers['pull-request'](pullRequestEvent('closed', { branch }), facts, change))
  }
  const others = [{ repo: 'acme/shop', number: 2 }]
  test.for<[string, string, string]>([
    ['a merge promotes the attempt first, then deletes', decide({ state: 'merged' }), 'promote DROP-1, delete DROP-1'],
    ['rules without an end', decide({ state: 'merged' }, {}, { ...rules, merged: 'nothing' }), 'promote DROP-1'],
    ['a stop instead', decide({ state: 'merged' }, {}, { ...rules, merged: 'stop' }), 'promote DROP-1, stop DROP-1'],
    [
      'after a while',
      decide({ state: 'merged' }, {}, { ...rules, graceMinutes: 5 }),
      'later: DROP-1~2 will be promoted, and DROP-1 deleted, in 5 minutes, unless somebody starts it',
    ],
    ['it stays while another one of the ticket is open', decide({ state: 'merged' }, { others }), 'promote DROP-1'],
    [
      'it is promoted at once then',
      decide({ state: 'merged' }, { others }, { ...rules, graceMinutes: 5 }),
      'promote DROP-1',
    ],
    ['a close stops the attempt alone', decide({ state: 'closed' }, { others }), 'stop DROP-1~2'],
    [
      'without its attempt, it is one of the ticket',
      decide({ state: 'merged' }, { environment: environment() }),
      'delete DROP-1',
    ],
  ])('%s', ([, decision, expected]) => expect(decision).toBe(expected))
})

test('what follows the promote is for the promoted machine alone', () => {
  const facts = pullRequestFacts({ now: pullRequestNow({ branch, state: 'merged' }), ...attempt })
  for (const merged of ['delete', 'stop'] as const)
    expect(handlers['pull-request'](pullRequestEvent('closed', { branch }), facts, { ...rules, merged })).toMatchObject(
      {
        actions: [
          { kind: 'promote', attempt: 2 },
          { kind: merged, ticket: 'DROP-1', promoted: 2 },
        ],
      },
    )
})

const attempts = [
  { ticket: 'DROP-1~1', status: 'running' },
  { ticket: 'DROP-1~2', status: 'stopped' },
] as const

test('a merge of the ticket’s own pull request deletes its attempts, too', () => {
  const facts = pullRequestFacts({ now: pullRequestNow({ state: 'merged' }), attempts })
  expect(summarize(handlers['pull-request'](pullRequestEvent('closed'), facts, rules))).toBe(
    'delete DROP-1, delete DROP-1~1, delete DROP-1~2',
  )
})

test('the end of an agent in an attempt names the attempt', () => {
  const run = { run: 'r1' } as AgentReport
  expect(handlers['agent-ended']({ kind: 'agent-ended', ticket: 'DROP-1~2', run }, {}, rules)).toMatchObject({
    announcements: [{ kind: 'agent-ended', ticket: 'DROP-1~2' }],
  })
})

describe('the attempts of a ticket end with it', () => {
  const ended = (state: PullRequestNow['state'], more: Partial<Facts['pull-request']> = {}, change = rules) => {
    const facts = pullRequestFacts({ now: pullRequestNow({ state }), attempts, ...more })
    return summarize(handlers['pull-request'](pullRequestEvent('closed'), facts, change))
  }
  const moved = (category: StatusCategory | null, more: Partial<Facts['ticket']> = {}) => {
    const event = category === null ? ticketEvent('done', { change: 'deleted' }) : ticketEvent(category)
    return summarize(handlers.ticket(event, ticketFacts(category, { attempts, ...more }), rules))
  }
  const own = { environment: environment() }
  const none = { environment: null }
  const others = [{ repo: 'acme/shop', number: 2 }]
  test.for<[string, string, string]>([
    ['back to new', moved('new', own), 'stop DROP-1, stop DROP-1~1'],
    ['back to new, without a machine of its own', moved('new'), 'stop DROP-1~1'],
    ['done', moved('done', own), 'delete DROP-1, delete DROP-1~1, delete DROP-1~2'],
    ['done, with a pull request', moved('done', { ...own, hadPullRequest: true }), 'stop DROP-1, stop DROP-1~1'],
    ['done, without a machine of its own', moved('done'), 'delete DROP-1~1, delete DROP-1~2'],
    ['deleted in Jira', moved(null, own), 'delete DROP-1, delete DROP-1~1, delete DROP-1~2'],
    ['closed', ended('closed'), 'stop DROP-1, stop DROP-1~1'],
    [
      'closed while the pull request of an attempt is open',
      ended('closed', { others }),
      'ignored: DROP-1 has another open pull request, acme/shop#2',
    ],
    ['closed, without a machine of its own', ended('closed', none), 'stop DROP-1~1'],
    ['merged, without a machine of its own', ended('merged', none), 'delete DROP-1~1, delete DROP-1~2'],
    ['neither', ended('merged', { ...none, attempts: [] }), 'ignored: DROP-1 has no machine'],
    [
      'in progress starts the ticket’s machine alone',
      moved('indeterminate', { environment: environment('stopped') }),
      'start DROP-1',
    ],
  ])('%s', ([, decision, expected]) => expect(decision).toBe(expected))

  test('a closed attempt is deleted alone where a close deletes', () => {
    const now = pullRequestNow({ branch, state: 'closed' })
    const facts = pullRequestFacts({ now, ...attempt, attempts })
    const decision = handlers['pull-request'](pullRequestEvent('closed', { branch }), facts, {
      ...rules,
      closed: 'delete',
    })
    expect(summarize(decision)).toBe('delete DROP-1~2')
  })
})

const by = { via: 'github', who: 'dev' } as const
const replyTo = { repo: 'acme/shop', number: 1, commentId: 9, line: 0 }
const meaningOf = (line: string, ticket = 'DROP-1') => {
  const command = readCommand(line.split(' '), 'github')
  return 'meaning' in command ? command.meaning({ ticket, by, replyTo }) : command
}
test.for<[string, object]>([
  ['fork', { count: 1, from: null }],
  ['fork 3', { count: 3, from: null }],
  ['fork from Before', { count: 1, from: 'before' }],
  ['fork 9 FROM before', { count: 9, from: 'before' }],
])('/swarm %s', ([line, expected]) =>
  expect(meaningOf(line)).toEqual({ action: { kind: 'fork', ticket: 'DROP-1', by, replyTo, ...expected } }),
)
test.for(['fork 0', 'fork 10', 'fork x', 'fork 3 before', 'fork from', 'fork 3 from', 'fork 3 from a b'])(
  '/swarm %s is answered with how it is used',
  line => expect(meaningOf(line)).toMatchObject({ answer: expect.stringContaining('Usage: `/swarm fork') }),
)
test.for<[string, string, number]>([
  ['promote 2', 'DROP-1', 2],
  ['promote 2', 'DROP-1~3', 2],
  ['promote', 'DROP-1~3', 3],
])('/swarm %s on %s', ([line, ticket, expected]) =>
  expect(meaningOf(line, ticket)).toEqual({
    action: { kind: 'promote', ticket: 'DROP-1', attempt: expected, by, replyTo },
  }),
)
test.for(['promote', 'promote 0', 'promote 100', 'promote ~2', 'promote %7E2'])('/swarm %s promotes nothing', line =>
  expect(meaningOf(line)).toMatchObject({ answer: expect.stringContaining('Usage: `/swarm promote <number>`') }),
)
