/** Checking requests against GitHub's description of its API finds faults. */
import { expect, test } from 'vitest'
import { startGitHub } from './github.ts'
import { faultsOfRequest, operationIds, operationsUsed } from './github-requests.ts'

const headers = { 'user-agent': 'a test', authorization: 'token ghs_1', 'content-type': 'application/json' }
const faultsOf = (method: string, path: string, body: unknown = null, more: object = {}) =>
  faultsOfRequest({ method, path, body, headers: { ...headers, ...more } })
const comments = '/repos/acme/shop/issues/1/comments'

test.for<[string, string[]]>([
  ['a comment', faultsOf('POST', comments, { body: 'x' })],
  [
    'comments of a repository',
    faultsOf('GET', '/repos/acme/shop/issues/comments?sort=updated&since=2026-01-01T00:00:00Z'),
  ],
  ['a file in a folder', faultsOf('GET', '/repos/acme/shop/contents/.github/agent-swarm.yml?ref=main')],
  ['refs with slashes', faultsOf('GET', '/repos/acme/shop/git/matching-refs/heads/drop-1/x')],
  ['a page', faultsOf('GET', '/repos/acme/shop/pulls?state=all&per_page=100&page=2')],
  ['an App by its JWT', faultsOf('GET', '/app', null, { authorization: 'bearer a.b.c' })],
])('%s matches the description', ([, faults]) => expect(faults).toEqual([]))

test.for<[string, string[], RegExp]>([
  ['an unknown operation', faultsOf('GET', '/repos/acme/shop/stargazers'), /has no such operation/],
  ['another method', faultsOf('DELETE', comments), /has no such operation/],
  ['half a path', faultsOf('GET', '/repos/acme'), /has no such operation/],
  ['text for a number', faultsOf('GET', '/repos/acme/shop/pulls/one'), /the URL\/pull_number must be integer/],
  [
    'an unknown state',
    faultsOf('GET', '/repos/acme/shop/pulls?state=merged'),
    /the URL\/state must be equal to one of/,
  ],
  [
    'text for a time',
    faultsOf('GET', '/repos/acme/shop/issues/comments?since=now'),
    /the URL\/since must match format/,
  ],
  ['an unknown parameter', faultsOf('GET', '/repos/acme/shop?perpage=1'), /the URL must NOT have additional/],
  ['a comment without text', faultsOf('POST', comments, {}), /the body must have required property 'body'/],
  ['no body', faultsOf('POST', comments), /there is no body/],
  ['a body with a GET', faultsOf('GET', comments, {}), /there is a body/],
  ['an unknown member', faultsOf('POST', comments, { body: 'x', text: 'x' }), /the body must NOT have additional/],
  ['a number for text', faultsOf('POST', comments, { body: 1 }), /the body\/body must be string/],
  [
    'a body of another type',
    faultsOf('POST', comments, { body: 'x' }, { 'content-type': 'text/plain' }),
    /not sent as JSON/,
  ],
  ['no authorization', faultsOf('GET', '/repos/acme/shop', null, { authorization: undefined }), /no Authorization/],
  ['no user agent', faultsOf('GET', '/repos/acme/shop', null, { 'user-agent': undefined }), /no User-Agent/],
  ['an App by a token', faultsOf('GET', '/app'), /need its JWT/],
  ['a repository by a JWT', faultsOf('GET', '/repos/acme/shop', null, { authorization: 'bearer a.b.c' }), /a token/],
])('%s is a fault', ([, faults, fault]) => {
  expect(faults).toHaveLength(1)
  expect(faults[0]).toMatch(fault)
})

test('the stand-in fails at its end when a request was invalid', async () => {
  const github = await startGitHub()
  await fetch(`${github.url}/repos/acme/shop/stargazers`, { headers })
  await expect(github.stop()).rejects.toThrow('GET /repos/acme/shop/stargazers: @octokit/openapi')
})

test('each operation that the bot uses is described', () => {
  const ids = operationsUsed.map(name =>
    name.replace('.', '/').replaceAll(/[A-Z]/g, letter => `-${letter.toLowerCase()}`),
  )
  expect(ids.length).toBeGreaterThan(10)
  expect(operationIds).toEqual(expect.arrayContaining(ids))
})
