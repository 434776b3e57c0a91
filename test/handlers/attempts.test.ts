/** What belongs to an attempt, and what happens to it. */
import { describe, expect, test } from 'vitest'
import type { Facts, PullRequestNow } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import { readCommand } from '../../handlers/slash-commands.ts'
import {
  environment,
  pullRequestEvent,
  pullRequestFacts,
  pullRequestNow,
  pushEvent,
  pushFacts,
  rules,
  summarize,
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
    [
      'not while another one of the ticket is open',
      decide({ state: 'merged' }, { others }),
      'ignored: DROP-1~2 has another open pull request, acme/shop#2',
    ],
    ['a close stops the attempt alone', decide({ state: 'closed' }, { others }), 'stop DROP-1~2'],
    [
      'without its attempt, it is one of the ticket',
      decide({ state: 'merged' }, { environment: environment() }),
      'delete DROP-1',
    ],
  ])('%s', ([, decision, expected]) => expect(decision).toBe(expected))
})

test('a merge of the ticket’s own pull request deletes its attempts, too', () => {
  const facts = pullRequestFacts({ now: pullRequestNow({ state: 'merged' }), attempts: ['DROP-1~1', 'DROP-1~2'] })
  expect(summarize(handlers['pull-request'](pullRequestEvent('closed'), facts, rules))).toBe(
    'delete DROP-1, delete DROP-1~1, delete DROP-1~2',
  )
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
