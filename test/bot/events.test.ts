/** Payloads that others wrote, as events. */
import { readFileSync } from 'node:fs'
import examples from '@octokit/webhooks-examples' with { type: 'json' }
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { UNFIT_EDITED } from '../../handlers/handler.ts'
import { allGitHubEventNames, githubLane, githubRoundsEventNames, parseGitHub } from '../../src/bot/github/events.ts'
import { jiraLane, parseJira } from '../../src/bot/jira/events.ts'
import { faultsOfPayload } from '../support/github-payloads.ts'

type Payload = Record<string, unknown> & { action?: string }
const recorded = (examples as unknown as { name: string; examples: Payload[] }[]).flatMap(({ name, examples }) =>
  examples.map(payload => ({ name, payload })),
)
/** The first recorded payload that still matches GitHub's description, or else the first: some were recorded long ago. */
const example = (name: string, action?: string): Payload => {
  const all = recorded.filter(entry => entry.name === name && (action === undefined || entry.payload.action === action))
  const entry = all.find(({ payload }) => faultsOfPayload(name, payload).length === 0) ?? all[0]
  if (entry === undefined) throw new Error(`there is no example of ${name}`)
  return structuredClone(entry.payload)
}

test('all recorded payloads of GitHub are parsed without harm, and only some are events', () => {
  expect(recorded.length).toBeGreaterThan(300)
  const events = recorded.flatMap(({ name, payload }) => {
    const parsed = parseGitHub(name, payload)
    expect(githubLane(name, payload)).toMatch(/^github:/)
    return 'event' in parsed ? [`${name} ${parsed.event.kind}`] : []
  })
  expect(events.length).toBeLessThan(recorded.length / 2)
  expect(events).toEqual(expect.arrayContaining(['issue_comment comment', 'pull_request pull-request', 'push push']))
})

/** Replaces the value at a path that the numbers choose. */
const mutate = (payload: unknown, path: readonly number[], value: unknown): unknown => {
  const mutated = structuredClone(payload) as Record<string, unknown>
  let at = mutated
  for (const step of path) {
    const keys = Object.keys(at)
    const key = keys[step % Math.max(1, keys.length)]
    if (key === undefined) break
    const next = at[key]
    if (typeof next !== 'object' || next === null || step % 3 === 0) {
      at[key] = value
      break
    }
    at = next as Record<string, unknown>
  }
  return mutated
}

test('mutated payloads are parsed without an exception', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...recorded),
      fc.array(fc.nat(), { maxLength: 5 }),
      fc.anything(),
      ({ name, payload }, path, value) => {
        const mutated = mutate(payload, path, value)
        parseGitHub(name, mutated)
        githubLane(name, mutated)
        parseJira(mutated)
      },
    ),
    { numRuns: 300, seed: 20_261_127 },
  )
  for (const value of [null, 1, 'x', [], true, undefined]) {
    for (const name of allGitHubEventNames) expect(parseGitHub(name, value)).toHaveProperty('ignored')
    expect(parseJira(value)).toHaveProperty('ignored')
  }
})

test('the events that only agents need are others than those of every set-up', () => {
  expect(githubRoundsEventNames).toEqual(['pull_request_review', 'check_suite'])
  expect(allGitHubEventNames).toEqual(['push', 'pull_request', 'issue_comment', ...githubRoundsEventNames])
})

describe('payloads of GitHub that were not recorded', () => {
  const repository = example('pull_request').repository as { full_name: string; html_url: string }
  const pullRequest = (
    action: string,
    more: Record<string, unknown> = {},
    fork: 'same' | 'other' | 'gone' = 'same',
  ): Payload => {
    const payload = example('pull_request', action)
    const original = payload.pull_request as { head: Record<string, unknown> }
    const repo =
      fork === 'gone'
        ? null
        : {
            ...(original.head.repo as object),
            full_name: fork === 'same' ? repository.full_name : 'stranger/Hello-World',
          }
    return { ...payload, pull_request: { ...original, head: { ...original.head, repo }, ...more } }
  }
  const written = example('issue_comment', 'created').comment as Payload & { user: object }
  const comment = (more: Record<string, unknown> = {}): Payload => {
    const payload = example('issue_comment', 'created')
    return {
      ...payload,
      issue: {
        ...(payload.issue as object),
        pull_request: {
          url: 'https://api.github.com/repos/o/r/pulls/1',
          html_url: 'https://github.com/o/r/pull/1',
          diff_url: 'https://github.com/o/r/pull/1.diff',
          patch_url: 'https://github.com/o/r/pull/1.patch',
        },
      },
      ...more,
    }
  }

  type Side = { repo: object }
  const review = (more: Record<string, unknown> = {}): Payload => {
    const payload = example('pull_request_review', 'submitted')
    // The recorded one is from before GitHub had drafts.
    const { head, base, ...rest } = example('pull_request', 'opened').pull_request as { head: Side; base: Side }
    const side = (known: Side) => ({ ...known, repo: { ...known.repo, has_discussions: false } })
    const pull_request = { ...rest, head: side(head), base: side(base) }
    return { ...payload, pull_request, review: { ...(payload.review as object), ...more } }
  }
  const checkSuite = (more: Record<string, unknown> = {}): Payload => {
    const payload = example('check_suite', 'completed')
    return { ...payload, check_suite: { ...(payload.check_suite as object), ...more } }
  }
  const noChanges = { ignored: 'nothing to do for a review that asks for no changes' }
  const noFailure = { ignored: 'nothing to do for checks that did not fail' }

  test.for<[string, string, Payload, object]>([
    [
      'a review that asks for changes',
      'pull_request_review',
      review({ state: 'changes_requested', body: 'No.' }),
      { event: { kind: 'review', reviewId: 237895671, author: 'Codertocat', authorIsBot: false, body: 'No.' } },
    ],
    [
      'a review of a deleted account',
      'pull_request_review',
      review({ state: 'changes_requested', user: null }),
      { event: { author: 'ghost', authorIsBot: true } },
    ],
    ['a review that comments', 'pull_request_review', review(), noChanges],
    [
      'a review that was dismissed',
      'pull_request_review',
      { ...review({ state: 'changes_requested' }), action: 'dismissed' },
      noChanges,
    ],
    [
      'checks that failed',
      'check_suite',
      checkSuite({ conclusion: 'failure' }),
      { event: { kind: 'checks', branch: 'changes', commit: 'ec26c3e57ca3a959ca5aad62de7213c562f8c821' } },
    ],
    [
      'checks of a commit without a branch',
      'check_suite',
      checkSuite({ conclusion: 'timed_out', head_branch: null }),
      { event: { branch: null } },
    ],
    ['checks that passed', 'check_suite', checkSuite(), noFailure],
    ['checks that somebody cancelled', 'check_suite', checkSuite({ conclusion: 'cancelled' }), noFailure],
    [
      'a merge',
      'pull_request',
      pullRequest('closed', { merged: true }),
      { event: { change: 'closed', fromFork: false } },
    ],
    [
      'a merge from a fork',
      'pull_request',
      pullRequest('closed', { merged: true }, 'other'),
      { event: { fromFork: true } },
    ],
    ['no description', 'pull_request', pullRequest('opened', { body: null }), { event: { change: 'opened' } }],
    [
      'made a draft',
      'pull_request',
      example('pull_request', 'converted_to_draft'),
      { event: { change: 'converted_to_draft' } },
    ],
    ['a comment on a pull request', 'issue_comment', comment(), { event: { authorIsBot: false, unfit: null } }],
    [
      'an edited comment',
      'issue_comment',
      comment({ action: 'edited', changes: { body: { from: 'x' } } }),
      { event: { unfit: UNFIT_EDITED } },
    ],
    [
      'a deleted comment',
      'issue_comment',
      comment({ action: 'deleted' }),
      { ignored: 'nothing to do when a comment is deleted' },
    ],
    [
      'a comment on an issue',
      'issue_comment',
      example('issue_comment', 'created'),
      { event: { unfit: 'commands in comments on issues are ignored' } },
    ],
    [
      'a comment whose author was deleted',
      'issue_comment',
      comment({ comment: { ...written, user: null } }),
      { event: { author: 'ghost', unfit: 'commands of deleted accounts are ignored' } },
    ],
    [
      'a comment of a bot',
      'issue_comment',
      comment({ comment: { ...written, user: { ...written.user, login: 'x[bot]', type: 'Bot' } } }),
      { event: { authorIsBot: true } },
    ],
    [
      'a comment by an app on behalf of a person',
      'issue_comment',
      comment({ comment: { ...written, performed_via_github_app: (example('check_run').check_run as Payload).app } }),
      { event: { authorIsBot: true } },
    ],
    [
      'a repository of a managed user',
      'issue_comment',
      comment({ repository: { ...repository, full_name: 'mona_acme/shop' } }),
      { event: { pullRequest: { repo: 'mona_acme/shop' } } },
    ],
    ['an event that is not handled', 'star', example('star'), { ignored: 'the event star is not handled' }],
  ])('%s', ([, name, payload, expected]) => {
    expect(faultsOfPayload(name, payload)).toEqual([])
    expect(parseGitHub(name, payload)).toMatchObject(expected)
  })

  test.for<[string, string, Payload, object]>([
    // GitHub's REST API says that the repository may be null; its description of this webhook does not.
    ['a fork that was deleted', 'pull_request', pullRequest('closed', {}, 'gone'), { event: { fromFork: true } }],
    [
      'an invalid name of a repository',
      'push',
      { ...example('push'), repository: { full_name: 'a/b/../c' } },
      { ignored: 'the payload of a push lacks a required member' },
    ],
    [
      'an event with the name of an inherited member',
      'constructor',
      {},
      { ignored: 'the event constructor is not handled' },
    ],
  ])("%s, outside of GitHub's description", ([, name, payload, expected]) => {
    expect(faultsOfPayload(name, payload)).not.toEqual([])
    expect(parseGitHub(name, payload)).toMatchObject(expected)
  })

  test('a pull request and its comments have one lane', () => {
    const number = 2
    expect(githubLane('pull_request', { repository, pull_request: { number } })).toBe(
      `github:${repository.full_name}:pr:2`,
    )
    expect(githubLane('issue_comment', { repository, issue: { number } })).toBe(`github:${repository.full_name}:pr:2`)
    expect(githubLane('push', { repository, ref: 'refs/heads/x' })).toBe(
      `github:${repository.full_name}:ref:refs/heads/x`,
    )
  })

  test('the repository and the installation are parsed with the event; what is wrong with them counts as missing', () => {
    const payload = { ...example('push'), installation: { id: 5 } }
    const original = payload as unknown as { repository: { id: number; default_branch: string; full_name: string } }
    const { id, default_branch: defaultBranch, full_name: name } = original.repository
    expect(parseGitHub('push', payload)).toMatchObject({ installation: 5, repository: { name, id, defaultBranch } })
    const broken = { ...payload, installation: { id: 'x' }, repository: { full_name: name, id: -1, default_branch: 5 } }
    expect(parseGitHub('push', broken)).toMatchObject({
      installation: null,
      repository: { name, id: null, defaultBranch: null },
    })
  })

  test('text without end is refused before anything reads it', () => {
    expect(parseGitHub('issue_comment', comment({ comment: { ...written, body: 'x'.repeat(300_000) } }))).toEqual({
      ignored: 'the payload of a comment lacks a required member',
    })
  })
})

describe('Jira', () => {
  const fixture = (name: string) =>
    JSON.parse(readFileSync(new URL(`../fixtures/jira/${name}.json`, import.meta.url), 'utf8'))
  const account = '99:27935d01-92a7-4687-8272-a9b8d3b2ae2e'
  const nothing = 'jira:issue_updated without a change of status, assignee or key'
  test.for<[string, object]>([
    [
      'cloud-status',
      {
        event: {
          ...{ kind: 'ticket', ticket: 'TEST-1', change: 'status', category: 'indeterminate' },
          ...{ assignee: account, by: { via: 'jira', who: account, name: 'Leo Franchi' }, fromStatus: '10000' },
        },
        change: 'changed:10000',
      },
    ],
    ['cloud-assignee', { event: { change: 'assignee', assignee: null } }],
    ['cloud-summary', { ignored: nothing }],
    ['cloud-created', { event: { change: 'status', category: 'new' }, change: 'created:TEST-1' }],
    ['cloud-deleted', { event: { change: 'deleted' } }],
    [
      'cloud-comment',
      {
        event: {
          ...{ kind: 'ticket-comment', ticket: 'TEST-1', commentId: '10274', body: '/swarm create', change: 'created' },
          at: Date.parse('2021-08-11T10:19:06.887Z'),
        },
        change: 'comment:10274',
      },
    ],
    [
      'cloud-moved',
      {
        event: {
          ...{ kind: 'ticket', ticket: 'PLATFORM-45', change: 'moved', from: 'APP-123', statusChanged: false },
          ...{ category: 'indeterminate', at: 1_795_860_516_796 },
        },
        change: 'changed:10197',
      },
    ],
    [
      'cloud-moved-status',
      { event: { ticket: 'INDEV-130', change: 'moved', from: 'TCP-2', statusChanged: true, category: 'new' } },
    ],
    [
      'server-status',
      {
        event: {
          ticket: 'TEST-41',
          change: 'status',
          category: 'indeterminate',
          by: { who: 'JIRAUSER10000' },
          assignee: 'dev',
        },
      },
    ],
    ['server-empty-changelog', { ignored: nothing }],
    ['no-key', { ignored: 'not a webhook about an issue with a key of the usual form' }],
    [
      'server-status-text-time',
      {
        event: {
          ...{ ticket: 'INDEV-6', change: 'status', category: 'indeterminate', fromStatus: '10257', at: null },
          by: { via: 'jira', who: '5c0000000000000000000001', name: 'Смирнова Анна Игоревна' },
          assignee: '5b0000000000000000000002',
        },
        change: 'changed:34911',
      },
    ],
    [
      'cloud-assigned',
      { event: { ticket: 'INDEV-242', change: 'assignee', category: 'new', assignee: '5b0000000000000000000002' } },
    ],
    [
      'server-without-accounts',
      {
        event: {
          ...{ ticket: 'BBCOM-1233', change: 'status', category: 'new', assignee: null },
          by: { via: 'jira', who: null, name: 'Анна' },
        },
      },
    ],
    ['server-created', { event: { ticket: 'BUG-15', change: 'status', by: { who: 'ada', name: 'Ada Lovelacé' } } }],
    ['status-without-event', { update: 'APP-123', transition: false }],
    ['post-function', { update: 'TEST-1', transition: true }],
    ['automation-issue-data', { update: 'DROP-51', transition: false }],
    ['comment-without-issue', { ignored: 'a comment without its issue' }],
    ['types-changelog-id-number', { event: { ticket: 'DROP-52', change: 'status' }, change: 'changed:10124' }],
    ['types-labels-objects', { event: { ticket: 'DROP-54', change: 'status', labels: [] } }],
    [
      'types-timestamp-text',
      { event: { ticket: 'DROP-53', change: 'status', at: Date.parse('2026-11-28T15:08:36.796Z') } },
    ],
  ])('%s', ([name, expected]) => expect(parseJira(fixture(name))).toMatchObject(expected))

  test.for<[string, (body: ReturnType<typeof fixture>) => void, object]>([
    [
      'a changelog id that is a number',
      body => Object.assign(body.changelog, { id: 10124 }),
      { change: 'changed:10124' },
    ],
    ['labels that are objects', body => Object.assign(body.issue.fields, { labels: [{ name: 'x' }] }), {}],
    [
      'a timestamp that is text',
      body => Object.assign(body, { timestamp: '2026-11-28T10:08:36.796-0500' }),
      { event: { at: Date.parse('2026-11-28T15:08:36.796Z') } },
    ],
    ['a timestamp that is no time', body => Object.assign(body, { timestamp: 'yesterday' }), { event: { at: null } }],
    [
      'an account of another type',
      body => Object.assign(body, { user: 5 }),
      { event: { by: { via: 'jira', who: null } } },
    ],
  ])('%s does not lose the move', ([, change, expected]) => {
    const body = fixture('cloud-status')
    change(body)
    expect(parseJira(body)).toMatchObject(expected)
    const parsed = parseJira(body)
    if ('event' in parsed) expect(parsed.event).toMatchObject({ change: 'status', category: 'indeterminate' })
    else expect(parsed).toEqual({ update: 'TEST-1', transition: false })
  })

  test('every member of another type leaves an event about the ticket, or has the issue read again', () => {
    const members = (value: unknown, path: string[] = []): string[][] =>
      typeof value !== 'object' || value === null
        ? []
        : Object.keys(value).flatMap(name => [[...path, name], ...members((value as never)[name], [...path, name])])
    for (const name of ['cloud-status', 'server-status', 'cloud-moved-status'])
      for (const path of members(fixture(name)))
        for (const other of [null, 5, -1.5, 'text', '', true, [], {}, [null], { key: {} }]) {
          const body = fixture(name)
          const parent = path.slice(0, -1).reduce((value, part) => value[part], body)
          parent[path.at(-1) as string] = other
          const parsed = parseJira(body)
          // Without its key, nothing says which issue it is about; without its changes, nothing says what happened.
          const isNeeded = path[0] === 'changelog' || ['issue', 'issue.key', 'webhookEvent'].includes(path.join('.'))
          if (!isNeeded) expect([path.join('.'), 'event' in parsed]).toEqual([path.join('.'), true])
        }
  })

  test('only own members of a changelog item count', () => {
    const body = fixture('cloud-status')
    body.changelog.items = [JSON.parse('{"__proto__": {"field": "status"}}')]
    expect(parseJira(body)).toHaveProperty('ignored')
    body.changelog.items = [{ field: 'Key', fieldtype: 'jira' }]
    expect(parseJira(body)).toHaveProperty('ignored')
  })

  test('an edited comment is marked; a deleted one, or one whose id is not a number, is ignored', () => {
    const body = fixture('cloud-comment')
    expect(parseJira({ ...body, webhookEvent: 'comment_updated' })).toMatchObject({
      event: { change: 'edited' },
      change: null,
    })
    expect(parseJira({ ...body, webhookEvent: 'comment_deleted' })).toHaveProperty('ignored')
    for (const id of ['1/../../x', '', '1?x', 1.5, -1, null, '9'.repeat(21)])
      expect(parseJira({ ...body, comment: { ...body.comment, id } })).toHaveProperty('ignored')
  })

  test('a ticket has one lane', () => {
    for (const name of ['cloud-status', 'cloud-comment']) expect(jiraLane(fixture(name))).toBe('jira:TEST-1')
    expect(jiraLane(fixture('automation-issue-data'))).toBe('jira:DROP-51')
    expect(jiraLane({ issue: { key: '../x' } })).toBe('jira:other')
    expect(jiraLane(null)).toBe('jira:other')
  })
})
