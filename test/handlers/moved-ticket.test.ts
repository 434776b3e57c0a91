import { expect, test } from 'vitest'
import type { Facts, MovedEvent, StatusCategory } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import { environment, rules, summarize, ticketEvent, ticketFacts } from './fixtures.ts'

const move = (from: string, ticket: string, statusChanged = false): MovedEvent => ({
  ...ticketEvent('indeterminate'),
  change: 'moved',
  from,
  ticket,
  statusChanged,
})
const known = (
  environments: Pick<Facts['ticket'], 'environment' | 'previous' | 'attempts'>,
  more: Partial<Facts['ticket']> = {},
) => ticketFacts('indeterminate', { ...environments, ...more })
const none = { environment: null, previous: null }
const old = { environment: null, previous: environment() }
const both = { environment: environment(), previous: environment() }
const attempts = { attempts: [{ ticket: 'DROP-1~1', status: 'running' }] } as const
const now = (category: StatusCategory) => ({ now: { category, assignee: 'me', labels: [] } })

test.for<[string, MovedEvent, Facts['ticket'], string]>([
  ['its machine goes along', move('DROP-1', 'WEB-7'), known(old), 'rename DROP-1 to WEB-7, move WEB-7 from DROP-1'],
  [
    'a stopped machine goes along and stays stopped',
    move('DROP-1', 'WEB-7'),
    known({ environment: null, previous: environment('stopped') }),
    'rename DROP-1 to WEB-7, move WEB-7 from DROP-1',
  ],
  ['without a machine, the old key becomes an alias', move('DROP-1', 'WEB-7'), known(none), 'rename DROP-1 to WEB-7'],
  [
    'the new key has a machine, the old key has none',
    move('DROP-1', 'WEB-7'),
    known({ environment: environment(), previous: null }),
    'rename DROP-1 to WEB-7',
  ],
  [
    'its attempts alone go along',
    move('DROP-1', 'WEB-7'),
    known({ ...none, ...attempts }),
    'rename DROP-1 to WEB-7, move WEB-7 from DROP-1',
  ],
  [
    'the move also changed the status to done, and its attempts end with it',
    move('DROP-1', 'WEB-7', true),
    known({ ...old, ...attempts }, { ...now('done'), hadPullRequest: true }),
    'rename DROP-1 to WEB-7, move WEB-7 from DROP-1, stop WEB-7, stop WEB-7~1',
  ],
  [
    'the new project is not served: attempts stop, too',
    move('DROP-1', 'OTHER-7'),
    known({ ...old, ...attempts }),
    'stop DROP-1, stop DROP-1~1, note on OTHER-7: project-not-served',
  ],
  [
    'the new project is not served, and only attempts are left',
    move('DROP-1', 'OTHER-7'),
    known({ ...none, ...attempts }),
    'stop DROP-1~1, note on OTHER-7: project-not-served',
  ],
  ['both keys have a machine', move('DROP-1', 'WEB-7'), known(both), 'stop DROP-1, note on WEB-7: two-machines'],
  [
    'both keys have a machine, and the old one is stopped',
    move('DROP-1', 'WEB-7'),
    known({ environment: environment(), previous: environment('stopped') }),
    'note on WEB-7: two-machines',
  ],
  [
    'the new project is not served',
    move('DROP-1', 'OTHER-7'),
    known(old),
    'stop DROP-1, note on OTHER-7: project-not-served',
  ],
  [
    'the new project is not served, and Jira cannot be read',
    move('DROP-1', 'OTHER-7'),
    known(old, { now: 'outdated' }),
    'stop DROP-1, note on OTHER-7: project-not-served',
  ],
  [
    'the new project is not served, and there is no machine',
    move('DROP-1', 'OTHER-7'),
    known(none),
    'ignored: OTHER is not served here, and DROP-1 has no machine',
  ],
  [
    'the new project is not served, and a person started the machine since',
    move('DROP-1', 'OTHER-7'),
    known(old, { laterRequest: { who: 'dev', kind: 'start' } }),
    'ignored: dev requested start after that',
  ],
  [
    'a person stopped the machine since: it goes along all the same',
    move('DROP-1', 'WEB-7', true),
    known(old, { laterRequest: { who: 'dev', kind: 'stop' } }),
    'rename DROP-1 to WEB-7, move WEB-7 from DROP-1',
  ],
  [
    'the move also changed the status to done',
    move('DROP-1', 'WEB-7', true),
    known(old, { ...now('done'), hadPullRequest: true }),
    'rename DROP-1 to WEB-7, move WEB-7 from DROP-1, stop WEB-7',
  ],
  [
    'the move also changed the status to in progress',
    move('DROP-1', 'WEB-7', true),
    known({ environment: null, previous: environment('stopped') }),
    'rename DROP-1 to WEB-7, move WEB-7 from DROP-1, start WEB-7',
  ],
  [
    'a merged ticket gets no new machine by a move',
    move('DROP-1', 'WEB-7', true),
    known(none, { endedSinceNew: true }),
    'rename DROP-1 to WEB-7',
  ],
  [
    'an issue in progress comes from a project that is not served',
    move('OTHER-1', 'WEB-7'),
    known(none),
    'rename OTHER-1 to WEB-7, create WEB-7',
  ],
])('a moved ticket: %s', ([, event, facts, expected]) =>
  expect(summarize(handlers.ticket(event, facts, rules))).toBe(expected),
)
