/** What the bot makes of answers that are none: each use of an answer, with each fault of an API. Nothing is decided by one. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { describedRequests } from '../../src/bot/github/answers.ts'
import { type Octokit, watchedFetch } from '../../src/bot/github/client.ts'
import { openGitHub } from '../../src/bot/github/open.ts'
import { accessOf, teamsOf } from '../../src/bot/github/people.ts'
import {
  latestPullRequests,
  openPullRequests,
  pullRequestCommits,
  readPullRequest,
} from '../../src/bot/github/pull-request.ts'
import { openJira } from '../../src/bot/jira/client.ts'
import { troubleOf } from '../../src/bot/publish/trouble.ts'
import { isRetryable } from '../../src/errors.ts'
import { openLog } from '../../src/log.ts'
import { type Fault, startFaultyApi } from '../support/faulty-api.ts'

// ── What they answer when they work ──

const pull = {
  ...{ number: 7, title: 'x', state: 'open', draft: false, merged: false, merged_at: null, closed_at: null },
  updated_at: '2026-11-24T10:00:00Z',
  head: { ref: 'drop-1', sha: 'a'.repeat(40), repo: { full_name: 'acme/shop' } },
  base: { repo: { full_name: 'acme/shop' } },
}
const repository = { id: 1, full_name: 'acme/shop', private: true, permissions: { push: true } }
const onGitHub: readonly [path: RegExp, answer: unknown][] = [
  [/permission$/, { permission: 'write', role_name: 'write', user: null }],
  [/memberships/, { state: 'active' }],
  [/pulls\/7\/commits/, [{ sha: 'b'.repeat(40) }]],
  [/pulls\/7$/, pull],
  [/pulls\?/, [pull]],
  [/comments/, [{ id: 1, body: 'x', user: null }]],
  [/\/user$/, { login: 'dev' }],
  [/\/user\/repos/, [repository]],
  [/graphql/, { data: { viewer: { login: 'dev' } } }],
  [/repos\/acme\/shop$/, repository],
]
const status = { id: '3', name: 'In Progress', statusCategory: { key: 'indeterminate' } }
const fields = { status, assignee: { accountId: 'us' }, labels: [], created: '2026-11-24T10:00:00.000+0000' }
const changelog = { histories: [], total: 0 }
const comment = {
  ...{ id: '1', author: { accountId: 'us' }, body: { type: 'doc' } },
  ...{ created: '2026-11-24T10:00:00.000+0000', updated: '2026-11-24T10:00:00.000+0000' },
}
const inJira: readonly [path: RegExp, answer: unknown][] = [
  [/myself/, { accountId: 'us' }],
  [/comment\/1/, comment],
  [/\/comment/, { comments: [comment], isLast: true, id: '2' }],
  [/transitions/, { transitions: [{ id: '1', to: status }] }],
  [/issue\/DROP-1/, { key: 'DROP-1', fields }],
  [/bulkfetch|search\/jql/, { issues: [{ key: 'DROP-1', fields, changelog }], isLast: true }],
  [/status$/, [status]],
  [/project\/search/, { values: [{ key: 'DROP' }] }],
  [/project\//, { key: 'DROP', name: 'Drop' }],
  [/mypermissions/, { permissions: { BROWSE_PROJECTS: { havePermission: true } } }],
  [/serverInfo/, { serverTime: '2026-11-24T10:00:00.000+0000' }],
]
const rightFrom =
  (rows: readonly [RegExp, unknown][]) =>
  ({ url = '' }: { url?: string | undefined }): unknown =>
    rows.find(([path]) => path.test(url))?.[1] ?? {}

type Api = Awaited<ReturnType<typeof startFaultyApi>>
let [hub, board] = [null as unknown as Api, null as unknown as Api]
let octokit = null as unknown as Octokit
/** What hangs is waited for until the deadline, here a fiftieth of it. */
let isWaitedFor = false
beforeAll(async () => {
  const timeout = AbortSignal.timeout.bind(AbortSignal)
  vi.spyOn(AbortSignal, 'timeout').mockImplementation(ms => timeout(isWaitedFor ? ms / 50 : ms))
  hub = await startFaultyApi({ message: 'refused', documentation_url: 'https://docs' }, rightFrom(onGitHub))
  board = await startFaultyApi({ errorMessages: ['refused'], errors: {} }, rightFrom(inJira))
  const settings = { via: 'token', token: 't', repositories: [], apiUrl: hub.url } as const
  const github = await openGitHub(settings, { log: openLog('silent'), paced: false })
  octokit = (await github.clientFor('acme/shop')) as Octokit
})
afterAll(() => {
  vi.restoreAllMocks()
  hub.close()
  board.close()
})
const jira = () =>
  openJira({ url: board.url, email: 'bot@example.com', apiToken: 'token', webhookSecret: null, automationSecret: null })

const FAULTS: readonly Fault[] = [
  ...([
    'hangs',
    'drips',
    'is reset',
    'is cut off',
    'is cut off, and its length fits',
    'is empty',
    'is a page',
  ] as const),
  ...(['is a page that calls itself JSON', 'is an error with status 200', 'is null', 'is a list of numbers'] as const),
  ...(['500 of its own', '503 of a proxy', '429 of its own', '429 of a proxy', '403 of its own'] as const),
  ...(['403 of a proxy', '404 of a proxy', '401 of a proxy', '401 of its own'] as const),
]
const place = { repo: 'acme/shop', number: 7 }
/** Each use, and what it gives when GitHub works. */
const githubUses: Readonly<Record<string, [use: () => Promise<unknown>, expected: unknown]>> = {
  'what somebody may do': [
    async () => accessOf({}, octokit, 'acme/shop', 'dev', Date.now()),
    { permission: 'write', isColleague: true },
  ],
  'who is in a team': [async () => teamsOf(octokit, ['acme/ops'], 'dev', Date.now()), ['acme/ops']],
  'a pull request': [async () => (await readPullRequest(octokit, place, Date.now()))?.state, 'open'],
  'the commits of a pull request': [
    async () => pullRequestCommits(octokit, place, Date.now()),
    ['a'.repeat(40), 'b'.repeat(40)],
  ],
  'the open pull requests': [async () => (await openPullRequests(octokit, 'acme/shop', Date.now())).length, 1],
  'the latest pull requests': [async () => (await latestPullRequests(octokit, 'acme/shop')).length, 1],
  'the comments of a pull request': [
    async () =>
      (await octokit.paginate(octokit.rest.issues.listComments, { owner: 'acme', repo: 'shop', issue_number: 7 }))
        .length,
    1,
  ],
  'our login': [async () => (await octokit.rest.users.getAuthenticated()).data.login, 'dev'],
  GraphQL: [async () => octokit.graphql('{ viewer { login } }'), { viewer: { login: 'dev' } }],
}
const jiraUses: Readonly<Record<string, [use: () => Promise<unknown>, expected: unknown]>> = {
  'our account': [() => jira().me(), 'us'],
  'an issue': [async () => (await jira().issue('DROP-1'))?.category, 'indeterminate'],
  'the text of an issue': [async () => (await jira().taskOf('DROP-1')) !== null, true],
  'a search': [async () => (await jira().search('x', 0)).length, 1],
  'issues by key': [async () => (await jira().issuesOf(['DROP-1'])).length, 1],
  'a comment': [async () => (await jira().readComment('DROP-1', '1'))?.edited, false],
  'our comment': [() => jira().findByFirstLine('DROP-1', 'x'), null],
  'a new comment': [() => jira().comment('DROP-1', { type: 'doc', version: 1, content: [] }), '2'],
  'the category of a status': [() => jira().categoryOf('3'), 'indeterminate'],
  transitions: [async () => (await jira().transitions('DROP-1')).length, 1],
  'the clock': [() => jira().now(), Date.parse('2026-11-24T10:00:00Z')],
  'our permissions': [() => jira().lacks('DROP', ['BROWSE_PROJECTS']), []],
  'a project': [async () => (await jira().project('DROP'))?.name, 'Drop'],
}

const failureFrom = async (use: () => Promise<unknown>, fault: Fault | null = null): Promise<unknown> => {
  isWaitedFor = fault === 'hangs' || fault === 'drips'
  const failure = await use().then(
    result => ({ decided: result }),
    (error: unknown) => error,
  )
  isWaitedFor = false
  return failure
}
/** It is tried again, at once or when somebody has acted. */
const isTriedAgain = (error: unknown): boolean => {
  if (!(error instanceof Error)) return false
  const trouble = troubleOf(error, Date.now())
  return trouble.allows !== 'never' && (isRetryable(trouble.failure.kind) || trouble.failure.kind === 'permission')
}

test.for(FAULTS)('GitHub: a response that %s decides nothing, and is asked for again', async fault => {
  for (const [name, [use, expected]] of Object.entries(githubUses)) {
    // A token may lack the permission to read members; their answer says so.
    if (name === 'who is in a team' && fault === '403 of its own') continue
    hub.answerWith(fault)
    const failure = await failureFrom(use, fault)
    expect(isTriedAgain(failure), `${name}: ${JSON.stringify(failure)}`).toBe(true)
    hub.answerWith(null)
    expect(await use(), name).toEqual(expected)
  }
})

test.for(FAULTS)('Jira: a response that %s decides nothing, and is asked for again', async fault => {
  for (const [name, [use, expected]] of Object.entries(jiraUses)) {
    board.answerWith(fault)
    const failure = await failureFrom(use, fault)
    expect(isTriedAgain(failure), `${name}: ${JSON.stringify(failure)}`).toBe(true)
    board.answerWith(null)
    expect(await use(), name).toEqual(expected)
  }
})

test('a refusal by GitHub or Jira itself that names what is gone is final', async () => {
  hub.answerWith('404 of its own')
  board.answerWith('404 of its own')
  expect(await accessOf({}, octokit, 'acme/shop', 'dev', 0)).toEqual({ permission: 'none', isColleague: false })
  expect(await readPullRequest(octokit, place, 0)).toBeNull()
  expect(await jira().issue('DROP-1')).toBeNull()
  expect(await jira().readComment('DROP-1', '1')).toBeNull()
  hub.answerWith(null)
  board.answerWith(null)
})

test('a move in Jira that a login page answers is not taken for made', async () => {
  for (const fault of ['is a page', 'is empty', 'is cut off'] as const) {
    board.answerWith(fault)
    expect(isTriedAgain(await failureFrom(() => jira().transition('DROP-1', '1'))), fault).toBe(true)
  }
  board.answerWith(null)
})

test('a response without end is given up at its limit', async () => {
  hub.answerWith('is endless')
  board.answerWith('is endless')
  const { fetch } = watchedFetch(null)
  await expect(fetch(`${hub.url}/repos/acme/shop`)).rejects.toThrow(/more than 16777216 bytes|no whole answer/)
  expect(isTriedAgain(await failureFrom(() => jira().me()))).toBe(true)
  hub.answerWith(null)
  board.answerWith(null)
})

test('a failure names its request', async () => {
  hub.answerWith('is cut off, and its length fits')
  await expect(accessOf({}, octokit, 'acme/shop', 'dev', 0)).rejects.toThrow(
    "reading the permission of dev in acme/shop: GitHub's answer cannot be used: GET /repos/acme/shop/collaborators/dev/permission: the response is cut off, or it is not JSON",
  )
  hub.answerWith(null)
})

test('GraphQL errors beside data are an error', async () => {
  const api = await startFaultyApi({}, () => ({ data: { x: 1 }, errors: [{ message: 'half of it failed' }] }))
  const settings = { via: 'token', token: 't', repositories: [], apiUrl: api.url } as const
  const github = await openGitHub(settings, { log: openLog('silent'), paced: false })
  await expect((await github.clientFor(''))?.graphql('{ x }')).rejects.toThrow('half of it failed')
  api.close()
})

test('what each request to GitHub must answer is described', async () => {
  const { readFileSync, globSync } = await import('node:fs')
  const used = globSync('src/**/*.ts').flatMap(file =>
    [...readFileSync(file, 'utf8').matchAll(/\brest\.(\w+)\.(\w+)\b/g)].map(([, scope = '', name = '']) => {
      const endpoints = octokit.rest as unknown as Record<
        string,
        Record<string, { endpoint: { DEFAULTS: { method: string; url: string } } }>
      >
      const { method, url } = endpoints[scope]?.[name]?.endpoint.DEFAULTS ?? { method: name, url: scope }
      return `${method} ${url}`
    }),
  )
  expect([...new Set(used)].filter(request => !describedRequests.includes(request))).toEqual([])
})
