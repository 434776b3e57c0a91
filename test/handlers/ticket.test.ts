import { expect, test } from 'vitest'
import type { Facts, Rules } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import type { EnvironmentStatus } from '../../src/schema/environment.ts'
import { type EventOf, environment, rules, summarize, ticketEvent, ticketFacts } from './fixtures.ts'

const has = (status: EnvironmentStatus) => ({ environment: environment(status) })
const assigned = (assignee: string | null) => ({ now: { category: 'indeterminate', assignee, labels: [] } }) as const
const moved = ticketEvent('indeterminate')

test.for<[string, EventOf<'ticket'>, Facts['ticket'], string]>([
  ['in progress', moved, ticketFacts('indeterminate'), 'create DROP-1'],
  ['in progress, stopped', moved, ticketFacts('indeterminate', has('stopped')), 'start DROP-1'],
  [
    'in progress, running',
    moved,
    ticketFacts('indeterminate', has('running')),
    'ignored: DROP-1 already has a machine',
  ],
  [
    'in progress, and deleted by a person since',
    moved,
    ticketFacts('indeterminate', { laterRequest: { who: 'dev', kind: 'delete' } }),
    'ignored: dev requested delete after that',
  ],
  [
    'in progress, and its pull request was closed since',
    moved,
    ticketFacts('indeterminate', { closedSince: true }),
    'create DROP-1, stop DROP-1',
  ],
  [
    'in progress, stopped when its pull request was closed since',
    moved,
    ticketFacts('indeterminate', { ...has('stopped'), closedSince: true }),
    'ignored: its pull request was closed after that',
  ],
  [
    'in progress, while Jira cannot be read and a newer state is known',
    moved,
    ticketFacts('indeterminate', { now: 'outdated' }),
    'ignored: a newer state of DROP-1 is known, and Jira cannot be read now',
  ],
  ['in progress, failed before', moved, ticketFacts('indeterminate', has('failed')), 'create DROP-1'],
  [
    'in review after the merge',
    moved,
    ticketFacts('indeterminate', { endedSinceNew: true }),
    'ignored: the last machine of DROP-1 was deleted, or its pull request merged, and the ticket was not back in the backlog since',
  ],
  ['in progress, and moved back since', moved, ticketFacts('new'), 'ignored: DROP-1 has no machine'],
  ['in progress, while Jira cannot be read', moved, ticketFacts('new', { now: 'unreadable' }), 'create DROP-1'],
  [
    'assigned to somebody else',
    moved,
    ticketFacts('indeterminate', assigned('other')),
    'ignored: DROP-1 is assigned to somebody else',
  ],
  ['assigned to nobody', moved, ticketFacts('indeterminate', assigned(null)), 'ignored: DROP-1 is assigned to nobody'],
  [
    'assigned to us while in progress',
    ticketEvent('indeterminate', { change: 'assignee' }),
    ticketFacts('indeterminate'),
    'create DROP-1',
  ],
  [
    'assigned while in the backlog',
    ticketEvent('new', { change: 'assignee' }),
    ticketFacts('new', has('running')),
    'ignored: DROP-1 was assigned while not in progress',
  ],
  [
    'assigned, while Jira cannot be read and a newer state is known',
    ticketEvent('indeterminate', { change: 'assignee' }),
    ticketFacts('indeterminate', { now: 'outdated' }),
    'ignored: DROP-1 was assigned while not in progress',
  ],
  [
    'another project',
    ticketEvent('indeterminate', { ticket: 'OTHER-1' }),
    ticketFacts('indeterminate'),
    'ignored: OTHER is not served here',
  ],
  ['back to new', ticketEvent('new'), ticketFacts('new', has('running')), 'stop DROP-1'],
  [
    'back to new, stopped',
    ticketEvent('new'),
    ticketFacts('new', has('stopped')),
    'ignored: DROP-1 is already stopped',
  ],
  ['done, never a pull request', ticketEvent('done'), ticketFacts('done', has('running')), 'delete DROP-1'],
  [
    'done, with a pull request',
    ticketEvent('done'),
    ticketFacts('done', { ...has('running'), hadPullRequest: true }),
    'stop DROP-1',
  ],
  [
    'done, while Jira cannot be read',
    ticketEvent('done'),
    ticketFacts('done', { ...has('running'), now: 'unreadable' }),
    'stop DROP-1',
  ],
  ['done, and reopened since', ticketEvent('done'), ticketFacts('indeterminate', has('stopped')), 'start DROP-1'],
  [
    'deleted in Jira',
    ticketEvent('indeterminate', { change: 'deleted' }),
    ticketFacts(null, has('running')),
    'delete DROP-1',
  ],
  [
    'no category',
    ticketEvent('undefined'),
    ticketFacts('undefined', has('running')),
    'ignored: the status of DROP-1 has no category',
  ],
])('ticket: %s', ([, event, facts, expected]) => expect(summarize(handlers.ticket(event, facts, rules))).toBe(expected))

test.for<[Rules['assignees'], string]>([
  ['any', 'create DROP-1'],
  [['other'], 'create DROP-1'],
  [['me'], 'ignored: DROP-1 is assigned to somebody else'],
])('a ticket of "other", with JIRA_ASSIGNEES %j', ([assignees, expected]) =>
  expect(
    summarize(handlers.ticket(moved, ticketFacts('indeterminate', assigned('other')), { ...rules, assignees })),
  ).toBe(expected),
)

test.for<['indeterminate' | 'done', string[], Partial<Rules>, string]>([
  ['indeterminate', [], { labels: ['agent'] }, 'ignored: DROP-1 has none of the labels agent'],
  ['indeterminate', ['Agent', 'x'], { labels: ['agent', 'swarm'] }, 'create DROP-1'],
  ['done', [], {}, 'stop DROP-1'],
  ['done', [], { done: 'delete' }, 'delete DROP-1'],
  ['done', [], { done: 'stop' }, 'stop DROP-1'],
  ['done', [], { done: 'nothing' }, 'ignored: DROP-1 is done; the rules require no action'],
])('a ticket in %s, with labels %j, under the rules %j', ([category, labels, more, expected]) => {
  const facts = ticketFacts(category, {
    environment: category === 'done' ? environment() : null,
    now: { category, assignee: 'me', labels },
    hadPullRequest: true,
  })
  expect(summarize(handlers.ticket(ticketEvent(category), facts, { ...rules, ...more }))).toBe(expected)
})

test('a new machine has what the rules say', () => {
  const machine = { cpus: 4, baseImage: 'big' }
  expect(
    handlers.ticket(moved, ticketFacts('indeterminate', { now: 'unreadable' }), { ...rules, machine }),
  ).toMatchObject({ actions: [{ kind: 'create', machine }] })
})

const told = (event: EventOf<'ticket'>, facts: Facts['ticket'], more: Partial<Rules> = {}) => {
  const decision = handlers.ticket(event, facts, { ...rules, ...more })
  return decision.verdict === 'ignored' ? decision.noMachine : decision.verdict
}
const mine = ticketFacts('indeterminate', { from: 'new' })
const other = { via: 'jira', who: 'other' } as const

test.for<[string, EventOf<'ticket'>, Facts['ticket'], ReturnType<typeof told>, Partial<Rules>?]>([
  ['its machine was deleted', moved, { ...mine, endedSinceNew: true }, { tell: 'ended' }],
  ['nobody is assigned', moved, { ...mine, ...assigned(null) }, { tell: 'assigned-to-nobody' }],
  ['somebody else is assigned', moved, { ...mine, ...assigned('other') }, { tell: 'assigned-to-other' }],
  [
    'the rules narrow whose tickets get machines',
    moved,
    mine,
    { tell: 'assignee-not-in-rules' },
    { assignees: ['other'] },
  ],
  ['the rules leave its project out', moved, mine, { tell: 'not-served' }, { projects: ['WEB'] }],
  [
    'a person deleted it after the move',
    moved,
    { ...mine, laterRequest: { who: 'dev', kind: 'delete' } },
    { tell: 'deleted-later' },
  ],
  [
    'its pull request was closed after the move, and the rules delete then',
    moved,
    { ...mine, closedSince: true },
    { tell: 'closed-later' },
    { closed: 'delete' },
  ],
  ['it comes from done', moved, { ...mine, from: 'done', endedSinceNew: true }, { tell: 'ended' }],
  ['it has no label that opts in', moved, mine, { tell: null }, { labels: ['agent'] }],
  [
    "it is another person's ticket, moved by another person",
    ticketEvent('indeterminate', { by: other }),
    { ...mine, ...assigned('other'), isOurs: false },
    { tell: null },
  ],
  ['it was in progress before', moved, { ...mine, from: 'indeterminate', endedSinceNew: true }, { tell: null }],
  [
    'it was assigned while in progress',
    ticketEvent('indeterminate', { change: 'assignee' }),
    { ...mine, from: null, endedSinceNew: true },
    { tell: 'ended' },
  ],
  ['it has its machine', moved, { ...mine, ...has('running') }, undefined],
  ['it left progress meanwhile', moved, ticketFacts('new', { from: 'new' }), undefined],
])('a move into progress without a machine: %s', ([, event, facts, expected, more]) =>
  expect(told(event, facts, more)).toEqual(expected),
)

test.for<[Rules['assignees'], Rules['onlyAssignees'], string | null, boolean]>([
  ['any', 'any', null, true],
  ['any', 'me', 'me', true],
  ['any', 'me', 'x', false],
  ['any', ['x'], 'x', true],
  ['any', ['x'], 'me', false],
  ['me', 'any', 'me', true],
  ['me', 'any', 'x', false],
  ['me', ['x'], 'x', false],
  ['me', ['x', 'me'], 'me', true],
  [['x'], 'any', 'y', false],
  [['x'], 'me', 'x', false],
  [['x'], ['x', 'y'], 'x', true],
  [['x'], ['x', 'y'], 'y', false],
])(
  'the operator allows %j, the repository %j: the ticket of %j gets a machine: %j',
  ([assignees, onlyAssignees, assignee, gets]) => {
    const facts = ticketFacts('indeterminate', { now: { category: 'indeterminate', assignee, labels: [] } })
    const decision = handlers.ticket(ticketEvent('indeterminate', { assignee }), facts, {
      ...rules,
      assignees,
      onlyAssignees,
    })
    expect(summarize(decision) === 'create DROP-1').toBe(gets)
  },
)
