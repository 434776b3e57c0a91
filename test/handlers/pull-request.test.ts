import { expect, test } from 'vitest'
import type { Facts, PullRequestNow, Rules } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import {
  type EventOf,
  environment,
  pullRequestEvent,
  pullRequestFacts,
  pullRequestNow,
  rules,
  summarize,
} from './fixtures.ts'

const opened = pullRequestEvent('opened')
const reopened = pullRequestEvent('reopened')
const closed = pullRequestEvent('closed')
const stopped = { environment: environment('stopped') }
const stoppedByClose = { ...stopped, stoppedByClose: true }
const facts = (now: Partial<PullRequestNow>, more: Partial<Facts['pull-request']> = {}) =>
  pullRequestFacts({ now: pullRequestNow(now), ...more })
const others = [{ repo: 'acme/shop', number: 2 }]

test.for<[string, EventOf<'pull-request'>, Facts['pull-request'], string]>([
  ['opened', opened, facts({}), 'ignored: linked to DROP-1; nothing to do'],
  ['reopened after a close stopped the machine', reopened, facts({}, stoppedByClose), 'start DROP-1'],
  ['opened in place of one whose close stopped it', opened, facts({}, stoppedByClose), 'start DROP-1'],
  [
    'ready for review in place of one whose close stopped it',
    pullRequestEvent('ready_for_review'),
    facts({}, stoppedByClose),
    'start DROP-1',
  ],
  [
    'edited while the machine is stopped',
    pullRequestEvent('edited'),
    facts({}, stoppedByClose),
    'ignored: linked to DROP-1; nothing to do',
  ],
  [
    'reopened while the machine is stopped for another reason',
    reopened,
    facts({}, stopped),
    'ignored: linked to DROP-1; nothing to do',
  ],
  [
    'reopened, and closed since, which was decided',
    reopened,
    facts({ state: 'closed' }, { ...stopped, stateDecided: true }),
    'ignored: linked to DROP-1; nothing to do',
  ],
  ['opened, and closed since, which no event reported', opened, facts({ state: 'closed' }), 'stop DROP-1'],
  ['merged', closed, facts({ state: 'merged' }), 'delete DROP-1'],
  [
    'merged while another one is open',
    closed,
    facts({ state: 'merged' }, { others }),
    'ignored: DROP-1 has another open pull request, acme/shop#2',
  ],
  [
    'merged before the ticket was moved in progress again',
    closed,
    facts({ state: 'merged' }, { ticketRestarted: true }),
    'ignored: DROP-1 was moved in progress after that',
  ],
  ['closed unmerged', closed, facts({ state: 'closed' }), 'stop DROP-1'],
  [
    'closed unmerged while another one is open',
    closed,
    facts({ state: 'closed' }, { others }),
    'ignored: DROP-1 has another open pull request, acme/shop#2',
  ],
  [
    'merged before somebody created the machine',
    closed,
    facts({ state: 'merged' }, { laterRequest: { who: 'dev', kind: 'create' } }),
    'ignored: dev requested create after that',
  ],
  [
    'reopened before somebody stopped the machine',
    reopened,
    facts({}, { ...stoppedByClose, laterRequest: { who: 'dev', kind: 'stop' } }),
    'ignored: dev requested stop after that',
  ],
  ['closed, and open again since', closed, facts({}), 'ignored: the pull request is open again'],
  ['closed, and gone', closed, pullRequestFacts({ now: null }), 'ignored: the pull request does not exist any more'],
  [
    'closed while the machine is stopped',
    closed,
    facts({ state: 'closed' }, stopped),
    'ignored: DROP-1 is already stopped',
  ],
  [
    'merged without a machine',
    closed,
    facts({ state: 'merged' }, { environment: null }),
    'ignored: DROP-1 has no machine',
  ],
  [
    'merged, from a fork',
    pullRequestEvent('closed', { fromFork: true }),
    facts({ state: 'merged', fromFork: true }),
    'ignored: pull requests from forks have no effect',
  ],
  [
    'merged, from a fork, which the event did not say',
    closed,
    facts({ state: 'merged', fromFork: true }),
    'ignored: pull requests from forks have no effect',
  ],
  [
    'the ticket in the title only',
    pullRequestEvent('closed', { branch: 'x' }),
    facts({ state: 'merged', branch: 'x', title: 'WEB-7: y' }),
    'delete WEB-7',
  ],
  [
    'no ticket',
    pullRequestEvent('closed', { branch: 'x' }),
    facts({ state: 'merged', branch: 'x' }),
    'ignored: no ticket in the branch or the title',
  ],
])('pull request: %s', ([, event, given, expected]) =>
  expect(summarize(handlers['pull-request'](event, given, rules))).toBe(expected),
)

const end = (state: 'closed' | 'merged', more: Partial<Rules>, event = closed) =>
  handlers['pull-request'](event, facts({ state }), { ...rules, ...more })

test.for<['closed' | 'merged', Partial<Rules>, string]>([
  ['closed', { closed: 'delete' }, 'delete DROP-1'],
  ['closed', { closed: 'nothing' }, 'ignored: the pull request is closed; the rules require no action'],
  ['closed', { closed: 'delete', graceMinutes: 30 }, 'delete DROP-1'],
  ['merged', { merged: 'stop' }, 'stop DROP-1'],
  ['merged', { merged: 'nothing' }, 'ignored: the pull request is merged; the rules require no action'],
  ['merged', { graceMinutes: 1 }, 'later: DROP-1 will be deleted in 1 minute, unless somebody starts it'],
  ['merged', { graceMinutes: 30 }, 'later: DROP-1 will be deleted in 30 minutes, unless somebody starts it'],
])('%s, under the rules %j', ([state, more, expected]) => expect(summarize(end(state, more))).toBe(expected))

test('after the minutes of grace, the merge is decided again by what is true then', () => {
  const later = end('merged', { graceMinutes: 30 })
  if (later.verdict !== 'later') throw new Error('not later')
  expect(later).toMatchObject({ minutes: 30, ticket: 'DROP-1' })
  const event = later.event as EventOf<'pull-request'>
  expect(summarize(end('merged', { graceMinutes: 30 }, event))).toBe('delete DROP-1')
  expect(summarize(end('merged', { graceMinutes: 30, merged: 'stop' }, event))).toBe('stop DROP-1')
})
