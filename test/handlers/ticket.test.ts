import { describe, expect, test } from 'vitest'
import type { Facts } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import type { EnvironmentStatus } from '../../src/schema/environment.ts'
import { environment, type Of, rules, said } from './fixtures.ts'

describe('ticket', () => {
  const event = (category: Of<'ticket'>['category'], more: Partial<Of<'ticket'>> = {}): Of<'ticket'> => ({
    kind: 'ticket',
    ticket: 'DROP-1',
    change: 'status',
    category,
    assignee: 'me',
    labels: [],
    by: 'me',
    at: null,
    ...more,
  })
  const facts = (category: Of<'ticket'>['category'] | null, more: Partial<Facts['ticket']> = {}): Facts['ticket'] => ({
    environment: null,
    now: category === null ? null : { category, assignee: 'me', labels: [] },
    endedSinceNew: false,
    hadPullRequest: false,
    closedSince: false,
    me: 'me',
    laterRequest: null,
    ...more,
  })
  const has = (status: EnvironmentStatus) => ({ environment: environment(status) })
  test.for<[string, Of<'ticket'>, Facts['ticket'], string]>([
    ['in progress', event('indeterminate'), facts('indeterminate'), 'create DROP-1'],
    ['in progress, stopped', event('indeterminate'), facts('indeterminate', has('stopped')), 'start DROP-1'],
    [
      'in progress, running',
      event('indeterminate'),
      facts('indeterminate', has('running')),
      'ignored: DROP-1 has its machine',
    ],
    [
      'in progress, and deleted by a person since',
      event('indeterminate'),
      facts('indeterminate', { laterRequest: { who: 'dev', kind: 'delete' } }),
      'ignored: dev asked for delete after that',
    ],
    [
      'in progress, and its pull request was closed since',
      event('indeterminate'),
      facts('indeterminate', { closedSince: true }),
      'create DROP-1, stop DROP-1',
    ],
    [
      'in progress, stopped when its pull request was closed since',
      event('indeterminate'),
      facts('indeterminate', { ...has('stopped'), closedSince: true }),
      'ignored: its pull request was closed after that',
    ],
    [
      'in progress, not to be read, and later news is known',
      event('indeterminate'),
      facts('indeterminate', { now: 'outdated' }),
      'ignored: later news of DROP-1 is known, and how it is now cannot be read',
    ],
    ['in progress, failed before', event('indeterminate'), facts('indeterminate', has('failed')), 'create DROP-1'],
    [
      'in review after the merge',
      event('indeterminate'),
      facts('indeterminate', { endedSinceNew: true }),
      'ignored: the last machine of DROP-1 was deleted or merged, and the ticket was not back in the backlog since',
    ],
    ['in progress, and moved back since', event('indeterminate'), facts('new'), 'ignored: DROP-1 has no environment'],
    [
      'in progress, and Jira does not answer',
      event('indeterminate'),
      facts('new', { now: 'unreadable' }),
      'create DROP-1',
    ],
    [
      'assigned to somebody else',
      event('indeterminate'),
      facts('indeterminate', { now: { category: 'indeterminate', assignee: 'other', labels: [] } }),
      'ignored: DROP-1 is assigned to somebody else',
    ],
    [
      'assigned to nobody',
      event('indeterminate'),
      facts('indeterminate', { now: { category: 'indeterminate', assignee: null, labels: [] } }),
      'ignored: DROP-1 is assigned to nobody',
    ],
    [
      'assigned to us while in progress',
      event('indeterminate', { change: 'assignee' }),
      facts('indeterminate'),
      'create DROP-1',
    ],
    [
      'assigned while in the backlog',
      event('new', { change: 'assignee' }),
      facts('new', has('running')),
      'ignored: DROP-1 was assigned, and is not in progress',
    ],
    [
      'another project',
      event('indeterminate', { ticket: 'OTHER-1' }),
      facts('indeterminate'),
      'ignored: OTHER is no project of ours',
    ],
    ['back to new', event('new'), facts('new', has('running')), 'stop DROP-1'],
    ['back to new, stopped', event('new'), facts('new', has('stopped')), 'ignored: DROP-1 is stopped already'],
    ['done, never a pull request', event('done'), facts('done', has('running')), 'delete DROP-1'],
    [
      'done, with a pull request',
      event('done'),
      facts('done', { ...has('running'), hadPullRequest: true }),
      'stop DROP-1',
    ],
    [
      'done, and Jira does not answer',
      event('done'),
      facts('done', { ...has('running'), now: 'unreadable' }),
      'stop DROP-1',
    ],
    ['done, and reopened since', event('done'), facts('indeterminate', has('stopped')), 'start DROP-1'],
    ['deleted in Jira', event('indeterminate', { change: 'deleted' }), facts(null, has('running')), 'delete DROP-1'],
    [
      'no category',
      event('undefined'),
      facts('undefined', has('running')),
      'ignored: the status of DROP-1 has no category',
    ],
  ])('%s', ([, given, known, expected]) => expect(said(handlers.ticket(given, known, rules))).toBe(expected))

  test('anybody, or those who are listed', () => {
    const theirs = facts('indeterminate', { now: { category: 'indeterminate', assignee: 'other', labels: [] } })
    expect(said(handlers.ticket(event('indeterminate'), theirs, { ...rules, assignees: 'any' }))).toBe('create DROP-1')
    expect(said(handlers.ticket(event('indeterminate'), theirs, { ...rules, assignees: ['other'] }))).toBe(
      'create DROP-1',
    )
    expect(said(handlers.ticket(event('indeterminate'), theirs, { ...rules, assignees: ['me'] }))).toMatch(
      /somebody else/,
    )
  })
})
