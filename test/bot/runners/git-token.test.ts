/** Which runner gets access to which repository, and that the token is written down nowhere. */
import { randomUUID } from 'node:crypto'
import { expect, onTestFinished, test } from 'vitest'
import { openAppAccess } from '../../../src/bot/github/git-access.ts'
import { openGitHub } from '../../../src/bot/github/open.ts'
import { standardRules } from '../../../src/bot/rules/repository-file.ts'
import { openRepositoryRules } from '../../../src/bot/rules/repository-rules.ts'
import { projectKeys, readServing } from '../../../src/config/serving.ts'
import { openLog } from '../../../src/log.ts'
import type { Environment } from '../../../src/schema/environment.ts'
import { environmentOf } from '../../store/fixtures.ts'
import { startGitHub, WEBHOOK_SECRET } from '../../support/github.ts'
import { actionOn, openRunnerStage } from './stage.ts'

type Options = {
  repositories?: string[]
  projects?: string[]
  permissions?: Record<string, string>
  /** The bot's credential; `dev` is a personal token. */
  credential?: 'app' | 'dev'
  ownToken?: string
  /** Repositories of the setting `pool`. */
  pooled?: string[]
}

/** A bot's runner API before a GitHub with acme/shop and acme/api. Runner `one` has the machine of DROP-1. */
const openTokens = async ({
  repositories = ['acme/shop', 'acme/api'],
  projects = ['DROP:acme/shop', 'WEB:acme/api'],
  permissions = { contents: 'write' },
  credential = 'app',
  ownToken,
  pooled = [],
}: Options = {}) => {
  const github = await startGitHub({ more: ['api'], permissions })
  onTestFinished(() => github.stop())
  const log = openLog('silent')
  const late: { projectsNow: (repo: string) => Promise<readonly string[]> } = { projectsNow: async () => [] }
  const stage = await openRunnerStage({
    ...(ownToken === undefined ? {} : { ownToken }),
    git: {
      access: () => access.gitAccess,
      projectsNow: repo => late.projectsNow(repo),
      isPooled: async repo => pooled.includes(repo),
      webUrl: 'https://github.com',
    },
  })
  const { store } = stage
  const { id: appId, privateKey } = github.app
  const both = { repositories, apiUrl: github.url }
  const access = await openGitHub(
    credential === 'app'
      ? { via: 'app', appId, privateKey, webhookSecret: WEBHOOK_SECRET, ...both }
      : { via: 'token', token: 'token-dev', ...both },
    { log, paced: false, repositories: store.repositories },
  )
  // Their names and installations become known.
  await access.repositories()
  late.projectsNow = openRepositoryRules({
    ...{ store, log, clientFor: access.clientFor, clock: Date.now, onProblems: async () => {} },
    standard: standardRules({ projects: projectKeys(projects), assignees: 'me', jiraCommanders: [] }),
    serving: readServing(repositories, projects),
  }).projectsNow
  await stage.heartbeat([environmentOf('DROP-1')])
  const ask = async (more: object = {}, token?: string) => {
    const body = { runnerId: 'one', ticket: 'DROP-1', repo: 'acme/shop', to: 'write', ...more }
    const response = await stage.ask('git-token', body, token === undefined ? {} : { token })
    return {
      status: response.status,
      ...((await response.json()) as { token?: string | null; error?: string; projects?: string[] }),
    }
  }
  const minted = () => github.requests.filter(({ path }) => path.includes('access_tokens'))
  return { ...stage, send: stage.ask, github, access, ask, minted }
}

/** What a token may do, as GitHub judges it. */
const mayRead = async (url: string, token: string, repo: string): Promise<number> =>
  (await fetch(`${url}/repos/${repo}/git/matching-refs/heads%2F`, { headers: { authorization: `token ${token}` } }))
    .status

test('a token for one repository, for its ticket, until it is nearly over', async () => {
  const { ask, github, minted } = await openTokens()
  const before = minted().length
  const given = await ask()
  expect(given).toMatchObject({ status: 200, host: 'https://github.com', token: expect.stringMatching(/^ghs_/) })
  expect(minted().slice(before)).toMatchObject([
    { body: { repositories: ['shop'], permissions: { contents: 'write' } } },
  ])
  expect(await mayRead(github.url, given.token ?? '', 'acme/shop')).toBe(200)
  // Again: the same. To read: another.
  expect((await ask()).token).toBe(given.token)
  expect((await ask({ to: 'read' })).token).not.toBe(given.token)
  expect(
    minted()
      .slice(before)
      .map(({ body }) => (body as { permissions: object }).permissions),
  ).toEqual([{ contents: 'write' }, { contents: 'read' }])
})

test('the answer says which projects the repository serves, as far as its own file lets it', async () => {
  const { ask, store } = await openTokens({ projects: ['DROP:acme/shop', 'WEB:acme/shop+acme/api', 'OPS:acme/shop'] })
  expect(await ask()).toMatchObject({ status: 200, projects: ['DROP', 'WEB', 'OPS'] })
  const file = { etag: null, problems: [], checkedAt: 0 }
  await store.repositories.setFile('acme/shop', { ...file, good: 'projects: [WEB, DROP]' })
  expect(await ask()).toMatchObject({ status: 200, projects: ['DROP', 'WEB'] })
})

test('without a ticket, a token to read what the pool names, and nothing else', async () => {
  const { ask, minted } = await openTokens({ pooled: ['acme/api'] })
  const before = minted().length
  const none = { ticket: null, repo: 'acme/api' }
  expect(await ask({ ...none, to: 'read' })).toMatchObject({ status: 200, token: expect.stringMatching(/^ghs_/) })
  expect(minted().slice(before)).toMatchObject([{ body: { repositories: ['api'], permissions: { contents: 'read' } } }])
  expect(await ask({ ...none, to: 'write' })).toMatchObject({
    status: 403,
    error: 'git access to acme/api: a machine without a ticket pushes nothing',
  })
  expect(await ask({ ticket: null, repo: 'acme/shop', to: 'read' })).toMatchObject({
    status: 403,
    error: 'git access to acme/shop: no machines of it are kept ready',
  })
  expect(minted()).toHaveLength(before + 1)
})

test('requests at once make one token', async () => {
  const { ask, minted } = await openTokens()
  const before = minted().length
  const tokens = await Promise.all(Array.from({ length: 5 }, () => ask()))
  expect(new Set(tokens.map(({ token }) => token)).size).toBe(1)
  expect(minted().length - before).toBe(1)
})

test.for<[what: string, more: object, error: string]>([
  ["another ticket's", { ticket: 'DROP-2' }, 'git access for DROP-2: this runner has no machine of this ticket'],
  [
    'a ticket of another project',
    { ticket: 'WEB-1', repo: 'acme/api' },
    'git access for WEB-1: this runner has no machine of this ticket',
  ],
  ['a repository of another project', { repo: 'acme/api' }, 'git access for DROP-1: acme/api does not serve DROP'],
  ['a repository that is not listed', { repo: 'evil/shop' }, 'git access for DROP-1: evil/shop does not serve DROP'],
  ['a fork', { repo: 'mallory/shop' }, 'git access for DROP-1: mallory/shop does not serve DROP'],
  ['another runner', { runnerId: 'two' }, 'git access for DROP-1: this runner has no machine of this ticket'],
])('refused: %s', async ([, more, error]) => {
  const { ask, minted } = await openTokens()
  const before = minted().length
  expect(await ask(more)).toMatchObject({ status: 403, error })
  expect(minted().length).toBe(before)
})

test.for(['../../shop', 'acme/shop/x', 'acme/..', 'acme/%2e%2e', 'shop', ''])('no repository: %j', async repo => {
  const { ask } = await openTokens()
  expect((await ask({ repo })).status).not.toBe(200)
})

test('refused: a machine that is gone, one that is being deleted, and a token that was revoked', async () => {
  const { ask, heartbeat, store } = await openTokens()
  await heartbeat([environmentOf('DROP-1', { status: 'deleting' } as Partial<Environment>)])
  expect((await ask()).status).toBe(403)
  await heartbeat([environmentOf('DROP-1')])
  expect((await ask()).status).toBe(200)
  await heartbeat([])
  await heartbeat([])
  expect((await ask()).status).toBe(403)
  // Runner `two` gets a token of its own, and loses it.
  await heartbeat([environmentOf('DROP-3')], { runnerId: 'two' })
  expect((await ask({ runnerId: 'two', ticket: 'DROP-3' })).status).toBe(200)
  await store.runnerTokens.revoke('two')
  expect((await ask({ runnerId: 'two', ticket: 'DROP-3' }, 'the-token-of-two')).status).toBe(401)
})

test('a runner that creates the machine has access before its first report', async () => {
  const { ask, enqueue, acquire } = await openTokens()
  await enqueue('a', actionOn('DROP-7', 'create'))
  expect((await ask({ ticket: 'DROP-7' })).status).toBe(403)
  await acquire()
  expect((await ask({ ticket: 'DROP-7' })).status).toBe(200)
  expect((await ask({ ticket: 'DROP-7', runnerId: 'two' })).status).toBe(403)
})

test('an issue that was moved: its present project counts', async () => {
  const { ask, store } = await openTokens()
  await store.inbox.accept([{ source: 'jira', id: 'm', event: 'x', lane: 'm', body: '{}', receivedAt: 0 }])
  const [delivery] = await store.inbox.due(1)
  await store.inbox.settle([
    {
      ...{ seq: delivery?.seq ?? 0, verdict: 'actions', reason: null, actions: [], messages: [], requests: [] },
      effects: [{ kind: 'rename-ticket', from: 'DROP-1', to: 'WEB-1' }],
    },
  ])
  expect(await ask({ repo: 'acme/shop' })).toMatchObject({ status: 403, error: expect.stringContaining('serve WEB') })
  expect((await ask({ repo: 'acme/api' })).status).toBe(200)
})

test.for<[string, Options, string, number]>([
  ['all of an owner', { repositories: ['acme/*'], projects: ['DROP:acme/*'] }, 'acme/api', 200],
  [
    'all of an owner may act, and one serves',
    { repositories: ['acme/*'], projects: ['DROP:acme/shop'] },
    'acme/api',
    403,
  ],
  ['all of an owner, in another case', { repositories: ['acme/*'], projects: ['DROP:acme/*'] }, 'ACME/Shop', 200],
  ['another owner whose name begins alike', { repositories: ['acme/*'], projects: ['DROP:acme/*'] }, 'acme2/shop', 403],
])('%s', async ([, options, repo, status]) => {
  const { ask } = await openTokens(options)
  expect((await ask({ repo })).status).toBe(status)
})

test('a repository that was renamed: its present name is asked for, under either name', async () => {
  const { ask, store, minted } = await openTokens()
  // GitHub calls it acme/api; JIRA_PROJECTS has its previous name.
  await store.repositories.rename(991, 'acme/shop')
  await store.repositories.rename(991, 'acme/api')
  await store.repositories.setInstallation('acme/api', 100)
  for (const repo of ['acme/shop', 'acme/api']) expect((await ask({ repo })).status).toBe(200)
  expect(minted().at(-1)).toMatchObject({ body: { repositories: ['api'] } })
})

test('an App without contents: write: reading works, writing says what is missing and where', async () => {
  const { ask } = await openTokens({ permissions: {} })
  expect((await ask({ to: 'read' })).status).toBe(200)
  expect(await ask()).toEqual({
    status: 403,
    error: 'giving git access to acme/shop: the App lacks the permission contents: write (it has read)',
    remedy: expect.stringMatching(/Permissions & events.*https?:\/\/\S+installations\/100/),
  })
})

test('where the App is not installed: public reading alone', async () => {
  const { ask } = await openTokens({ repositories: ['acme/*', 'other/x'], projects: ['DROP:other/x'] })
  expect(await ask({ repo: 'other/x', to: 'read' })).toMatchObject({ status: 200, token: null })
  expect(await ask({ repo: 'other/x' })).toMatchObject({ status: 403, error: expect.stringContaining('not installed') })
})

test('GitHub that cannot be reached is not a refusal', async () => {
  const { ask, github } = await openTokens()
  github.faults.push({ match: /access_tokens/, answer: { status: 502 } })
  expect(await ask()).toMatchObject({ status: 503 })
  // The failure is not remembered.
  expect((await ask()).status).toBe(200)
})

test('a personal token stays in the process of the bot', async () => {
  const ownToken = randomUUID()
  const { ask } = await openTokens({ credential: 'dev', ownToken })
  expect(await ask()).toMatchObject({
    status: 403,
    error: 'giving git access to acme/shop: the bot has a personal token, and such a token does not leave the bot',
    remedy: expect.stringContaining('agent-swarm up'),
  })
  expect(await ask({}, ownToken)).toMatchObject({ status: 200, token: 'token-dev' })
})

test('with a personal token, public repositories can be read elsewhere, and private ones cannot', async () => {
  const { ask, github } = await openTokens({ credential: 'dev' })
  expect(await ask({ to: 'read' })).toMatchObject({ status: 200, token: null })
  const repository = { id: 1, full_name: 'acme/shop', private: true }
  github.faults.push({ match: /^GET \/repos\/acme\/shop$/, answer: { status: 200, body: repository } })
  expect((await ask({ to: 'read' })).status).toBe(403)
})

test('a token is in the answer alone: not in the log, the store, or what a runner reports', async () => {
  const { ask, send, lines, store, enqueue, acquire } = await openTokens()
  const { token } = await ask()
  await enqueue('a', actionOn('DROP-1', 'start'))
  const { id, token: fence } = await acquire()
  const failure = { kind: 'network', message: `git push https://x:${token}@github.com failed`, remedy: null }
  await send('fail', { runnerId: 'one', id, token: fence, failure, retry: false, environment: null })
  const text = JSON.stringify([lines, await store.queue.list({}), await store.outbox.due(100)])
  expect(token).toMatch(/^ghs_/)
  expect(text).not.toContain(token)
  expect(text).toContain('https://x:[redacted]@github.com')
  const given = lines.map(line => JSON.parse(line)).filter(({ msg }) => /was given access/.test(msg))
  expect(given).toMatchObject([{ runner: 'one', ticket: 'DROP-1', repo: 'acme/shop', to: 'write' }])
})

test('a token is given again until five minutes before its end', async () => {
  let now = Date.now()
  const github = await startGitHub()
  onTestFinished(() => github.stop())
  const { id: appId, privateKey } = github.app
  const app = await openGitHub(
    { via: 'app', appId, privateKey, webhookSecret: WEBHOOK_SECRET, repositories: ['acme/shop'], apiUrl: github.url },
    { log: openLog('silent'), paced: false },
  )
  if (app.asApp === null) throw new Error('no App')
  const give = openAppAccess({ asApp: app.asApp, repositories: { installation: async () => 100 }, clock: () => now })
  const first = await give('acme/shop', 'read', false)
  now = first.expiresAt - 5 * 60_000 - 1_000
  expect(await give('acme/shop', 'read', false)).toBe(first)
  now += 2_000
  expect((await give('acme/shop', 'read', false)).token).not.toBe(first.token)
})

test('a bot that does not know yet where its App is installed asks GitHub', async () => {
  const github = await startGitHub()
  onTestFinished(() => github.stop())
  const { id: appId, privateKey } = github.app
  const app = await openGitHub(
    { via: 'app', appId, privateKey, webhookSecret: WEBHOOK_SECRET, repositories: ['acme/shop'], apiUrl: github.url },
    { log: openLog('silent'), paced: false },
  )
  expect((await app.gitAccess('acme/shop', 'read', true)).token).toMatch(/^ghs_/)
  expect((await app.gitAccess('acme/elsewhere', 'read', true)).token).toBe(null)
  if (app.asApp === null) throw new Error('no App')
  const give = openAppAccess({ asApp: app.asApp, repositories: { installation: async () => null }, clock: Date.now })
  github.faults.push({ match: /access_tokens|installation$/, answer: { status: 502 } })
  await expect(give('acme/shop', 'write', false)).rejects.toThrow('502')
})

test.for([-400, -1, 1, 400])(
  'with a clock that is %i days off, a token is given for as long as it is good',
  async days => {
    const DAY = 24 * 60 * 60_000
    let now = Date.now() + days * DAY
    const github = await startGitHub()
    onTestFinished(() => github.stop())
    const { id: appId, privateKey } = github.app
    const app = await openGitHub(
      { via: 'app', appId, privateKey, webhookSecret: WEBHOOK_SECRET, repositories: ['acme/shop'], apiUrl: github.url },
      { log: openLog('silent'), paced: false },
    )
    if (app.asApp === null) throw new Error('no App')
    const give = openAppAccess({ asApp: app.asApp, repositories: { installation: async () => 100 }, clock: () => now })
    const first = await give('acme/shop', 'read', false)
    expect(Math.abs(first.expiresAt - now - 60 * 60_000)).toBeLessThan(60_000)
    expect(await give('acme/shop', 'read', false)).toBe(first)
    // The clock is corrected: a token that seems to live for days does not.
    now -= days * DAY
    const second = await give('acme/shop', 'read', false)
    expect(second.token).not.toBe(first.token)
    expect(await give('acme/shop', 'read', false)).toBe(second)
  },
)
