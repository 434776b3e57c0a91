/** Checks of credentials and permissions: what each reports about everything that can be wrong. */
import { generateKeyPairSync } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type Features, readManifest } from '../../src/bot/github/app-needs.ts'
import {
  checkApp,
  checkAppRepositories,
  checkToken,
  checkTokenRepositories,
  missingForFeatures,
} from '../../src/bot/github/check.ts'
import { checkJiraAccount, checkJiraProjects, checkJiraWebhook, suggestProjects } from '../../src/bot/jira/check.ts'
import { gatewayOf } from '../../src/bot/jira/gateway.ts'
import type { Check } from '../../src/check.ts'
import type { AppSettings, Config, JiraSettings } from '../../src/config/config.ts'
import { type GitHubStandIn, startGitHub, WEBHOOK_SECRET } from '../support/github.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'

const UNREACHABLE = 'http://127.0.0.1:9'
type Finding = Pick<Check, 'status' | 'text' | 'remedy'>
const textsOf = (findings: readonly Finding[]) => findings.map(({ status, text }) => `${status}: ${text}`)
/** Everything that is not ok. Every error has a remedy. */
const complaintsOf = (findings: readonly Finding[]) => {
  for (const { status, remedy } of findings) if (status === 'error') expect(remedy).toMatch(/\w/)
  return textsOf(findings.filter(row => row.status !== 'ok'))
}
const configWith = (part: Partial<Config>) => ({ github: null, jira: null, projects: [], ...part }) as Config

const manifest = await readManifest({})

describe('GitHub', () => {
  let github: GitHubStandIn
  beforeAll(async () => {
    github = await startGitHub({ people: { dev: 'push', reader: 'pull' } })
  })
  afterAll(() => github.stop())
  afterEach(() => {
    expect(github.faults.splice(0)).toEqual([])
  })
  /** GitHub's answer to the next request that matches. */
  const answerOnce = (match: RegExp, body: unknown, headers: Record<string, string> = {}, status = 200) =>
    github.faults.push({ match, answer: { status, headers, body } })

  describe('a token', () => {
    const check = async (token: string, repositories: string[] = ['acme/shop'], apiUrl = github.url) => {
      const config = configWith({ github: { via: 'token', token, repositories, apiUrl } })
      return { account: await checkToken(config), repositories: await checkTokenRepositories(config) }
    }
    const refused = { message: 'Resource not accessible by personal access token' }
    const dev = { login: 'dev' }

    test('with every permission', async () => {
      const { account, repositories } = await check('token-dev')
      expect(textsOf([...account, ...repositories])).toEqual([
        'ok: signed in as dev with a token that has the scope repo',
        expect.stringMatching(/^ok: \d+ of 5000 requests are left until /),
        'ok: acme/shop can be read and written',
      ])
    })
    test('of a *, the repositories that are polled are named', async () => {
      expect(textsOf((await check('token-dev', ['acme/*'])).repositories)).toEqual(['ok: acme/* is acme/shop'])
      expect(complaintsOf((await check('token-dev', ['evil/*'])).repositories)).toEqual([
        'error: the token reaches no repository of evil',
      ])
    })
    test('unknown to GitHub', async () => {
      expect(complaintsOf((await check('token-nobody')).account)).toEqual(['error: GitHub does not know this token'])
    })
    test.for([
      ['', 'error: the token of dev needs the scope repo for its repositories, and has none'],
      ['gist, read:org', 'error: the token of dev needs the scope repo for its repositories, and has gist, read:org'],
      ['public_repo', 'warning: signed in as dev with a token for public repositories only (scope public_repo)'],
    ] as const)('with the scopes "%s"', async ([scopes, text]) => {
      answerOnce(/^GET \/user$/, dev, { 'x-oauth-scopes': scopes })
      expect(complaintsOf((await check('token-dev')).account)).toEqual([text])
    })
    test('expires soon, and its account has few requests left', async () => {
      const at = new Date(Date.now() + 3 * 24 * 60 * 60_000)
      const rate = { 'x-ratelimit-limit': '5000', 'x-ratelimit-remaining': '7', 'x-ratelimit-reset': '2000000000' }
      const expires = {
        'github-authentication-token-expiration': `${at.toISOString().slice(0, 19).replace('T', ' ')} UTC`,
      }
      answerOnce(/^GET \/user$/, dev, { 'x-oauth-scopes': 'repo', ...rate, ...expires })
      expect(complaintsOf((await check('token-dev')).account)).toEqual([
        `warning: the token expires on ${at.toISOString().slice(0, 10)}`,
        expect.stringContaining('warning: only 7 of 5000 requests are left'),
      ])
    })
    test.for([
      [[/^GET .*matching-refs/], ['Contents: read']],
      [[/^POST .*\/issues$/], ['Issues: read and write']],
      [[/^POST .*\/pulls$/], ['Pull requests: read and write']],
      [
        [/^GET .*matching-refs/, /^POST .*\/pulls$/],
        ['Contents: read', 'Pull requests: read and write'],
      ],
      [[], []],
    ] as const)('a fine-grained token without %j', async ([without, missing]) => {
      // Each of the two steps reads the account.
      for (const _ of ['account', 'repositories']) answerOnce(/^GET \/user$/, dev)
      for (const match of without) answerOnce(match, refused, {}, 403)
      const { account, repositories } = await check('token-dev')
      expect(textsOf(account)[0]).toBe('ok: signed in as dev with a fine-grained token')
      expect(complaintsOf(repositories)).toEqual(
        missing.map(permission => `error: acme/shop: the token lacks the permission ${permission}`),
      )
      // The writes leave out what GitHub requires, so that they write nothing.
      expect(
        github.invalid.splice(0).map(request => request.match(/^POST \/repos\/acme\/shop\/(\w+): .* 'title'/)?.[1]),
      ).toEqual(expect.arrayContaining(['issues']))
    })
    test('not authorized for an organization with single sign-on', async () => {
      const sso = 'https://github.com/orgs/acme/sso?authorization_request=AbC'
      answerOnce(
        /^GET \/repos\/acme\/shop$/,
        { message: 'Resource protected by organization SAML enforcement.' },
        { 'x-github-sso': `required; url=${sso}` },
        403,
      )
      const [named] = (await check('token-dev')).repositories
      expect(named).toMatchObject({ status: 'error', remedy: expect.stringContaining('"Configure SSO"') })
      answerOnce(/^GET \/user\/repos\?per_page=1$/, [], {
        'x-github-sso': 'partial-results; organizations=21955855,20582480',
      })
      expect(textsOf((await check('token-dev', ['acme/*'])).repositories)).toEqual([
        'ok: acme/* is acme/shop',
        'warning: the repositories of an organization are hidden from this token',
      ])
    })
    test('repositories that are missing, read-only or archived', async () => {
      expect(complaintsOf((await check('token-dev', ['acme/none'])).repositories)).toEqual([
        'error: GitHub shows no repository acme/none',
      ])
      expect(complaintsOf((await check('token-reader')).repositories)).toEqual([
        'error: acme/shop can be read but not written',
      ])
      const archived = { id: 1, full_name: 'acme/shop', private: false, archived: true, permissions: { push: true } }
      answerOnce(/^GET \/repos\/acme\/shop$/, archived)
      expect(complaintsOf((await check('token-dev')).repositories)).toEqual([
        'error: acme/shop is archived: nothing happens there',
      ])
    })
    test('GitHub cannot be reached', async () => {
      const { account, repositories } = await check('token-dev', ['acme/shop'], UNREACHABLE)
      expect(complaintsOf([...account, ...repositories])).toEqual([
        expect.stringContaining('error: checking the GitHub token: GitHub cannot be reached'),
        expect.stringContaining('error: checking acme/shop: GitHub cannot be reached'),
      ])
    })
  })

  describe('an App', () => {
    const check = (changes: Partial<AppSettings> = {}, features: Features = {}) => {
      const { id: appId, privateKey } = github.app
      const settings = {
        via: 'app',
        appId,
        privateKey,
        webhookSecret: WEBHOOK_SECRET,
        repositories: ['acme/shop'],
        apiUrl: github.url,
      } as const
      const config = configWith({ github: { ...settings, ...changes }, ...features })
      return checkApp(config)
    }
    const { default_permissions: permissions, default_events: events } = manifest
    const app = (changes: object = {}) => ({
      id: 7,
      slug: 'agent-swarm',
      html_url: 'https://x/apps/a',
      permissions,
      events,
      ...changes,
    })
    const installation = (changes: object = {}) => [
      {
        id: 100,
        account: { login: 'acme' },
        permissions,
        html_url: 'https://x/i/1',
        repository_selection: 'all',
        suspended_at: null,
        ...changes,
      },
    ]

    test('with every permission', async () => {
      expect(textsOf(await check())).toEqual([
        'ok: the webhook secret is long enough',
        'ok: the App is agent-swarm, and its key is valid',
        'ok: the App has the permissions and events that it needs',
        'ok: the webhook of the App points to https://swarm.example.org/api/github/webhooks',
        'ok: the App is installed on acme, for all repositories',
      ])
    })
    test('which of the listed repositories it reaches', async () => {
      const { id: appId, privateKey } = github.app
      const repositories = ['acme/shop', 'acme/none', 'acme/*']
      const settings = { via: 'app', appId, privateKey, webhookSecret: WEBHOOK_SECRET, repositories } as const
      const config = configWith({ github: { ...settings, apiUrl: github.url } })
      expect(textsOf(await checkAppRepositories(config))).toEqual([
        'ok: acme/shop is reached',
        'error: the App reaches no repository acme/none',
        'ok: acme/* is acme/shop',
      ])
    })
    test('a malformed key, and the key of another App', async () => {
      expect(complaintsOf(await check({ privateKey: '-----BEGIN PRIVATE KEY-----\nx' }))).toEqual([
        'error: the private key is not an RSA key in PEM form',
      ])
      const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
      const other = privateKey.export({ type: 'pkcs1', format: 'pem' }).toString()
      expect(complaintsOf(await check({ privateKey: other }))).toEqual([
        'error: GitHub does not accept this key for App 7',
      ])
    })
    test('a secret that is easy to guess', async () => {
      expect(complaintsOf(await check({ webhookSecret: 'development' }))).toEqual([
        'error: the webhook secret is easy to guess: it has 11 characters',
      ])
      expect(complaintsOf(await check({ webhookSecret: 'a'.repeat(40) }))).toHaveLength(1)
    })
    test.for([
      ...Object.entries(permissions)
        .filter(([name]) => name !== 'metadata' && name !== 'members')
        .map(([name, needed]) => [
          { permissions: { ...permissions, [name]: undefined } },
          `error: the App lacks the permission ${name}: ${needed} (it has none)`,
        ]),
      [
        { permissions: { ...permissions, issues: 'read' } },
        'error: the App lacks the permission issues: write (it has read)',
      ],
      [
        { permissions: { ...permissions, members: undefined } },
        'warning: the App lacks the permission members: read (it has none); rules that name teams need it',
      ],
      [
        { permissions: { ...permissions, administration: 'write' } },
        'warning: the App also has permissions that nothing uses: administration',
      ],
      ...events.map(event => [
        { events: events.filter(name => name !== event) },
        `error: the App is not subscribed to the event ${event}`,
      ]),
    ] as const)('an App with %j', async ([changes, text]) => {
      answerOnce(/^GET \/app$/, app(changes as object))
      expect(complaintsOf(await check())).toEqual([text])
    })
    test.for([
      [
        { permissions: { ...permissions, issues: 'read' } },
        'error: the installation on acme lacks the permission issues: write (it has read)',
      ],
      [{ suspended_at: '2026-11-01T00:00:00Z' }, 'error: the App is suspended on acme'],
    ] as const)('an installation with %j', async ([changes, text]) => {
      answerOnce(/^GET \/app\/installations/, installation(changes))
      expect(complaintsOf(await check())).toEqual([text])
    })
    test.for<[Features, string[]]>([
      [{ agent: null, transitions: {}, workspace: {} }, []],
      [{ transitions: { review: true, done: true } }, []],
      [
        { agent: { use: 'claude' } },
        [
          'error: the App lacks the permission contents: write (it has read); the agent (`agent`) pushes with it',
          'error: the installation on acme lacks the permission contents: write (it has read); the agent (`agent`) pushes with it',
        ],
      ],
      [
        { transitions: { pullRequest: 'draft' } },
        [
          'error: the App lacks the permission contents: write (it has read); pull requests of pushes (`transitions.pullRequest`) need it',
          'error: the installation on acme lacks the permission contents: write (it has read); pull requests of pushes (`transitions.pullRequest`) need it',
        ],
      ],
      [
        { workspace: { 'acme/shop': {} } },
        [
          'warning: the App lacks the permission contents: write (it has read); people in a machine push with it (`workspace`)',
          'warning: the installation on acme lacks the permission contents: write (it has read); people in a machine push with it (`workspace`)',
        ],
      ],
    ])('what an existing App lacks for %j', async ([features, complaints]) => {
      expect(complaintsOf(await check({}, features))).toEqual(complaints)
    })
    test('reviews and checks are asked for with rounds alone', async () => {
      answerOnce(/^GET \/app$/, app({ permissions: { ...permissions, contents: 'write' } }))
      answerOnce(/^GET \/app\/installations/, installation({ permissions: { ...permissions, contents: 'write' } }))
      const use = 'reviews and failed checks (`agent.rounds`) need it'
      expect(complaintsOf(await check({}, { agent: { use: 'claude', rounds: 2 } }))).toEqual([
        `error: the App lacks the permission checks: read (it has none); ${use}`,
        `error: the App is not subscribed to the event pull_request_review; ${use}`,
        `error: the App is not subscribed to the event check_suite; ${use}`,
        `error: the installation on acme lacks the permission checks: read (it has none); ${use}`,
      ])
    })
    test('the start names what the App lacks, with the link', async () => {
      const { id: appId, privateKey } = github.app
      const settings = { via: 'app', appId, privateKey, webhookSecret: WEBHOOK_SECRET, repositories: [] } as const
      expect(
        await missingForFeatures({ github: { ...settings, apiUrl: github.url }, agent: { use: 'codex' } }),
      ).toEqual([
        {
          status: 'error',
          text: expect.stringContaining('lacks the permission contents: write'),
          remedy: expect.stringMatching(/Permissions & events.*https?:\/\//),
        },
      ])
    })
    test('not installed anywhere', async () => {
      answerOnce(/^GET \/app\/installations/, [])
      expect(complaintsOf(await check())).toEqual(['error: the App is not installed anywhere'])
    })
    test.for([
      [
        { url: 'https://swarm.example.org/', content_type: 'json' },
        'error: the webhook of the App points to https://swarm.example.org/',
      ],
      [
        { url: 'https://swarm.example.org/api/github/webhooks', content_type: 'form' },
        'error: the webhook of the App sends form, not JSON',
      ],
    ] as const)('a webhook with %j', async ([hook, text]) => {
      answerOnce(/^GET \/app\/hook\/config/, hook)
      expect(complaintsOf(await check())).toEqual([text])
    })
    test('a wrong clock', async () => {
      answerOnce(/^GET \/app$/, app(), { date: new Date(Date.now() - 120_000).toUTCString() })
      expect(complaintsOf(await check())).toEqual([
        expect.stringMatching(/^warning: the clock of this host is 1[12]\d s off$/),
      ])
    })
    test('GitHub cannot be reached', async () => {
      expect(complaintsOf(await check({ apiUrl: UNREACHABLE }))).toEqual([
        expect.stringContaining('error: reading the App from GitHub: GitHub cannot be reached'),
      ])
    })
  })
})

describe('Jira', () => {
  let jira: JiraStandIn
  beforeAll(async () => {
    jira = await startJira({ issues: { 'DROP-1': 'one', 'WEB-1': 'two' } })
  })
  afterAll(() => jira.stop())
  afterEach(() => {
    jira.lacks.clear()
    jira.setDown(false)
  })
  const settingsWith = (changes: Partial<JiraSettings>): JiraSettings => ({
    ...{
      url: jira.url,
      email: jira.me.emailAddress,
      apiToken: jira.token,
      webhookSecret: null,
      automationSecret: null,
    },
    ...changes,
  })
  const checkAccount = (changes: Partial<JiraSettings> = {}) =>
    checkJiraAccount(configWith({ jira: settingsWith(changes) }))
  const checkProject = (key: string, changes: Partial<JiraSettings> = {}) => {
    const config = configWith({ jira: settingsWith(changes), projects: [key] })
    return checkJiraProjects(config)
  }
  /** The texts, and the address that the site is corrected to. */
  const accountTexts = async (changes: Partial<JiraSettings> = {}) => {
    const findings = await checkAccount(changes)
    complaintsOf(findings)
    const corrections = findings.flatMap(({ correction }) => (correction === undefined ? [] : [correction.join(': ')]))
    return [...textsOf(findings), ...corrections]
  }
  const withScopes = (changes: Partial<JiraSettings> = {}) => ({ apiToken: jira.scoped.token, ...changes })

  test('an account with every permission', async () => {
    expect(await accountTexts()).toEqual([`ok: dev@example.org is signed in at ${jira.url}`])
    expect(textsOf(await checkProject('DROP'))).toEqual(['ok: DROP (Project DROP) can be read and commented on'])
    expect(await suggestProjects(configWith({ jira: settingsWith({}) }))).toEqual(['DROP', 'WEB'])
  })
  test.for([
    [
      { apiToken: 'wrong' },
      /neither http:\S+ nor http:\S+\/ex\/jira\/[0-9a-f-]+ accepts this token of dev@example\.org$/,
    ],
    [{ email: 'other@example.org' }, /accepts this token of other@example\.org$/],
    [{ email: 'nobody' }, /e-mail address$/],
    [{ url: UNREACHABLE }, /Jira cannot be reached/],
  ] as const)('with %j', async ([changes, text]) => {
    expect(await accountTexts(changes)).toEqual([expect.stringMatching(text)])
  })
  test('Jira is down', async () => {
    jira.setDown(true)
    expect(await accountTexts()).toEqual([expect.stringContaining('Jira answered 503')])
  })

  describe('a token with scopes', () => {
    const notAtSite = () =>
      `warning: ${jira.url} does not accept this token: a token with scopes belongs to ${jira.scoped.url}`
    afterEach(() => {
      for (const scope of ['read:jira-user', 'read:jira-work', 'write:jira-work']) jira.scoped.scopes.add(scope)
      jira.tellTenant(null)
      jira.requests.splice(0)
    })

    test('is accepted at the gateway, which the site leads to', async () => {
      expect(await accountTexts(withScopes())).toEqual([
        notAtSite(),
        `ok: dev@example.org is signed in at ${jira.scoped.url}`,
        `jiraHost: ${jira.scoped.url}`,
      ])
      const atGateway = withScopes({ url: jira.scoped.url })
      expect(await accountTexts(atGateway)).toEqual([`ok: dev@example.org is signed in at ${jira.scoped.url}`])
      expect(textsOf(await checkProject('DROP', atGateway))).toEqual([
        'ok: DROP (Project DROP) can be read and commented on',
      ])
    })
    test.for([
      [['read:jira-user'], 'the scope read:jira-user'],
      [['read:jira-work'], 'the scope read:jira-work'],
      [['write:jira-work'], 'the scope write:jira-work'],
      [['read:jira-user', 'write:jira-work'], 'the scopes read:jira-user, write:jira-work'],
    ] as const)('without %s', async ([scopes, missing]) => {
      for (const scope of scopes) jira.scoped.scopes.delete(scope)
      const lacks = `error: the token of dev@example.org lacks ${missing}`
      expect(await accountTexts(withScopes())).toEqual([notAtSite(), lacks])
      const findings = await checkAccount(withScopes({ url: jira.scoped.url }))
      expect(textsOf(findings)).toEqual([lacks])
      expect(findings[0]?.remedy).toContain('read:jira-user, read:jira-work and write:jira-work')
    })
    test('is tried with a write that writes nothing', async () => {
      await checkAccount(withScopes())
      const written = jira.requests
        .filter(request => request.method !== 'GET')
        .map(({ method, path }) => `${method} ${path}`)
      const { pathname } = new URL(jira.scoped.url)
      expect(written).toEqual([`POST ${pathname}/rest/api/3/issue/NONE-0/comment`])
      expect(['DROP-1', 'WEB-1'].flatMap(jira.comments)).toEqual([])
    })
    test('a token without scopes belongs to the site', async () => {
      const findings = await checkAccount({ url: jira.scoped.url })
      expect(textsOf(findings)).toEqual([`error: ${jira.scoped.url} does not accept this token of dev@example.org`])
      expect(findings[0]?.remedy).toContain('A token without scopes belongs to the site')
    })
    test('a gateway that is down', async () => {
      jira.tellTenant(response => {
        response.writeHead(200, { 'content-type': 'application/json' })
        response.end(JSON.stringify({ cloudId: new URL(jira.scoped.url).pathname.split('/').at(-1) }))
        jira.setDown(true)
      })
      const [first, second] = await accountTexts(withScopes())
      expect([first, second]).toEqual([notAtSite(), expect.stringContaining('Jira answered 503')])
    })

    const json = (value: unknown) => (response: ServerResponse) =>
      void response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value))
    const CLOUD = '35273b54-3f06-40d2-880f-dd28cf8daafa'
    test.for<[string, (response: ServerResponse, elsewhere: string) => void]>([
      ['no JSON', response => void response.end('<p>Log in')],
      ['an error', response => void response.writeHead(500).end(JSON.stringify({ cloudId: CLOUD }))],
      ['text', json(CLOUD)],
      ['no cloud id', json({})],
      ['an invalid cloud id', json({ cloudId: 'example' })],
      ['a number', json({ cloudId: 35273 })],
      ['a list', json({ cloudId: [CLOUD] })],
      ['a path upwards', json({ cloudId: `../../${CLOUD}` })],
      ['a longer path', json({ cloudId: `${CLOUD}/../../elsewhere` })],
      ['a query', json({ cloudId: `${CLOUD}?to=elsewhere` })],
      ['a line break', json({ cloudId: `${CLOUD}\n` })],
      ['another server', (response, elsewhere) => json({ cloudId: `@${new URL(elsewhere).host}/${CLOUD}` })(response)],
      ['a whole address', (response, elsewhere) => json({ cloudId: `${elsewhere}/ex/jira/${CLOUD}` })(response)],
      [
        'a redirect',
        (response, elsewhere) =>
          void response.writeHead(302, { location: `${elsewhere}/_edge/tenant_info` }).end(JSON.stringify({})),
      ],
    ])('is sent nowhere else when the site answers with %s', async ([, answer]) => {
      const elsewhere = await startJira({ issues: {} })
      onTestFinished(() => elsewhere.stop())
      jira.tellTenant(response => answer(response, elsewhere.url))
      const findings = await checkAccount(withScopes())
      expect(textsOf(findings)).toEqual([`error: ${jira.url} does not accept this token of dev@example.org`])
      expect(findings[0]?.remedy).toContain(`${jira.url}/_edge/tenant_info does not show the cloudId`)
      expect([findings[0]?.correction, elsewhere.requests]).toEqual([undefined, []])
      // Only the site has the token, which was meant for it.
      expect(jira.requests.filter(request => request.authorized).map(request => request.path)).toEqual([
        '/rest/api/3/myself',
      ])
    })
    test('an endless answer of the site is cut off', async () => {
      let sent = 0
      jira.tellTenant(response => {
        const piece = ' '.repeat(10_000)
        const more = () => {
          do sent += piece.length
          while (response.write(piece))
        }
        response.writeHead(200, { 'content-type': 'application/json' }).on('drain', more)
        more()
      })
      expect(await accountTexts(withScopes())).toEqual([
        `error: ${jira.url} does not accept this token of dev@example.org`,
      ])
      // More than the limit, because of buffers on the way.
      expect(sent).toBeLessThan(50_000_000)
    })
    test('is sent to Atlassian, or to a stand-in on loopback', () => {
      const there = `https://api.atlassian.com/ex/jira/${CLOUD}`
      expect(gatewayOf('https://example.atlassian.net', { cloudId: CLOUD })).toBe(there)
      expect(gatewayOf('https://127.example.org', { cloudId: CLOUD })).toBe(there)
      expect(gatewayOf('https://localhost.example.org:8080/jira', { cloudId: CLOUD })).toBe(there)
      expect(gatewayOf('http://127.0.0.1:8080/jira', { cloudId: CLOUD })).toBe(`http://127.0.0.1:8080/ex/jira/${CLOUD}`)
    })
  })

  test('an unknown project', async () => {
    const findings = await checkProject('NOPE')
    expect(complaintsOf(findings)).toEqual(['error: the project NOPE does not exist, or this account may not see it'])
    expect(findings[0]?.remedy).toBe('The account sees DROP, WEB.')
  })
  test.for([
    ['BROWSE_PROJECTS', 'error: the account lacks the permission "Browse projects" in DROP'],
    ['ADD_COMMENTS', 'error: the account lacks the permission "Add comments" in DROP'],
    ['EDIT_OWN_COMMENTS', 'warning: the account lacks the permission "Edit own comments" in DROP'],
    ['LINK_ISSUES', 'warning: the account lacks the permission "Link issues" in DROP'],
  ] as const)('an account without %s', async ([permission, text]) => {
    jira.lacks.add(permission)
    expect(complaintsOf(await checkProject('DROP'))).toEqual([text])
  })
  test('a webhook secret that is easy to guess', async () => {
    const config = configWith({ jira: settingsWith({ webhookSecret: 'secret' }) })
    expect(complaintsOf(await checkJiraWebhook(config))).toEqual([
      'error: the webhook secret is easy to guess: it has 6 characters',
      'warning: Jira needs a webhook: Settings, System, WebHooks',
    ])
  })
})
