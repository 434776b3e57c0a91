/** What a look at credentials and permissions says of each thing that can be wrong. */
import { generateKeyPairSync } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { Check } from '../../src/bot/check.ts'
import { checkApp, openTokenCheck } from '../../src/bot/github/check.ts'
import { openJiraCheck } from '../../src/bot/jira/check.ts'
import { gatewayOf } from '../../src/bot/jira/gateway.ts'
import type { AppSettings, JiraSettings } from '../../src/config/config.ts'
import { type GitHubStandIn, startGitHub, WEBHOOK_SECRET } from '../support/github.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'

const NOBODY = 'http://127.0.0.1:9'
const told = (checks: readonly Check[]) => checks.map(({ found, says }) => `${found}: ${says}`)
/** Whatever is not right says what to do about it. */
const complaints = (checks: readonly Check[]) => {
  for (const { found, remedy } of checks) if (found === 'error') expect(remedy).toMatch(/\w/)
  return told(checks.filter(one => one.found !== 'ok'))
}

describe('GitHub', () => {
  let github: GitHubStandIn
  beforeAll(async () => {
    github = await startGitHub({ people: { dev: 'push', reader: 'pull' } })
  })
  afterAll(() => github.stop())
  afterEach(() => {
    expect(github.faults.splice(0)).toEqual([])
  })
  /** What GitHub answers to the next request that matches. */
  const answers = (match: RegExp, body: unknown, headers: Record<string, string> = {}, status = 200) =>
    github.faults.push({ match, answer: { status, headers, body } })

  describe('by a token', () => {
    const look = async (token: string, repositories: string[] = ['acme/shop'], apiUrl = github.url) => {
      const check = await openTokenCheck({ via: 'token', token, repositories, apiUrl })
      return { account: await check.account(), repositories: await check.repositories() }
    }
    const refused = { message: 'Resource not accessible by personal access token' }
    const dev = { login: 'dev' }

    test('one that may do all', async () => {
      const { account, repositories } = await look('token-dev')
      expect(told([...account, ...repositories])).toEqual([
        'right: you are dev, by a token with the scope repo',
        expect.stringMatching(/^right: \d+ of 5000 requests are left until /),
        'right: acme/shop can be read and written',
      ])
    })
    test('without a list, those are named that are watched', async () => {
      expect(told((await look('token-dev', [])).repositories)).toEqual([
        'right: watched is what was pushed to last: acme/shop',
      ])
      answers(/^GET \/user\/repos/, [])
      expect(complaints((await look('token-dev', [])).repositories)).toEqual([
        'wrong: the token may push to no repository',
      ])
    })
    test('one that nobody knows', async () => {
      expect(complaints((await look('token-nobody')).account)).toEqual(['wrong: GitHub does not know this token'])
    })
    test.for([
      ['', 'wrong: the token of dev may not read and write repositories: it needs the scope repo, and has none'],
      [
        'gist, read:org',
        'wrong: the token of dev may not read and write repositories: it needs the scope repo, and has gist, read:org',
      ],
      ['public_repo', 'note: you are dev, by a token for public repositories alone (scope public_repo)'],
    ] as const)('one with the scopes "%s"', async ([scopes, says]) => {
      answers(/^GET \/user$/, dev, { 'x-oauth-scopes': scopes })
      expect(complaints((await look('token-dev')).account)).toEqual([says])
    })
    test('one that ends soon, of an account whose requests are spent', async () => {
      const at = new Date(Date.now() + 3 * 24 * 60 * 60_000)
      const rate = { 'x-ratelimit-limit': '5000', 'x-ratelimit-remaining': '7', 'x-ratelimit-reset': '2000000000' }
      const expires = {
        'github-authentication-token-expiration': `${at.toISOString().slice(0, 19).replace('T', ' ')} UTC`,
      }
      answers(/^GET \/user$/, dev, { 'x-oauth-scopes': 'repo', ...rate, ...expires })
      expect(complaints((await look('token-dev')).account)).toEqual([
        `note: the token ends on ${at.toISOString().slice(0, 10)}`,
        expect.stringContaining('note: only 7 of 5000 requests are left'),
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
    ] as const)('a fine-grained one without %j', async ([without, lacking]) => {
      answers(/^GET \/user$/, dev)
      for (const match of without) answers(match, refused, {}, 403)
      const { account, repositories } = await look('token-dev')
      expect(told(account)[0]).toBe('right: you are dev, by a fine-grained token')
      expect(complaints(repositories)).toEqual(
        lacking.map(permission => `wrong: acme/shop: the token lacks the permission ${permission}`),
      )
      // The writes that were tried lack what GitHub needs for them, so that they cannot be done.
      expect(
        github.invalid.splice(0).map(one => one.match(/^POST \/repos\/acme\/shop\/(\w+): .* 'title'/)?.[1]),
      ).toEqual(expect.arrayContaining(['issues']))
    })
    test('one that is not authorised for an organisation with single sign-on', async () => {
      const sso = 'https://github.com/orgs/acme/sso?authorization_request=AbC'
      answers(
        /^GET \/repos\/acme\/shop$/,
        { message: 'Resource protected by organization SAML enforcement.' },
        { 'x-github-sso': `required; url=${sso}` },
        403,
      )
      const [named] = (await look('token-dev')).repositories
      expect(named).toMatchObject({ found: 'error', remedy: expect.stringContaining('"Configure SSO"') })
      answers(/^GET \/user\/repos/, [{ full_name: 'dev/notes', permissions: { push: true } }], {
        'x-github-sso': 'partial-results; organizations=21955855,20582480',
      })
      expect(told((await look('token-dev', [])).repositories)).toEqual([
        'right: watched is what was pushed to last: dev/notes',
        'note: the repositories of an organisation are hidden from this token',
      ])
    })
    test('repositories that are not there, not writable, or archived', async () => {
      expect(complaints((await look('token-dev', ['acme/none'])).repositories)).toEqual([
        'wrong: GitHub shows no repository acme/none',
      ])
      expect(complaints((await look('token-reader')).repositories)).toEqual([
        'wrong: acme/shop can be read, but not pushed to',
      ])
      answers(/^GET \/repos\/acme\/shop$/, { full_name: 'acme/shop', archived: true, permissions: { push: true } })
      expect(complaints((await look('token-dev')).repositories)).toEqual([
        'wrong: acme/shop is archived: nothing happens there',
      ])
    })
    test('nobody answers', async () => {
      const { account, repositories } = await look('token-dev', ['acme/shop'], NOBODY)
      expect(complaints([...account, ...repositories])).toEqual([
        expect.stringContaining('wrong: asking GitHub who we are: GitHub cannot be reached'),
        expect.stringContaining('wrong: looking at acme/shop: GitHub cannot be reached'),
      ])
    })
  })

  describe('by an App', () => {
    const look = (more: Partial<AppSettings> = {}) =>
      checkApp({
        via: 'app',
        appId: github.app.id,
        privateKey: github.app.privateKey,
        webhookSecret: WEBHOOK_SECRET,
        apiUrl: github.url,
        ...more,
      })
    const permissions = { metadata: 'read', contents: 'read', issues: 'write', pull_requests: 'write', members: 'read' }
    const events = ['push', 'pull_request', 'issue_comment']
    const app = (more: object = {}) => ({
      id: 7,
      slug: 'agent-swarm',
      html_url: 'https://x/apps/a',
      permissions,
      events,
      ...more,
    })
    const installation = (more: object = {}) => [
      {
        account: { login: 'acme' },
        permissions,
        html_url: 'https://x/i/1',
        repository_selection: 'all',
        suspended_at: null,
        ...more,
      },
    ]

    test('one that may do all', async () => {
      expect(told(await look())).toEqual([
        'right: the webhook secret is long enough',
        'right: the App is agent-swarm, and its key is right',
        'right: it has the permissions and events that are needed',
        'right: its deliveries go to https://swarm.example.org/api/github/webhooks',
        'right: it is installed on acme, for all repositories',
      ])
    })
    test('a key that is none, and one that is not of this App', async () => {
      expect(complaints(await look({ privateKey: '-----BEGIN PRIVATE KEY-----\nx' }))).toEqual([
        'wrong: the private key is none',
      ])
      const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
      const other = privateKey.export({ type: 'pkcs1', format: 'pem' }).toString()
      expect(complaints(await look({ privateKey: other }))).toEqual(['wrong: GitHub takes this key for none of App 7'])
    })
    test('a secret that is guessed', async () => {
      expect(complaints(await look({ webhookSecret: 'development' }))).toEqual([
        'wrong: the webhook secret is easily guessed: it has 11 characters',
      ])
      expect(complaints(await look({ webhookSecret: 'a'.repeat(40) }))).toHaveLength(1)
    })
    test.for([
      ...Object.entries(permissions)
        .filter(([name]) => name !== 'metadata' && name !== 'members')
        .map(([name, needed]) => [
          { permissions: { ...permissions, [name]: undefined } },
          `wrong: the App lacks the permission ${name}: ${needed} (it has none)`,
        ]),
      [
        { permissions: { ...permissions, issues: 'read' } },
        'wrong: the App lacks the permission issues: write (it has read)',
      ],
      [
        { permissions: { ...permissions, members: undefined } },
        'note: the App lacks the permission members: read (it has none); rules that name teams need it',
      ],
      [
        { permissions: { ...permissions, administration: 'write' } },
        'note: it also has permissions that nothing uses: administration',
      ],
      ...events.map(event => [
        { events: events.filter(one => one !== event) },
        `wrong: the App is not told of ${event}`,
      ]),
    ] as const)('an App with %j', async ([more, says]) => {
      answers(/^GET \/app$/, app(more as object))
      expect(complaints(await look())).toEqual([says])
    })
    test.for([
      [
        { permissions: { ...permissions, issues: 'read' } },
        'wrong: its installation on acme lacks the permission issues: write (it has read)',
      ],
      [{ suspended_at: '2026-11-01T00:00:00Z' }, 'wrong: the App is suspended on acme'],
    ] as const)('an installation with %j', async ([more, says]) => {
      answers(/^GET \/app\/installations/, installation(more))
      expect(complaints(await look())).toEqual([says])
    })
    test('one that is installed nowhere', async () => {
      answers(/^GET \/app\/installations/, [])
      expect(complaints(await look())).toEqual(['wrong: the App is installed nowhere'])
    })
    test.for([
      [
        { url: 'https://swarm.example.org/', content_type: 'json' },
        'wrong: its deliveries go to https://swarm.example.org/',
      ],
      [
        { url: 'https://swarm.example.org/api/github/webhooks', content_type: 'form' },
        'wrong: its deliveries are sent as form, and not as JSON',
      ],
    ] as const)('deliveries to %j', async ([hook, says]) => {
      answers(/^GET \/app\/hook\/config/, hook)
      expect(complaints(await look())).toEqual([says])
    })
    test('a clock that is off', async () => {
      answers(/^GET \/app$/, app(), { date: new Date(Date.now() - 120_000).toUTCString() })
      expect(complaints(await look())).toEqual([expect.stringMatching(/^note: this machine's clock is 1[12]\d s off$/)])
    })
    test('nobody answers', async () => {
      expect(complaints(await look({ apiUrl: NOBODY }))).toEqual([
        expect.stringContaining('wrong: asking GitHub for the App: GitHub cannot be reached'),
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
  const settings = (more: Partial<JiraSettings> = {}): JiraSettings => ({
    url: jira.url,
    email: jira.me.emailAddress,
    apiToken: jira.token,
    webhookSecret: null,
    ...more,
  })
  const look = (more: Partial<JiraSettings> = {}) => openJiraCheck(settings(more))
  const account = async (more: Partial<JiraSettings> = {}) => {
    const { checks, instead } = await look(more).account()
    complaints(checks)
    return [...told(checks), ...(instead === null ? [] : [`instead: ${instead}`])]
  }
  const ofScopes = (more: Partial<JiraSettings> = {}) => ({ apiToken: jira.scoped.token, ...more })

  test('an account that may do all', async () => {
    const check = look()
    expect(await account()).toEqual([`right: dev@example.org is known at ${jira.url}`])
    expect(told(await check.project('DROP'))).toEqual(['right: DROP (Project DROP) can be read and commented on'])
    expect(await check.projects()).toEqual(['DROP', 'WEB'])
  })
  test.for([
    [
      { apiToken: 'wrong' },
      /neither http:\S+ nor http:\S+\/ex\/jira\/[0-9a-f-]+ takes this token of dev@example\.org$/,
    ],
    [{ email: 'other@example.org' }, /takes this token of other@example\.org$/],
    [{ email: 'nobody' }, /does not take this host, or this e-mail address$/],
    [{ url: NOBODY }, /Jira cannot be reached/],
  ] as const)('with %j', async ([more, says]) => {
    expect(await account(more)).toEqual([expect.stringMatching(says)])
  })
  test('down for now', async () => {
    jira.setDown(true)
    expect(await account()).toEqual([expect.stringContaining('Jira answered 503')])
  })

  describe('a token with scopes', () => {
    const notHere = () => `note: ${jira.url} does not take this token: one with scopes belongs to ${jira.scoped.url}`
    afterEach(() => {
      for (const scope of ['read:jira-user', 'read:jira-work', 'write:jira-work']) jira.scoped.scopes.add(scope)
      jira.tellTenant(null)
      jira.requests.splice(0)
    })

    test('is taken at the gateway, which the site leads to', async () => {
      expect(await account(ofScopes())).toEqual([
        notHere(),
        `right: dev@example.org is known at ${jira.scoped.url}`,
        `instead: ${jira.scoped.url}`,
      ])
      const check = look(ofScopes({ url: jira.scoped.url }))
      expect(await check.account()).toMatchObject({ checks: [{ found: 'ok' }], instead: null })
      expect(told(await check.project('DROP'))).toEqual(['right: DROP (Project DROP) can be read and commented on'])
    })
    test.for([
      [['read:jira-user'], 'the scope read:jira-user'],
      [['read:jira-work'], 'the scope read:jira-work'],
      [['write:jira-work'], 'the scope write:jira-work'],
      [['read:jira-user', 'write:jira-work'], 'the scopes read:jira-user, write:jira-work'],
    ] as const)('without %s', async ([scopes, said]) => {
      for (const scope of scopes) jira.scoped.scopes.delete(scope)
      const lacks = `wrong: the token of dev@example.org lacks ${said}`
      expect(await account(ofScopes())).toEqual([notHere(), lacks])
      const { checks } = await look(ofScopes({ url: jira.scoped.url })).account()
      expect(told(checks)).toEqual([lacks])
      expect(checks[0]?.remedy).toContain('read:jira-user, read:jira-work and write:jira-work')
    })
    test('is tried by a write that can write nothing', async () => {
      await account(ofScopes())
      const written = jira.requests.filter(one => one.method !== 'GET').map(({ method, path }) => `${method} ${path}`)
      const { pathname } = new URL(jira.scoped.url)
      expect(written).toEqual([`POST ${pathname}/rest/api/3/issue/NONE-0/comment`])
      expect(['DROP-1', 'WEB-1'].flatMap(jira.comments)).toEqual([])
    })
    test('one without belongs to the site', async () => {
      const { checks } = await look({ url: jira.scoped.url }).account()
      expect(told(checks)).toEqual([`wrong: ${jira.scoped.url} does not take this token of dev@example.org`])
      expect(checks[0]?.remedy).toContain('One without scopes belongs to the site')
    })
    test('a gateway that cannot be asked now', async () => {
      jira.tellTenant(response => {
        response.writeHead(200, { 'content-type': 'application/json' })
        response.end(JSON.stringify({ cloudId: new URL(jira.scoped.url).pathname.split('/').at(-1) }))
        jira.setDown(true)
      })
      const [first, second] = await account(ofScopes())
      expect([first, second]).toEqual([notHere(), 'wrong: asking Jira who we are: Jira answered 503'])
    })

    const json = (value: unknown) => (response: ServerResponse) =>
      void response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value))
    const CLOUD = '35273b54-3f06-40d2-880f-dd28cf8daafa'
    test.for<[string, (response: ServerResponse, elsewhere: string) => void]>([
      ['no JSON', response => void response.end('<p>Log in')],
      ['an error', response => void response.writeHead(500).end(JSON.stringify({ cloudId: CLOUD }))],
      ['no object', json(CLOUD)],
      ['nothing of a cloud', json({})],
      ['a cloud that is none', json({ cloudId: 'example' })],
      ['a number', json({ cloudId: 35273 })],
      ['a list', json({ cloudId: [CLOUD] })],
      ['a way up', json({ cloudId: `../../${CLOUD}` })],
      ['a way on', json({ cloudId: `${CLOUD}/../../elsewhere` })],
      ['a question', json({ cloudId: `${CLOUD}?to=elsewhere` })],
      ['another line', json({ cloudId: `${CLOUD}\n` })],
      ['another server', (response, elsewhere) => json({ cloudId: `@${new URL(elsewhere).host}/${CLOUD}` })(response)],
      ['a whole address', (response, elsewhere) => json({ cloudId: `${elsewhere}/ex/jira/${CLOUD}` })(response)],
      [
        'a redirect',
        (response, elsewhere) =>
          void response.writeHead(302, { location: `${elsewhere}/_edge/tenant_info` }).end(JSON.stringify({})),
      ],
    ])('goes nowhere when the site tells %s', async ([, tell]) => {
      const elsewhere = await startJira({ issues: {} })
      onTestFinished(() => elsewhere.stop())
      jira.tellTenant(response => tell(response, elsewhere.url))
      const { checks, instead } = await look(ofScopes()).account()
      expect(told(checks)).toEqual([`wrong: ${jira.url} does not take this token of dev@example.org`])
      expect(checks[0]?.remedy).toContain(`${jira.url}/_edge/tenant_info does not tell which cloudId`)
      expect([instead, elsewhere.requests]).toEqual([null, []])
      // The site alone had the token, which it was given to begin with.
      expect(jira.requests.filter(one => one.authorized).map(one => one.path)).toEqual(['/rest/api/3/myself'])
    })
    test('does not listen to a site that tells without end', async () => {
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
      expect(await account(ofScopes())).toEqual([`wrong: ${jira.url} does not take this token of dev@example.org`])
      // What is in the pipes between.
      expect(sent).toBeLessThan(50_000_000)
    })
    test('goes to Atlassian, and to a stand-in on loopback alone', () => {
      const there = `https://api.atlassian.com/ex/jira/${CLOUD}`
      expect(gatewayOf('https://example.atlassian.net', { cloudId: CLOUD })).toBe(there)
      expect(gatewayOf('https://127.example.org', { cloudId: CLOUD })).toBe(there)
      expect(gatewayOf('https://localhost.example.org:8080/jira', { cloudId: CLOUD })).toBe(there)
      expect(gatewayOf('http://127.0.0.1:8080/jira', { cloudId: CLOUD })).toBe(`http://127.0.0.1:8080/ex/jira/${CLOUD}`)
    })
  })

  test('a project that is not seen', async () => {
    const found = await look().project('NOPE')
    expect(complaints(found)).toEqual(['wrong: there is no project NOPE, or this account may not see it'])
    expect(found[0]?.remedy).toBe('It sees DROP, WEB.')
  })
  test.for([
    ['BROWSE_PROJECTS', 'wrong: the account lacks the permission "Browse projects" in DROP'],
    ['ADD_COMMENTS', 'wrong: the account lacks the permission "Add comments" in DROP'],
    ['EDIT_OWN_COMMENTS', 'note: the account lacks the permission "Edit own comments" in DROP'],
    ['LINK_ISSUES', 'note: the account lacks the permission "Link issues" in DROP'],
  ] as const)('an account without %s', async ([permission, says]) => {
    jira.lacks.add(permission)
    expect(complaints(await look().project('DROP'))).toEqual([says])
  })
  test('a webhook secret that is guessed', () => {
    expect(complaints(look({ webhookSecret: 'secret' }).webhook())).toEqual([
      'wrong: the webhook secret is easily guessed: it has 6 characters',
    ])
  })
})
