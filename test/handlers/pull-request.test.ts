import { describe, expect, test } from 'vitest'
import type { Facts } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import { environment, now, type Of, rules, said } from './fixtures.ts'

describe('pull request', () => {
  const event = (change: Of<'pull-request'>['change'], more: Partial<Of<'pull-request'>> = {}): Of<'pull-request'> => ({
    kind: 'pull-request',
    change,
    pullRequest: { repo: 'acme/shop', number: 1 },
    branch: 'DROP-1-x',
    title: '',
    body: '',
    fromFork: false,
    sender: 'dev',
    at: null,
    ...more,
  })
  const facts = (more: Partial<Facts['pull-request']> = {}): Facts['pull-request'] => ({
    environment: environment(),
    now: now(),
    stateDecided: false,
    others: [],
    ticketRestarted: false,
    laterRequest: null,
    ...more,
  })
  const other = { repo: 'acme/shop', number: 2 }
  test.for<[string, Of<'pull-request'>, Facts['pull-request'], string]>([
    ['opened', event('opened'), facts(), 'ignored: it belongs to DROP-1, and asks for nothing'],
    [
      'reopened, and the machine is stopped',
      event('reopened'),
      facts({ environment: environment('stopped') }),
      'start DROP-1',
    ],
    [
      'reopened, and closed again since, which was decided',
      event('reopened'),
      facts({ environment: environment('stopped'), now: now({ state: 'closed' }), stateDecided: true }),
      'ignored: it belongs to DROP-1, and asks for nothing',
    ],
    [
      'opened, and closed since, which nobody told',
      event('opened'),
      facts({ now: now({ state: 'closed' }) }),
      'stop DROP-1',
    ],
    ['merged', event('closed'), facts({ now: now({ state: 'merged' }) }), 'delete DROP-1'],
    [
      'merged, and another is open',
      event('closed'),
      facts({ now: now({ state: 'merged' }), others: [other] }),
      'ignored: DROP-1 has another open pull request, acme/shop#2',
    ],
    [
      'merged before the ticket was begun anew',
      event('closed'),
      facts({ now: now({ state: 'merged' }), ticketRestarted: true }),
      'ignored: DROP-1 was begun anew after that',
    ],
    ['closed unmerged', event('closed'), facts({ now: now({ state: 'closed' }) }), 'stop DROP-1'],
    [
      'closed unmerged, and another is open',
      event('closed'),
      facts({ now: now({ state: 'closed' }), others: [other] }),
      'ignored: DROP-1 has another open pull request, acme/shop#2',
    ],
    [
      'merged before somebody asked for the machine',
      event('closed'),
      facts({ now: now({ state: 'merged' }), laterRequest: { who: 'dev', kind: 'create' } }),
      'ignored: dev asked for create after that',
    ],
    [
      'reopened before somebody stopped it',
      event('reopened'),
      facts({ environment: environment('stopped'), laterRequest: { who: 'dev', kind: 'stop' } }),
      'ignored: dev asked for stop after that',
    ],
    ['closed, and open again since', event('closed'), facts(), 'ignored: it is open again'],
    ['closed, and gone', event('closed'), facts({ now: null }), 'ignored: the pull request is gone'],
    [
      'closed, stopped already',
      event('closed'),
      facts({ now: now({ state: 'closed' }), environment: environment('stopped') }),
      'ignored: DROP-1 is stopped already',
    ],
    [
      'merged without a machine',
      event('closed'),
      facts({ now: now({ state: 'merged' }), environment: null }),
      'ignored: DROP-1 has no environment',
    ],
    [
      'merged, from a fork',
      event('closed', { fromFork: true }),
      facts({ now: now({ state: 'merged', fromFork: true }) }),
      'ignored: pull requests from forks do nothing',
    ],
    [
      'merged, said to be none, but from a fork now',
      event('closed'),
      facts({ now: now({ state: 'merged', fromFork: true }) }),
      'ignored: pull requests from forks do nothing',
    ],
    [
      'the ticket in the title alone',
      event('closed', { branch: 'x' }),
      facts({ now: now({ state: 'merged', branch: 'x', title: 'WEB-7: y' }) }),
      'delete WEB-7',
    ],
    [
      'no ticket',
      event('closed', { branch: 'x' }),
      facts({ now: now({ branch: 'x', state: 'merged' }) }),
      'ignored: no ticket in branch, title or body',
    ],
  ])('%s', ([, given, known, expected]) => expect(said(handlers['pull-request'](given, known, rules))).toBe(expected))
})
