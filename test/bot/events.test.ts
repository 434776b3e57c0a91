/** Payloads that others wrote, as events of ours. */
import { readFileSync } from 'node:fs'
import examples from '@octokit/webhooks-examples' with { type: 'json' }
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { githubEvent, githubEventNames, githubLane, installationOf } from '../../src/bot/github/events.ts'
import { jiraEvent, jiraLane } from '../../src/bot/jira/events.ts'
import { faultsOfPayload } from '../support/github-payloads.ts'

type Payload = Record<string, unknown> & { action?: string }
const all = (examples as unknown as { name: string; examples: Payload[] }[]).flatMap(({ name, examples }) =>
  examples.map(payload => ({ name, payload })),
)
/** The first that is still as GitHub describes it, if any is: some were recorded long ago. */
const of = (name: string, action?: string): Payload => {
  const recorded = all.filter(one => one.name === name && (action === undefined || one.payload.action === action))
  const found = recorded.find(one => faultsOfPayload(name, one.payload).length === 0) ?? recorded[0]
  if (found === undefined) throw new Error(`no example of ${name}`)
  return structuredClone(found.payload)
}

test('all recorded payloads of GitHub are read without harm, and only some are events', () => {
  expect(all.length).toBeGreaterThan(300)
  const made = all.flatMap(({ name, payload }) => {
    const read = githubEvent(name, payload)
    expect(githubLane(name, payload)).toMatch(/^github:/)
    installationOf(payload)
    return 'event' in read ? [`${name} ${read.event.kind}`] : []
  })
  expect([...new Set(made)].sort()).toEqual(['issue_comment comment', 'pull_request pull-request', 'push push'])
})

test('mutilated payloads are ignored, never thrown at', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...all),
      fc.array(fc.nat(), { maxLength: 5 }),
      fc.anything(),
      ({ name, payload }, path, value) => {
        const broken = structuredClone(payload) as Record<string, unknown>
        let at: Record<string, unknown> = broken
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
        githubEvent(name, broken)
        githubLane(name, broken)
        jiraEvent(broken)
      },
    ),
    { numRuns: 1_000 },
  )
  for (const nothing of [null, 1, 'x', [], true, undefined]) {
    for (const name of githubEventNames) expect(githubEvent(name, nothing)).toHaveProperty('ignored')
    expect(jiraEvent(nothing)).toHaveProperty('ignored')
  }
})

describe('payloads that the recorded ones lack', () => {
  const repository = of('pull_request').repository as { full_name: string; html_url: string }
  const pullRequest = (
    action: string,
    more: Record<string, unknown> = {},
    fork: 'same' | 'other' | 'gone' = 'same',
  ): Payload => {
    const payload = of('pull_request', action)
    const given = payload.pull_request as { head: Record<string, unknown> }
    const repo =
      fork === 'gone'
        ? null
        : { ...(given.head.repo as object), full_name: fork === 'same' ? repository.full_name : 'stranger/Hello-World' }
    return { ...payload, pull_request: { ...given, head: { ...given.head, repo }, ...more } }
  }
  const said = of('issue_comment', 'created').comment as Payload & { user: object }
  const comment = (more: Record<string, unknown> = {}): Payload => {
    const payload = of('issue_comment', 'created')
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

  test.for<[string, string, Payload, object]>([
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
    ['an empty description', 'pull_request', pullRequest('opened', { body: null }), { event: { body: '' } }],
    [
      'made a draft',
      'pull_request',
      of('pull_request', 'converted_to_draft'),
      { ignored: 'a pull request was converted_to_draft' },
    ],
    ['a comment on a pull request', 'issue_comment', comment(), { event: { authorIsBot: false, unfit: null } }],
    [
      'an edited comment',
      'issue_comment',
      comment({ action: 'edited', changes: { body: { from: 'x' } } }),
      { event: { unfit: 'an edited comment gives no commands' } },
    ],
    ['a deleted comment', 'issue_comment', comment({ action: 'deleted' }), { ignored: 'a comment was deleted' }],
    [
      'a comment on an issue',
      'issue_comment',
      of('issue_comment', 'created'),
      { event: { unfit: 'commands are given on pull requests, and this is an issue' } },
    ],
    [
      'a comment whose author is gone',
      'issue_comment',
      comment({ comment: { ...(of('issue_comment').comment as object), user: null } }),
      { event: { author: 'ghost', unfit: 'its author is gone' } },
    ],
    [
      'a comment of a bot',
      'issue_comment',
      comment({ comment: { ...said, user: { ...said.user, login: 'x[bot]', type: 'Bot' } } }),
      { event: { authorIsBot: true } },
    ],
    [
      'a comment by an app for a person',
      'issue_comment',
      comment({ comment: { ...said, performed_via_github_app: (of('check_run').check_run as Payload).app } }),
      { event: { authorIsBot: true } },
    ],
    [
      'a repository of somebody whose login a company gave',
      'issue_comment',
      comment({ repository: { ...repository, full_name: 'mona_acme/shop' } }),
      { event: { pullRequest: { repo: 'mona_acme/shop' } } },
    ],
    ['an event that we do not know', 'star', of('star'), { ignored: 'the event star means nothing here' }],
  ])('%s', ([, name, payload, expected]) => {
    expect(faultsOfPayload(name, payload)).toEqual([])
    expect(githubEvent(name, payload)).toMatchObject(expected)
  })

  test.for<[string, string, Payload, object]>([
    // GitHub's REST API says that it may be null; its description of this webhook does not.
    ['a fork that is gone', 'pull_request', pullRequest('closed', {}, 'gone'), { event: { fromFork: true } }],
    [
      'a repository with a name that is none',
      'push',
      { ...of('push'), repository: { full_name: 'a/b/../c' } },
      { ignored: 'a push that lacks what is needed' },
    ],
    [
      'an event named like what objects inherit',
      'constructor',
      {},
      { ignored: 'the event constructor means nothing here' },
    ],
  ])('%s, which GitHub does not describe', ([, name, payload, expected]) => {
    expect(faultsOfPayload(name, payload)).not.toEqual([])
    expect(githubEvent(name, payload)).toMatchObject(expected)
  })

  test('what belongs together has one lane', () => {
    const number = 2
    expect(githubLane('pull_request', { repository, pull_request: { number } })).toBe(
      `github:${repository.full_name}:pr:2`,
    )
    expect(githubLane('issue_comment', { repository, issue: { number } })).toBe(`github:${repository.full_name}:pr:2`)
    expect(githubLane('push', { repository, ref: 'refs/heads/x' })).toBe(
      `github:${repository.full_name}:ref:refs/heads/x`,
    )
    expect(installationOf({ installation: { id: 5 } })).toBe(5)
    expect(installationOf({})).toBeNull()
  })
})

describe('Jira', () => {
  const fixture = (name: string) =>
    JSON.parse(readFileSync(new URL(`../fixtures/jira/${name}.json`, import.meta.url), 'utf8'))
  test.for<[string, object]>([
    [
      'cloud-status',
      {
        event: {
          kind: 'ticket',
          ticket: 'TEST-1',
          change: 'status',
          category: 'indeterminate',
          assignee: '99:27935d01-92a7-4687-8272-a9b8d3b2ae2e',
          by: '99:27935d01-92a7-4687-8272-a9b8d3b2ae2e',
        },
      },
    ],
    ['cloud-assignee', { event: { change: 'assignee', assignee: null } }],
    ['cloud-summary', { ignored: 'jira:issue_updated without a change of status or assignee' }],
    ['cloud-created', { event: { change: 'status', category: 'new' } }],
    ['cloud-deleted', { event: { change: 'deleted' } }],
    [
      'cloud-comment',
      {
        event: {
          kind: 'ticket-comment',
          ticket: 'TEST-1',
          commentId: '10274',
          body: '/swarm create',
          change: 'created',
          at: Date.parse('2021-08-11T10:19:06.887Z'),
        },
      },
    ],
    [
      'server-status',
      {
        event: { ticket: 'TEST-41', change: 'status', category: 'indeterminate', by: 'JIRAUSER10000', assignee: 'dev' },
      },
    ],
    ['server-empty-changelog', { ignored: 'jira:issue_updated without a change of status or assignee' }],
    ['no-key', { ignored: 'the issue has no key of the usual form' }],
  ])('%s', ([name, expected]) => expect(jiraEvent(fixture(name))).toMatchObject(expected))

  test('an item without its own field inherits none', () => {
    const body = fixture('cloud-status')
    body.changelog.items = [JSON.parse('{"__proto__": {"field": "status"}}')]
    expect(jiraEvent(body)).toHaveProperty('ignored')
  })

  test('a comment that is edited says so; one whose id is no number is none, nor is one that is deleted', () => {
    const body = fixture('cloud-comment')
    expect(jiraEvent({ ...body, webhookEvent: 'comment_updated' })).toMatchObject({ event: { change: 'edited' } })
    expect(jiraEvent({ ...body, webhookEvent: 'comment_deleted' })).toHaveProperty('ignored')
    for (const id of ['1/../../x', '', '1?x', 1, '9'.repeat(21)])
      expect(jiraEvent({ ...body, comment: { ...body.comment, id } })).toHaveProperty('ignored')
  })

  test('a ticket has one lane', () => {
    for (const name of ['cloud-status', 'cloud-comment']) expect(jiraLane(fixture(name))).toBe('jira:TEST-1')
    expect(jiraLane({ issue: { key: '../x' } })).toBe('jira:other')
    expect(jiraLane(null)).toBe('jira:other')
  })
})
