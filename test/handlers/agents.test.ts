/** What reviews, checks, pushes and pull requests lead to where agents work. */
import { expect, test } from 'vitest'
import { checksMessage, reviewMessage } from '../../handlers/agent-message.ts'
import type { Announcement, Facts, Rules } from '../../handlers/handler.ts'
import { handlers } from '../../handlers/index.ts'
import type { AgentReport } from '../../src/schema/environment.ts'
import { environment, pullRequestEvent, pullRequestFacts, pullRequestNow, rules, summarize } from './fixtures.ts'

const agent: AgentReport = {
  ...{ use: 'codex', run: '0a1b2c3d', state: 'running', startedAt: null, endedAt: null, result: null, reason: null },
  ...{ summary: null, turns: 0, tokens: 0, usd: null, rounds: 0, pullRequest: 'draft' },
}
const withRounds = (rounds: number, more: Partial<Rules> = {}): Rules => ({
  ...rules,
  agent: { reporters: 'me', rounds },
  ...more,
})
const pullRequest = { repo: 'acme/shop', number: 7 }
const review = (more: Partial<Facts['review']> = {}, given: Rules = withRounds(2)) =>
  handlers.review(
    { kind: 'review', pullRequest, reviewId: 1, body: 'No.', author: 'dev', authorIsBot: false, at: null },
    {
      ...{ permission: 'write', teams: [], now: pullRequestNow(), ticket: 'DROP-1', comments: [], told: 0 },
      ...{ environment: { ...environment(), agent }, isPassedOn: false },
      ...more,
    },
    given,
  )

test.for<[string, Partial<Facts['review']>, Rules, string]>([
  ['is told', {}, withRounds(1), 'tell DROP-1'],
  [
    'with rounds off',
    {},
    withRounds(0),
    'ignored: reviews and failed checks are not passed on to agents (`agent.rounds`)',
  ],
  ['that was passed on', { isPassedOn: true }, withRounds(2), 'ignored: it was passed on already'],
  [
    'by a reader',
    { permission: 'read' },
    withRounds(2),
    'refused: dev has no write access: only people with write access may give commands',
  ],
  [
    'by somebody whom the rule for tell leaves out',
    {},
    withRounds(2, { commands: { tell: ['lead'] } }),
    'refused: only `lead` may use `tell` here (.github/agent-swarm.yml)',
  ],
  [
    'of a fork',
    { now: pullRequestNow({ fromFork: true }) },
    withRounds(2),
    'ignored: pull requests from forks have no effect',
  ],
  [
    'after the merge',
    { now: pullRequestNow({ state: 'merged' }) },
    withRounds(2),
    'ignored: the pull request is merged',
  ],
  ['about no ticket', { ticket: null }, withRounds(2), 'ignored: the pull request is about no ticket'],
])('a review %s', ([, facts, given, expected]) => expect(summarize(review(facts, given))).toBe(expected))

test('a review that is older than the machine is about another one', () => {
  const event = { kind: 'review', pullRequest, reviewId: 1, body: '', author: 'dev', authorIsBot: false } as const
  const facts = {
    permission: 'write',
    teams: [],
    now: pullRequestNow(),
    ticket: 'DROP-1',
    comments: [],
    told: 0,
  } as const
  const at = Date.parse('2026-11-24T09:59:59Z')
  expect(
    handlers.review(
      { ...event, at },
      { ...facts, environment: { ...environment(), agent }, isPassedOn: false },
      withRounds(1),
    ),
  ).toMatchObject({ verdict: 'ignored', reason: 'the machine of DROP-1 is newer than this review' })
})

test('beyond the rounds, the people are told in place of the agent', () => {
  expect(review({ told: 2 })).toMatchObject({
    actions: [],
    announcements: [{ kind: 'rounds-over', ticket: 'DROP-1', pullRequest, told: 2 }],
  })
})

test.for<[string, Partial<Facts['checks']>, string]>([
  ['are told', {}, 'tell DROP-1'],
  ['of an older commit', { isHead: false }, 'ignored: the branch has moved on since'],
  ['of no ticket', { ticket: null }, 'ignored: the commit is on no branch of a ticket in this repository'],
  ['that pass by now', { failed: [] }, 'ignored: no check of this commit has failed'],
  [
    'without a pull request, beyond the rounds',
    { told: 2, pullRequest: null },
    'ignored: the agent of DROP-1 was told 2 times, which is the most',
  ],
])('failed checks %s', ([, more, expected]) => {
  const event = { kind: 'checks', repo: 'acme/shop', branch: 'DROP-1-x', commit: 'a'.repeat(40), at: null } as const
  const facts: Facts['checks'] = {
    ...{ ticket: 'DROP-1', environment: { ...environment(), agent }, isHead: true, pullRequest, told: 0 },
    ...{ failed: [{ name: 'test', conclusion: 'failure', url: null, summary: null }], isPassedOn: false },
  }
  expect(summarize(handlers.checks(event, { ...facts, ...more }, withRounds(2)))).toBe(expected)
})

test('what an agent is told is bounded, and the words of others stay quoted on every line', () => {
  const comments = Array.from({ length: 500 }, (_, n) => ({
    path: `a\n${n}`,
    line: n,
    body: 'x\r\ny\u2028z\u0085w'.repeat(1_000),
  }))
  const text = reviewMessage(pullRequest, { author: 'dev', body: 'one\rtwo\n\u202ethree\u0000' }, comments)
  expect(text.length).toBeLessThan(20_000)
  expect(text).toContain('> one\n> two\n> three')
  expect(text).toMatch(/\d+ more are left out here\./)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: this looks for them
  expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u0080-\u009f\u2028\u202e]/)
  for (const line of text.split('\n')) if (/[yzw]x|^x/.test(line)) expect(line).toMatch(/^> /)
  const failed = Array.from({ length: 500 }, () => ({
    name: 'n',
    conclusion: 'failure',
    url: null,
    summary: 's\n'.repeat(2_000),
  }))
  expect(checksMessage({ repo: 'acme/shop', commit: 'a'.repeat(40) }, failed).length).toBeLessThan(20_000)
})

const moves = { review: true, done: 'Shipped' } as const
const announced = (
  more: Partial<Facts['pull-request']>,
  change: 'opened' | 'closed' | 'edited' | 'ready_for_review',
) => {
  const decision = handlers['pull-request'](pullRequestEvent(change), pullRequestFacts(more), {
    ...rules,
    transitions: moves,
  })
  return 'announcements' in decision
    ? (decision.announcements?.map(({ kind, ...rest }: Announcement) => rest) ?? [])
    : []
}

test('a pull request moves its ticket once when it gets ready, and once when it is merged', () => {
  const ready = [{ ticket: 'DROP-1', pullRequest: { repo: 'acme/shop', number: 1 }, to: 'review', status: true }]
  expect(announced({}, 'opened')).toEqual(ready)
  expect(announced({ now: pullRequestNow({ isDraft: true }) }, 'opened')).toEqual([])
  expect(announced({ stateDecided: true }, 'ready_for_review')).toEqual(ready)
  expect(announced({ readyDecided: true }, 'edited')).toEqual([])
  expect(announced({ hadMachine: false }, 'opened')).toEqual([])
  const merged = pullRequestNow({ state: 'merged' })
  expect(announced({ now: merged }, 'closed')).toMatchObject([{ to: 'done', status: 'Shipped' }])
  expect(announced({ now: merged, environment: null }, 'closed')).toMatchObject([{ to: 'done' }])
  expect(announced({ now: merged, stateDecided: true }, 'closed')).toEqual([])
  expect(announced({ now: merged, others: [{ repo: 'acme/api', number: 3 }] }, 'closed')).toEqual([])
  expect(announced({ now: pullRequestNow({ state: 'closed' }) }, 'closed')).toEqual([])
})

test('a merge with minutes of grace moves the ticket at once', () => {
  const given = { ...rules, transitions: moves, graceMinutes: 30 }
  const facts = pullRequestFacts({ now: pullRequestNow({ state: 'merged' }) })
  expect(handlers['pull-request'](pullRequestEvent('closed'), facts, given)).toMatchObject({
    verdict: 'later',
    announcements: [{ to: 'done' }],
  })
})
