/** What is held against GitHub's description of its API can fail. */
import { expect, test } from 'vitest'
import { startGitHub } from './github.ts'
import { faultsOfRequest, operationIds, operationsUsed } from './github-requests.ts'

const headers = { 'user-agent': 'a test', authorization: 'token ghs_1', 'content-type': 'application/json' }
const ask = (method: string, path: string, body: unknown = null, more: object = {}) =>
  faultsOfRequest({ method, path, body, headers: { ...headers, ...more } })
const comments = '/repos/acme/shop/issues/1/comments'

test.for<[string, string[]]>([
  ['a comment', ask('POST', comments, { body: 'x' })],
  ['comments of a repository', ask('GET', '/repos/acme/shop/issues/comments?sort=updated&since=2026-01-01T00:00:00Z')],
  ['a file in a folder', ask('GET', '/repos/acme/shop/contents/.github/agent-swarm.yml?ref=main')],
  ['refs with slashes', ask('GET', '/repos/acme/shop/git/matching-refs/heads/drop-1/x')],
  ['a page', ask('GET', '/repos/acme/shop/pulls?state=all&per_page=100&page=2')],
  ['an App by its JWT', ask('GET', '/app', null, { authorization: 'bearer a.b.c' })],
])('%s is as GitHub describes it', ([, faults]) => expect(faults).toEqual([]))

test.for<[string, string[], RegExp]>([
  ['an operation that is not there', ask('GET', '/repos/acme/shop/stargazers'), /has no such operation/],
  ['another method', ask('DELETE', comments), /has no such operation/],
  ['a path that is cut', ask('GET', '/repos/acme'), /has no such operation/],
  ['a number that is none', ask('GET', '/repos/acme/shop/pulls/one'), /the URL\/pull_number must be integer/],
  ['a state that is none', ask('GET', '/repos/acme/shop/pulls?state=merged'), /the URL\/state must be equal to one of/],
  ['a time that is none', ask('GET', '/repos/acme/shop/issues/comments?since=now'), /the URL\/since must match format/],
  ['a parameter that means nothing', ask('GET', '/repos/acme/shop?perpage=1'), /the URL must NOT have additional/],
  ['a comment without words', ask('POST', comments, {}), /the body must have required property 'body'/],
  ['no body', ask('POST', comments), /there is no body/],
  ['a body where none belongs', ask('GET', comments, {}), /there is a body/],
  ['a field that means nothing', ask('POST', comments, { body: 'x', text: 'x' }), /the body must NOT have additional/],
  ['words that are a number', ask('POST', comments, { body: 1 }), /the body\/body must be string/],
  [
    'a body of another type',
    ask('POST', comments, { body: 'x' }, { 'content-type': 'text/plain' }),
    /not sent as JSON/,
  ],
  ['nobody', ask('GET', '/repos/acme/shop', null, { authorization: undefined }), /no Authorization/],
  ['no agent', ask('GET', '/repos/acme/shop', null, { 'user-agent': undefined }), /no User-Agent/],
  ['an App by a token', ask('GET', '/app'), /needs its JWT/],
  ['a repository by a JWT', ask('GET', '/repos/acme/shop', null, { authorization: 'bearer a.b.c' }), /a token/],
])('%s is a fault', ([, faults, fault]) => {
  expect(faults).toHaveLength(1)
  expect(faults[0]).toMatch(fault)
})

test('the stand-in does not end without a word about a request that is none', async () => {
  const github = await startGitHub()
  await fetch(`${github.url}/repos/acme/shop/stargazers`, { headers })
  await expect(github.stop()).rejects.toThrow('GET /repos/acme/shop/stargazers: @octokit/openapi')
})

test('each operation that the bot names is held against its description', () => {
  const ids = operationsUsed.map(name =>
    name.replace('.', '/').replaceAll(/[A-Z]/g, letter => `-${letter.toLowerCase()}`),
  )
  expect(ids.length).toBeGreaterThan(10)
  expect(operationIds).toEqual(expect.arrayContaining(ids))
})
