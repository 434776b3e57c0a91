/** `agent-swarm init` as its users run it: whole processes, with flags or on a terminal, against the simulators. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { get } from 'node:http'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { parse } from 'yaml'
import { openCli } from '../support/cli.ts'
import { type GitHubStandIn, startGitHub, WEBHOOK_SECRET } from '../support/github.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import type { Step } from '../support/terminal.ts'
import { until } from '../support/wait.ts'

// Several whole processes each, on a machine that may be busy.
vi.setConfig({ testTimeout: 60_000 })

let github: GitHubStandIn
let jira: JiraStandIn
let cli: ReturnType<typeof openCli>
beforeAll(async () => {
  github = await startGitHub({ more: ['web'], people: { dev: 'push', reader: 'pull' } })
  jira = await startJira({ issues: { 'DROP-1': 'one' } })
})
afterAll(() => Promise.all([github.stop(), jira.stop()]))
beforeEach(() => {
  cli = openCli()
})
afterEach(() => {
  jira.lacks.clear()
  github.faults.length = 0
  cli.close()
})

const home = () => join(cli.home, 'state')
const path = () => join(home(), 'config.yaml')
const written = () => readFileSync(path(), 'utf8')
/** As whoever has GitHub Enterprise Server would set them. */
const addresses = () => ({ GITHUB_API_URL: github.url, JIRA_HOST: jira.url })
const environment = (more: Record<string, string> = {}) => ({
  ...addresses(),
  GITHUB_TOKEN: 'token-dev',
  JIRA_EMAIL: jira.me.emailAddress,
  JIRA_API_TOKEN: jira.token,
  ...more,
})
const laptop = ['init', '--github-repositories', 'acme/shop', '--jira-projects', 'drop']
const asWritten = () => ({
  githubToken: 'token-dev',
  githubRepositories: ['acme/shop'],
  githubApiUrl: github.url,
  jiraHost: jira.url,
  jiraEmail: jira.me.emailAddress,
  jiraApiToken: jira.token,
  jiraProjects: ['DROP'],
  provider: 'synthetic',
})
const modeOf = (file: string) => (statSync(file).mode & 0o777).toString(8)
/** What lies beside the cache of code. */
const left = () => (existsSync(home()) ? readdirSync(home()).filter(name => name !== 'cache') : [])

describe('without a terminal', () => {
  test('flags and environment are tried, and become a file for its owner alone', async () => {
    const ran = await cli.swarm(laptop, { environment: environment() })
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    expect(ran.stdout).toContain('✓ GitHub: you are dev, by a token with the scope repo')
    expect(ran.stdout).toContain('✓ GitHub: acme/shop can be read and written')
    expect(ran.stdout).toContain('✓ Jira: DROP (Project DROP) can be read and commented on')
    expect(ran.stdout).toContain('✓ Machines: synthetic can be used')
    expect(ran.stdout).toMatch(/Next: agent-swarm up\n$/)
    for (const secret of ['token-dev', jira.token]) expect(ran.stdout).not.toContain(secret)
    expect(parse(written())).toEqual(asWritten())
    expect([modeOf(path()), left()]).toEqual(['600', ['config.yaml']])
  })

  test('a second run changes one answer, and keeps the rest with its comments and its link', async () => {
    const kept = join(cli.home, 'dotfiles.yaml')
    const before = `# ours\nport: 3001 # behind the proxy\ngithubToken: token-dev # of dev\ngithubRepositories: [acme/shop] # the shop\njiraProjects: [DROP]\n# machines\nprovider: synthetic\n`
    mkdirSync(home(), { recursive: true })
    writeFileSync(kept, before)
    chmodSync(kept, 0o644)
    symlinkSync(kept, path())
    // What the environment says fills in, and replaces nothing.
    const more = { GITHUB_API_URL: github.url, GITHUB_TOKEN: 'another' }
    const ran = await cli.swarm(['init', '--github-repositories', 'acme/shop,acme/web'], { environment: more })
    expect(ran.stdout).toContain('~ githubRepositories: acme/shop -> acme/shop, acme/web')
    expect(ran.stdout).toContain('! Configuration: GITHUB_TOKEN is set in this shell to something else')
    expect(ran.code).toBe(0)
    expect(readFileSync(kept, 'utf8')).toBe(
      `${before.replace('[acme/shop]', '[acme/shop, acme/web]')}githubApiUrl: ${github.url}\n`.replace(
        /(# machines\nprovider: synthetic\n)(githubApiUrl.*\n)/,
        '$1$2',
      ),
    )
    expect(modeOf(kept)).toBe('600')
    const again = await cli.swarm(['init'], { environment: { GITHUB_API_URL: github.url } })
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('holds all of this') })
  })

  test('a way that is left takes its settings with it', async () => {
    mkdirSync(home(), { recursive: true })
    writeFileSync(path(), 'appId: 7\nprivateKeyPath: /gone.pem\nwebhookSecret: x\nlogLevel: debug\n')
    const ran = await cli.swarm([...laptop, '--github', 'token', '--jira', 'none'], { environment: environment() })
    expect(ran.stdout).toMatch(/- appId\n.*- privateKeyPath\n.*- webhookSecret\n/s)
    expect(Object.keys(parse(written()))).toEqual([
      ...['logLevel', 'githubToken', 'githubRepositories', 'githubApiUrl', 'jiraProjects', 'provider'],
    ])
  })

  test('secrets come from files, too, and a webhook without one gets a new one', async () => {
    const ran = await cli.swarm(
      [...laptop, '--github-token-file', '-', '--jira', 'webhook', '--jira-token-file', join(cli.home, 'token')],
      {
        environment: { ...addresses(), JIRA_EMAIL: jira.me.emailAddress },
        input: 'token-dev\n',
        ...(writeFileSync(join(cli.home, 'token'), `${jira.token}\n`) ?? {}),
      },
    )
    expect(ran).toMatchObject({ code: 0, stdout: expect.stringContaining('✓ Jira: the webhook secret is long enough') })
    expect(ran.stdout).toContain(`Secret: jiraWebhookSecret in ${path()}`)
    const { jiraWebhookSecret, ...rest } = parse(written())
    expect(rest).toEqual(asWritten())
    expect(jiraWebhookSecret).toMatch(/^[0-9a-f]{64}$/)
    expect(ran.stdout + ran.stderr).not.toContain(jiraWebhookSecret)
  })

  test('a token with scopes has the address written where it is taken, and both are said', async () => {
    const { JIRA_HOST: _, ...given } = environment({ JIRA_API_TOKEN: jira.scoped.token })
    const words = [...laptop, '--jira-host', jira.url]
    const ran = await cli.swarm(words, { environment: given })
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    expect(ran.stdout).toContain(
      `! Jira: ${jira.url} does not take this token: one with scopes belongs to ${jira.scoped.url}\n  It is taken there, so that address becomes jiraHost.\n`,
    )
    expect(ran.stdout).toContain(`✓ Jira: dev@example.org is known at ${jira.scoped.url}`)
    expect(ran.stdout).toContain('✓ Jira: DROP (Project DROP) can be read and commented on')
    expect(ran.stdout).not.toContain(jira.scoped.token)
    const kept = { ...asWritten(), jiraHost: jira.scoped.url, jiraApiToken: jira.scoped.token }
    expect(parse(written())).toEqual(kept)
    // The same again, with the site that people know and without it.
    for (const again of [words, laptop]) {
      const ran = await cli.swarm(again, { environment: given })
      expect(ran).toMatchObject({ code: 0, stdout: expect.stringContaining('holds all of this') })
    }
    // Whose shell says otherwise is told so.
    const other = await cli.swarm(laptop, { environment: { ...given, JIRA_HOST: jira.url } })
    expect(other.stdout).toContain('! Configuration: JIRA_HOST is set in this shell to something else')
  })

  test('a token that lacks a scope is told which, and nothing is written', async () => {
    jira.scoped.scopes.delete('write:jira-work')
    onTestFinished(() => void jira.scoped.scopes.add('write:jira-work'))
    const ran = await cli.swarm(laptop, { environment: environment({ JIRA_API_TOKEN: jira.scoped.token }) })
    expect(ran.stdout).toContain('✗ Jira: the token of dev@example.org lacks the scope write:jira-work')
    expect(ran.stdout).toContain('Make one with read:jira-user, read:jira-work and write:jira-work')
    expect([ran.code, left(), jira.comments('DROP-1')]).toEqual([1, [], []])
  })

  test('everything that is wrong is said with a remedy, and nothing is written', async () => {
    jira.lacks.add('ADD_COMMENTS')
    const words = ['init', '--github-repositories', 'acme/none', '--jira-projects', 'DROP,NOPE', '--json']
    const ran = await cli.swarm(words, { environment: environment() })
    const told = JSON.parse(ran.stdout)
    const wrong = told.checks.filter((one: { found: string }) => one.found === 'error')
    expect(wrong.map((one: { says: string }) => one.says).sort()).toEqual([
      'GitHub shows no repository acme/none',
      'the account lacks the permission "Add comments" in DROP',
      'there is no project NOPE, or this account may not see it',
    ])
    for (const { remedy } of wrong) expect(remedy).toMatch(/\w/)
    expect(told).toMatchObject({ path: path(), written: false, next: [] })
    expect([ran.code, left()]).toEqual([1, []])
    for (const secret of ['token-dev', jira.token]) expect(ran.stdout + ran.stderr).not.toContain(secret)
  })

  test('with nothing to go by it says what there is to give', async () => {
    const ran = await cli.swarm(['init'])
    expect(ran).toMatchObject({ code: 1, stdout: expect.stringContaining('Neither GitHub nor Jira is configured') })
    const half = await cli.swarm(['init', '--github', 'token', '--jira', 'polling', '-q'])
    expect(half.stdout).toBe('')
    expect(half.stderr).toContain('Set GITHUB_TOKEN, or give --github-token-file FILE.')
    expect(half.stderr).toContain('Set JIRA_HOST, or give --jira-host.')
  })

  test('a dry run tries all, and writes nothing', async () => {
    const ran = await cli.swarm([...laptop, '--dry-run'], { environment: environment() })
    expect(ran).toMatchObject({ code: 0, stderr: 'Nothing was written: this is a dry run.\n' })
    expect(left()).toEqual([])
  })

  test('what is given wrong is wrong usage', async () => {
    const wrong = [
      [
        ['--github-repositories', 'shop'],
        '--github-repositories: "shop" is no repository, which is written owner/name',
      ],
      [['--github-token-file', '/none'], '--github-token-file: ENOENT'],
      [['--jira', 'pigeon'], '--jira is one of polling, webhook, none'],
      [['--github', 'new-app'], '--public-url must be a host name or an https URL'],
    ] as const
    const ran = await Promise.all(wrong.map(([words]) => cli.swarm(['init', ...words])))
    for (const [at, [, says]] of wrong.entries())
      expect(ran[at]).toMatchObject({ code: 2, stderr: expect.stringContaining(says) })
    // Before anything is asked, and though the file says better.
    mkdirSync(home(), { recursive: true })
    writeFileSync(path(), 'githubRepositories: [acme/shop]\n')
    expect(await cli.swarm(['init'], { environment: { GITHUB_REPOSITORIES: 'shop' } })).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining('GITHUB_REPOSITORIES: "shop" is no repository'),
    })
  })

  test('a file with a mistake is left to its owner', async () => {
    mkdirSync(home(), { recursive: true })
    writeFileSync(path(), 'port: 3000\nprot: 3001\n')
    const ran = await cli.swarm(laptop, { environment: environment() })
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining('config.yaml:2: prot is no setting') })
    expect(written()).toBe('port: 3000\nprot: 3001\n')
  })
})

describe('on a terminal', () => {
  const steps = (...more: [prompt: string, text: string][]) =>
    more.map(([prompt, text]) => ({ prompt, text: `${text}\r` }))
  const screenOf = async (type: Step[], more: Record<string, string> = {}) => {
    const { screen, code } = await cli.terminal(['init'], { environment: { ...addresses(), ...more }, type })
    return { screen: stripVTControlCharacters(screen), code }
  }

  test('it asks, asks again what was wrong, shows no secret, and writes', async () => {
    const { screen, code } = await screenOf(
      steps(
        ['reach GitHub?', ''],
        ['Your GitHub token', 'wrong-token'],
        ['Answer that again?', ''],
        ['Your GitHub token', 'token-dev'],
        ['are watched?', 'acme/shop'],
        ['reach Jira Cloud?', ''],
        ['The site', ''],
        ['e-mail address', 'dev'],
        ['is no e-mail address', '@example.org'],
        ['API token', jira.token],
        // The only one that is seen stands there already.
        ['The keys', ''],
        ['Whose tickets', ''],
        ['made with?', ''],
        ['Write it?', ''],
      ),
    )
    expect(screen).toContain('✗ GitHub: GitHub does not know this token')
    expect(screen).toContain('https://id.atlassian.com/manage-profile/security/api-tokens')
    // It stands in no variable.
    expect(screen).toContain('Enter keeps the one that was given before.')
    expect(screen).not.toContain('Enter keeps the one in')
    expect(screen).toContain('Next: agent-swarm up')
    for (const secret of ['wrong-token', 'token-dev', jira.token]) expect(screen).not.toContain(secret)
    expect(code).toBe(0)
    expect(parse(written())).toEqual(asWritten())
    expect(modeOf(path())).toBe('600')
  })

  test('a token with scopes is asked for again while it lacks one, and then leads to where it is taken', async () => {
    const { scopes, token, url } = jira.scoped
    scopes.delete('read:jira-work')
    onTestFinished(() => void scopes.add('read:jira-work'))
    const { screen, code } = await screenOf(
      [
        ...steps(['reach GitHub?', ''], ['Your GitHub token', 'token-dev'], ['are watched?', 'acme/shop']),
        ...steps(['reach Jira Cloud?', ''], ['The site', jira.url], ['e-mail address', jira.me.emailAddress]),
        ...steps(['API token', token]),
        // Meanwhile it is given what it lacked.
        { prompt: 'Answer that again?', does: () => void scopes.add('read:jira-work'), text: '\r' },
        ...steps(['The site', ''], ['e-mail address', ''], ['API token', '']),
        ...steps(['The keys', ''], ['Whose tickets', ''], ['made with?', ''], ['Write it?', '']),
      ],
      { JIRA_HOST: '' },
    )
    expect(screen).toContain('One with scopes needs read:jira-user')
    expect(screen).toContain('lacks the scope read:jira-work')
    expect(screen).not.toContain(token)
    expect(code).toBe(0)
    expect(parse(written())).toEqual({ ...asWritten(), jiraHost: url, jiraApiToken: token })
  })

  test('Ctrl-C leaves everything as it was', async () => {
    const { screen, code } = await screenOf([
      ...steps(['reach GitHub?', ''], ['Your GitHub token', 'token-dev']),
      { prompt: 'are watched?', text: '\u0003' },
    ])
    expect(screen).toContain('agent-swarm init: cancelled; nothing was changed')
    expect([code, left()]).toEqual([1, []])
  })

  test('what is there is offered, and a no writes nothing', async () => {
    mkdirSync(home(), { recursive: true })
    const before =
      'githubToken: token-dev\ngithubRepositories: [acme/shop]\njiraProjects: [DROP]\nprovider: synthetic\n'
    writeFileSync(path(), before)
    const { screen, code } = await screenOf(
      steps(
        ['reach GitHub?', ''],
        ['Your GitHub token', ''],
        ['are watched?', ', acme/web'],
        ['reach Jira Cloud?', ''],
        ['The keys', ''],
        ['made with?', ''],
        ['Write it?', 'n'],
      ),
      { JIRA_HOST: '' },
    )
    expect(screen).toContain('Enter keeps the one in config.yaml')
    expect(screen).toContain('~ githubRepositories: acme/shop -> acme/shop, acme/web')
    expect(screen).toContain('Nothing was written.')
    expect([code, written()]).toEqual([1, before])
  })
})

describe('an App that GitHub makes', () => {
  const begin = async (more: string[] = []) => {
    const words = [
      'init',
      '--github',
      'new-app',
      '--public-url',
      'https://swarm.example.org',
      '--jira-projects',
      'DROP',
    ]
    const init = cli.begin([...words, ...more], { GITHUB_API_URL: github.url })
    return {
      init,
      page: await until('the address', () => init.heard.stderr.match(/http:\/\/127\.0\.0\.1:\d+\/\S+/)?.[0], {
        within: 50_000,
      }),
    }
  }
  /** As a browser: the form of the page is posted to GitHub, which sends it back. */
  const agree = async (page: string) => {
    const html = await (await fetch(page)).text()
    const unescaped = (text = '') =>
      text.replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&')
    const action = unescaped(html.match(/action="([^"]*)"/)?.[1])
    const manifest = unescaped(html.match(/name="manifest" value="([^"]*)"/)?.[1])
    const answer = await fetch(action, { method: 'POST', body: new URLSearchParams({ manifest }), redirect: 'manual' })
    return { action, back: answer.headers.get('location') ?? '' }
  }

  test('is kept with its key, once GitHub sent somebody back with the right state', async () => {
    const { init, page } = await begin()
    const { back } = await agree(page)
    expect(github.manifests.at(-1)).toMatchObject({
      hook_attributes: { url: 'https://swarm.example.org/api/github/webhooks', active: true },
      default_permissions: { contents: 'read', issues: 'write' },
      default_events: ['push', 'pull_request', 'issue_comment'],
    })
    const status = async (url: string) => (await fetch(url, { redirect: 'manual' })).status
    const { origin } = new URL(page)
    expect(await status(origin)).toBe(404)
    expect(await status(back.replace(/state=.*/, 'state=guessed'))).toBe(403)
    // A page of another site whose name leads here.
    const { promise, resolve } = Promise.withResolvers<number | undefined>()
    get(page, { headers: { host: 'evil.example.org' } }, answer => resolve(answer.resume().statusCode))
    expect(await promise).toBe(404)
    const answer = await fetch(back, { redirect: 'manual' })
    expect([answer.status, answer.headers.get('location')]).toEqual([
      303,
      `${github.url}/apps/agent-swarm/installations/new`,
    ])
    const { code, stdout, stderr } = await init.ended
    expect(stdout).toContain('✓ GitHub: the App is agent-swarm, and its key is right')
    expect(stdout).toContain('✓ GitHub: it has the permissions and events that are needed')
    expect(stdout).toContain('✓ GitHub: it is installed on acme, for all repositories')
    const key = join(home(), `github-app-${github.app.id}.pem`)
    expect(parse(written())).toEqual({
      appId: github.app.id,
      privateKeyPath: key,
      webhookSecret: WEBHOOK_SECRET,
      githubApiUrl: github.url,
      jiraProjects: ['DROP'],
      provider: 'synthetic',
    })
    expect([modeOf(key), modeOf(path()), readFileSync(key, 'utf8')]).toEqual(['600', '600', github.app.privateKey])
    expect(code).toBe(0)
    for (const secret of [WEBHOOK_SECRET, 'PRIVATE KEY']) expect(stdout + stderr).not.toContain(secret)
  })

  test('belongs to an organisation where one is named; Ctrl-C before GitHub answers makes nothing', async () => {
    const { init, page } = await begin(['--organization', 'acme'])
    expect((await agree(page)).action).toMatch(/\/organizations\/acme\/settings\/apps\/new\?state=/)
    init.kill('SIGINT')
    expect(await init.ended).toMatchObject({ code: 1, stderr: expect.stringContaining('making the App: cancelled') })
    expect(left()).toEqual([])
  })

  test('stays when somebody leaves after it was made, and that is said', async () => {
    const nowhere = { match: /^GET \/app\/installations/, answer: { status: 200, body: [] } }
    github.faults.push(...Array.from({ length: 50 }, () => nowhere))
    const { init, page } = await begin()
    const { back } = await agree(page)
    await fetch(back, { redirect: 'manual' })
    await until('the App is in the file', () => init.heard.stdout.includes('The App is made'))
    init.kill('SIGINT')
    const { code, stderr } = await init.ended
    expect(stderr).toContain(`cancelled; ${path()} has the App that was made\nGo on: agent-swarm init`)
    expect([code, parse(written()).appId]).toEqual([1, github.app.id])
  })
})
