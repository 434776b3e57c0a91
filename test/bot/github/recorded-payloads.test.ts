/**
 * Payloads in the shape that other tools recorded of GitHub: the merge queue, a force push, a merge in a private repository, a
 * comment by way of a repository's own webhook. And what of them may be of another type without costing the delivery.
 */
import { describe, expect, test } from 'vitest'
import { parseGitHub } from '../../../src/bot/github/events.ts'

const owner = { name: 'acme', email: null, login: 'acme', id: 52_709_322, type: 'Organization', site_admin: false }
/** A push writes times of its repository as numbers, other events as text. */
const repository = {
  ...{ id: 353_322_834, node_id: 'R_x', name: 'shop', full_name: 'acme/shop', private: true, owner, fork: false },
  ...{ created_at: 1_618_165_822, updated_at: '2022-11-07T17:04:28Z', pushed_at: 1_670_262_117, homepage: null },
  ...{ license: { key: 'other', spdx_id: 'NOASSERTION', url: null }, topics: [], visibility: 'private' },
  ...{ default_branch: 'main', stargazers: 4, master_branch: 'main', organization: 'acme' },
}
const dev = { login: 'dev', id: 35_286_603, node_id: 'MDQ6', gravatar_id: '', type: 'User', site_admin: false }
const installation = { id: 17_816_238, node_id: 'MDIz' }
const A = '9a8749ea8fe78a9cde773c60acf54f81f82c5d7e'

const queued = 'refs/heads/gh-readonly-queue/main/pr-3072-287d30540ac5a1acc57d0bdc138fa81dee315f48'
/** The merge queue removes its branch: nobody is the sender, and no commit is there any more. */
const queuePush = {
  ...{ ref: queued, before: A, after: '0'.repeat(40), repository, pusher: { name: 'none' }, installation },
  ...{ organization: { login: 'acme', id: 52_709_322 }, created: false, deleted: true, forced: false, base_ref: null },
  ...{ compare: 'https://github.com/acme/shop/compare/a...0', commits: [], head_commit: null },
}
/** Commits were removed: the list is empty, and the head is an old commit. */
const forcePush = {
  ...{
    ref: 'refs/heads/drop-7',
    before: '2084a91af9ca7c71b4dd020fb973292d92884324',
    after: A,
    repository,
    sender: dev,
  },
  ...{
    pusher: { name: 'dev', email: 'dev@example.org' },
    created: false,
    deleted: false,
    forced: true,
    base_ref: null,
  },
  ...{ commits: [], head_commit: { id: A, tree_id: A, distinct: true, message: 'x', author: { name: 'D' } } },
}
const side = {
  label: 'acme:drop-7',
  ref: 'drop-7',
  sha: A,
  user: owner,
  repo: { ...repository, created_at: '2015-05-05T23:40:12Z' },
}
const merged = {
  ...{ action: 'closed', number: 1, repository, sender: dev },
  pull_request: {
    ...{
      url: 'https://api.github.com/x',
      id: 34_778_301,
      number: 1,
      state: 'closed',
      locked: false,
      title: 'drop-7: x',
    },
    ...{ user: dev, body: 'Closes DROP-8', created_at: '2015-05-05T23:40:27Z', updated_at: '2015-05-05T23:41:27Z' },
    ...{ closed_at: '2015-05-05T23:41:27Z', merged_at: '2015-05-05T23:41:27Z', merge_commit_sha: A, assignee: null },
    ...{ milestone: null, head: side, base: { ...side, ref: 'main' }, merged: true, mergeable: null, merged_by: dev },
  },
}
const queueOf = (action: string) => ({ ...merged, action, pull_request: { ...merged.pull_request, merged: false } })
const links = { url: 'https://api.github.com/p', html_url: 'https://github.com/p', diff_url: 'd', patch_url: 'p' }
/** A repository's own webhook names no installation. */
const comment = {
  action: 'created',
  issue: {
    ...{
      url: 'https://api.github.com/i',
      id: 330_256_251,
      number: 1,
      title: 'x',
      user: dev,
      labels: [],
      state: 'open',
    },
    ...{ assignee: null, assignees: [], milestone: null, comments: 61, closed_at: null, pull_request: links, body: '' },
  },
  comment: {
    ...{ id: 396_926_483, node_id: 'MDEy', user: dev, author_association: 'OWNER', body: '/swarm status' },
    ...{ created_at: '2018-06-13T12:53:40Z', updated_at: '2018-06-13T12:53:40Z' },
  },
  ...{ repository, sender: dev },
}

test.for<[string, string, object, object]>([
  [
    'a push of the merge queue',
    'push',
    queuePush,
    { event: { kind: 'push', ref: queued, deleted: true, pusher: null }, installation: installation.id },
  ],
  ['a force push', 'push', forcePush, { event: { ref: 'refs/heads/drop-7', after: A, deleted: false, pusher: 'dev' } }],
  [
    'a merge in a private repository',
    'pull_request',
    merged,
    { event: { change: 'closed', merged: true, branch: 'drop-7', fromFork: false, sender: 'dev' } },
  ],
  ['enqueued', 'pull_request', queueOf('enqueued'), { ignored: 'nothing to do when a pull request is enqueued' }],
  ['dequeued', 'pull_request', queueOf('dequeued'), { ignored: 'nothing to do when a pull request is dequeued' }],
  [
    "a comment by a repository's own webhook",
    'issue_comment',
    comment,
    { event: { body: '/swarm status', author: 'dev', authorIsBot: false, unfit: null }, installation: null },
  ],
])('%s', ([, name, payload, expected]) => expect(parseGitHub(name, payload)).toMatchObject(expected))

describe('a member that is not needed may be of any type', () => {
  const values = [null, 7, 'text', true, [], {}, [{ id: 1 }], '2026-99-99']
  type Part = Record<string, unknown>
  const withMember = (payload: Part, path: readonly string[], value: unknown): Part => {
    const [name = '', ...rest] = path
    return { ...payload, [name]: rest.length === 0 ? value : withMember((payload[name] ?? {}) as Part, rest, value) }
  }
  test.for<[string, Part, string[]]>([
    [
      'push',
      forcePush,
      ['sender', 'deleted', 'pusher', 'commits', 'installation', 'repository.id', 'repository.default_branch'],
    ],
    [
      'pull_request',
      merged,
      [
        ...['sender', 'installation', 'repository.id', 'repository.default_branch', 'pull_request.title'],
        ...['pull_request.updated_at', 'pull_request.merged', 'pull_request.body', 'pull_request.head.repo'],
        ...['pull_request.merged_at', 'pull_request.labels'],
      ],
    ],
    [
      'issue_comment',
      comment,
      ['sender', 'installation', 'repository.id', 'comment.created_at', 'comment.user.type', 'issue.labels'],
    ],
  ])('%s', ([name, payload, members]) => {
    for (const member of members)
      for (const value of values)
        expect(
          parseGitHub(name, withMember(payload, member.split('.'), value)),
          `${member}: ${JSON.stringify(value)}`,
        ).toHaveProperty('event')
  })
  test('and what is needed costs the delivery, with its reason', () => {
    for (const value of [null, 7, {}])
      expect(parseGitHub('pull_request', withMember(merged, ['pull_request', 'head', 'ref'], value))).toEqual({
        ignored: 'the payload of a pull request lacks a required member',
      })
  })
})
