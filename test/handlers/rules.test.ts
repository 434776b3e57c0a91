import { describe, expect, test } from 'vitest'
import type { Rules } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import { environment, now, type Of, rules, said } from './fixtures.ts'

describe("the repository's own rules", () => {
  const push: Of<'push'> = {
    kind: 'push',
    repo: 'acme/shop',
    ref: 'refs/heads/feature/DROP-1',
    after: 'abcdef0123'.repeat(4),
    deleted: false,
    pusher: 'dev',
  }
  const closed: Of<'pull-request'> = {
    kind: 'pull-request',
    change: 'closed',
    pullRequest: { repo: 'acme/shop', number: 1 },
    branch: 'DROP-1-x',
    title: '',
    body: '',
    fromFork: false,
    sender: 'dev',
    at: null,
  }
  const ended = (state: 'closed' | 'merged', more: Partial<Rules>, event = closed) =>
    handlers['pull-request'](
      event,
      {
        environment: environment(),
        now: now({ state }),
        stateDecided: false,
        others: [],
        ticketRestarted: false,
        laterRequest: null,
      },
      { ...rules, ...more },
    )

  test.for<[string, string, string[], boolean]>([
    ['no pattern', 'anything', [], true],
    ['the same', 'main', ['main'], true],
    ['another', 'main2', ['main'], false],
    ['a star at the end', 'feature/DROP-1', ['feature/*'], true],
    ['a star in the middle', 'feature/DROP-1-x', ['feature/*-x'], true],
    ['a star that reaches too little', 'feature/DROP-1-y', ['feature/*-x'], false],
    ['nothing for the star', 'feature/', ['feature/*'], true],
    ['one of several', 'fix/DROP-1', ['feature/*', 'fix/*'], true],
    ['what regular expressions read otherwise', 'a.c', ['a?c', '(a.c)+', '[a].c'], false],
    ['stars without end, against a text that nearly fits', `${'a'.repeat(250)}b`, ['*a'.repeat(50)], false],
  ])('branches: %s', ([, branch, branches, counts]) => {
    expect(
      said(
        handlers.push(
          { ...push, ref: `refs/heads/${branch}` },
          { environment: environment(), live: true },
          { ...rules, branches },
        ),
      ).includes('does not count'),
    ).toBe(!counts && /drop-\d/i.test(branch))
    expect(
      said(
        handlers['pull-request'](
          closed,
          {
            environment: environment(),
            now: now({ branch, title: 'DROP-1', state: 'closed' }),
            stateDecided: false,
            others: [],
            ticketRestarted: false,
            laterRequest: null,
          },
          { ...rules, branches },
        ),
      ),
    ).toBe(counts ? 'stop DROP-1' : 'ignored: the branch does not count here')
  })

  test('a push asks for as many checkpoints to be kept as the rules say', () => {
    const keep = { newest: 2, days: 7 }
    expect(handlers.push(push, { environment: environment(), live: true }, { ...rules, keep })).toMatchObject({
      actions: [{ kind: 'checkpoint', keep }],
    })
  })

  test.for<['closed' | 'merged', Partial<Rules>, string]>([
    ['closed', { closed: 'delete' }, 'delete DROP-1'],
    ['closed', { closed: 'nothing' }, 'ignored: it is closed, and nothing follows from that here'],
    ['closed', { closed: 'delete', graceMinutes: 30 }, 'delete DROP-1'],
    ['merged', { merged: 'stop' }, 'stop DROP-1'],
    ['merged', { merged: 'nothing' }, 'ignored: it is merged, and nothing follows from that here'],
    ['merged', { graceMinutes: 1 }, 'later: DROP-1 will be deleted in 1 minute, unless somebody starts it'],
    ['merged', { graceMinutes: 30 }, 'later: DROP-1 will be deleted in 30 minutes, unless somebody starts it'],
  ])('%s, with %j', ([state, more, expected]) => expect(said(ended(state, more))).toBe(expected))

  test('when the minutes of grace are over, it is decided again, by what is true then', () => {
    const later = ended('merged', { graceMinutes: 30 })
    if (later.verdict !== 'later') throw new Error('not later')
    expect(later).toMatchObject({ minutes: 30, ticket: 'DROP-1' })
    const event = later.event as Of<'pull-request'>
    expect(said(ended('merged', { graceMinutes: 30 }, event))).toBe('delete DROP-1')
    expect(said(ended('merged', { graceMinutes: 30, merged: 'stop' }, event))).toBe('stop DROP-1')
  })

  const ticket = (category: 'indeterminate' | 'done', labels: string[], more: Partial<Rules>) =>
    said(
      handlers.ticket(
        {
          kind: 'ticket',
          ticket: 'DROP-1',
          change: 'status',
          category,
          assignee: 'me',
          labels: [],
          by: 'me',
          at: null,
        },
        {
          environment: category === 'done' ? environment() : null,
          now: { category, assignee: 'me', labels },
          endedSinceNew: false,
          hadPullRequest: true,
          closedSince: false,
          me: 'me',
          laterRequest: null,
        },
        { ...rules, ...more },
      ),
    )
  test.for<['indeterminate' | 'done', string[], Partial<Rules>, string]>([
    ['indeterminate', [], { labels: ['agent'] }, 'ignored: DROP-1 has none of the labels agent'],
    ['indeterminate', ['Agent', 'x'], { labels: ['agent', 'swarm'] }, 'create DROP-1'],
    ['done', [], {}, 'stop DROP-1'],
    ['done', [], { done: 'delete' }, 'delete DROP-1'],
    ['done', [], { done: 'stop' }, 'stop DROP-1'],
    ['done', [], { done: 'nothing' }, 'ignored: DROP-1 is done, and nothing follows from that here'],
  ])('a ticket that is %s, with labels %j, under %j', ([category, labels, more, expected]) =>
    expect(ticket(category, labels, more)).toBe(expected),
  )

  test('a new machine is what the rules say', () => {
    const machine = { cpus: 4, baseImage: 'big' }
    expect(
      handlers.ticket(
        {
          kind: 'ticket',
          ticket: 'DROP-1',
          change: 'status',
          category: 'indeterminate',
          assignee: 'me',
          labels: [],
          by: 'me',
          at: null,
        },
        {
          environment: null,
          now: 'unreadable',
          endedSinceNew: false,
          hadPullRequest: false,
          closedSince: false,
          me: 'me',
          laterRequest: null,
        },
        { ...rules, machine },
      ),
    ).toMatchObject({ actions: [{ kind: 'create', machine }] })
  })
})
