/** `agent-swarm init` without a terminal, in this process, against stand-ins of GitHub and Jira. */
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
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'
import type { Check } from '../../src/check.ts'
import { consent } from '../support/app-consent.ts'
import { openCli } from '../support/cli.ts'
import { type GitHubStandIn, startGitHub, WEBHOOK_SECRET } from '../support/github.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

let github: GitHubStandIn
let jira: JiraStandIn
let cli: ReturnType<typeof openCli>
const environmentBefore = { ...process.env }
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
  process.env = { ...environmentBefore }
  cli.close()
})

const home = () => join(cli.home, 'state')
const path = () => join(home(), 'config.yaml')
const writeFile = (content: string) => {
  mkdirSync(home(), { recursive: true })
  writeFileSync(path(), content)
}
const readFile = () => readFileSync(path(), 'utf8')
const modeOf = (file: string) => (statSync(file).mode & 0o777).toString(8)
const filesAtHome = () => (existsSync(home()) ? readdirSync(home()) : [])

/** Starts `agent-swarm init` in a pipe. src/config reads settings out of the process's own environment. */
const start = (words: string[], environment: Record<string, string> = {}) => {
  process.env = cli.environment(environment)
  return cli.begin(['init', ...words], environment)
}
const init = (words: string[], environment?: Record<string, string>) => start(words, environment).ended

/** The stand-ins as the environment names them. */
const addresses = () => ({ GITHUB_API_URL: github.url, JIRA_HOST: jira.url })
const credentials = (changes: Record<string, string> = {}) => ({
  ...addresses(),
  GITHUB_TOKEN: 'token-dev',
  JIRA_EMAIL: jira.me.emailAddress,
  JIRA_API_TOKEN: jira.token,
  ...changes,
})
const laptop = ['--github-repositories', 'acme/shop', '--jira-projects', 'drop']
const laptopSettings = () => ({
  githubToken: 'token-dev',
  githubRepositories: ['acme/shop'],
  githubApiUrl: github.url,
  jiraHost: jira.url,
  jiraEmail: jira.me.emailAddress,
  jiraApiToken: jira.token,
  jiraProjects: ['DROP'],
  provider: 'synthetic',
})

describe('without a terminal', () => {
  test('flags and environment are checked, and written to a file that only its owner can read', async () => {
    const result = await init(laptop, credentials())
    expect(result).toMatchObject({ code: 0, stderr: '' })
    expect(result.stdout).toContain('✓ GitHub: signed in as dev with a token that has the scope repo')
    expect(result.stdout).toContain('✓ GitHub: acme/shop can be read and written')
    expect(result.stdout).toContain('✓ Jira: DROP (Project DROP) can be read and commented on')
    expect(result.stdout).toContain('✓ Machines: synthetic can be used')
    expect(result.stdout).toMatch(/Next: agent-swarm up\n$/)
    for (const secret of ['token-dev', jira.token]) expect(result.stdout).not.toContain(secret)
    expect(parse(readFile())).toEqual(laptopSettings())
    expect([modeOf(path()), filesAtHome()]).toEqual(['600', ['config.yaml']])
  })

  test('a second run changes one setting, and keeps the others, the comments and the symbolic link', async () => {
    const target = join(cli.home, 'dotfiles.yaml')
    const before = `# ours\nport: 3001 # behind the proxy\ngithubToken: token-dev # of dev\ngithubRepositories: [acme/shop] # the shop\njiraProjects: [DROP]\n# machines\nprovider: synthetic\n`
    mkdirSync(home(), { recursive: true })
    writeFileSync(target, before)
    chmodSync(target, 0o644)
    symlinkSync(target, path())
    // The environment fills in what the file lacks, and replaces nothing.
    const environment = { GITHUB_API_URL: github.url, GITHUB_TOKEN: 'another' }
    const result = await init(['--github-repositories', 'acme/shop,acme/web'], environment)
    expect(result.stdout).toContain('~ githubRepositories: acme/shop -> acme/shop, acme/web')
    expect(result.stdout).toContain('! Configuration: GITHUB_TOKEN has another value in this shell')
    expect(result.code).toBe(0)
    expect(readFileSync(target, 'utf8')).toBe(
      `${before.replace('[acme/shop]', '[acme/shop, acme/web]')}githubApiUrl: ${github.url}\n`,
    )
    expect(modeOf(target)).toBe('600')
    const again = await init([], { GITHUB_API_URL: github.url })
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('already has these settings') })
  })

  test('the settings of another way are removed', async () => {
    writeFile('appId: 7\nprivateKeyPath: /gone.pem\nwebhookSecret: x\nlogLevel: debug\n')
    const result = await init([...laptop, '--github', 'token', '--jira', 'none'], credentials())
    expect(result.stdout).toMatch(/- appId\n.*- privateKeyPath\n.*- webhookSecret\n/s)
    expect(Object.keys(parse(readFile()))).toEqual([
      ...['logLevel', 'githubToken', 'githubRepositories', 'githubApiUrl', 'jiraProjects', 'provider'],
    ])
  })

  test('secrets can come from files, and a webhook without a secret gets a new one', async () => {
    const fileWith = (name: string, secret: string) => {
      writeFileSync(join(cli.home, name), `${secret}\n`)
      return join(cli.home, name)
    }
    const files = ['--github-token-file', fileWith('a', 'token-dev'), '--jira-token-file', fileWith('b', jira.token)]
    const words = [...laptop, ...files, '--jira', 'webhook', '--jira-email', jira.me.emailAddress]
    const result = await init(words, addresses())
    expect(result).toMatchObject({ code: 0, stdout: expect.stringContaining('✓ Jira: the webhook secret is long') })
    expect(result.stdout).toContain('URL: https://<your address>/jira/webhook')
    expect(result.stdout).toContain('Secret: jiraWebhookSecret in config.yaml')
    const { jiraWebhookSecret, ...rest } = parse(readFile())
    expect(rest).toEqual(laptopSettings())
    expect(jiraWebhookSecret).toMatch(/^[0-9a-f]{64}$/)
    expect(result.stdout).toContain(`Only you can read the file.`)
    expect(result.stdout + result.stderr).not.toContain(jiraWebhookSecret)
  })

  test('a rule of Jira automation comes beside polling: its secret is made, kept, and the address is shown', async () => {
    const words = [...laptop, '--jira', 'automation', '--public-url', 'https://swarm.example.org']
    const result = await init(words, credentials())
    expect(result).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('the secret of the automation rule is long'),
    })
    expect(result.stdout).toContain('URL: https://swarm.example.org/jira/automation.')
    expect(result.stdout).toContain('Header: X-Agent-Swarm-Secret, with jiraAutomationSecret in config.yaml')
    const { jiraAutomationSecret, jiraWebhookSecret } = parse(readFile())
    expect([jiraAutomationSecret, jiraWebhookSecret]).toEqual([expect.stringMatching(/^[0-9a-f]{64}$/), undefined])
    expect(result.stdout + result.stderr).not.toContain(jiraAutomationSecret)
    const again = await init([], credentials())
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('already has these settings') })
    writeFileSync(join(cli.home, 'rule'), 'a secret that somebody else has chosen\n')
    await init(['--jira-automation-secret-file', join(cli.home, 'rule')], credentials())
    expect(parse(readFile()).jiraAutomationSecret).toBe('a secret that somebody else has chosen')
  })

  test('the public address is remembered, and shown where it must be entered', async () => {
    const webhook = credentials({ JIRA_WEBHOOK_SECRET: 'a secret of the webhook that is long enough' })
    const first = await init([...laptop, '--jira', 'webhook', '--public-url', 'https://swarm.example.org'], webhook)
    expect(first.stdout).toContain('+ publicUrl: https://swarm.example.org')
    expect(first.stdout).toContain('Wrote githubToken, githubRepositories,')
    expect(parse(readFile()).publicUrl).toBe('https://swarm.example.org')
    const again = await init(['--jira', 'webhook'], webhook)
    expect(again.stdout).toContain('URL: https://swarm.example.org/jira/webhook')
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('already has these settings') })
  })

  test('for a token with scopes, the address that accepts it is written, and both are named', async () => {
    const { JIRA_HOST: _, ...environment } = credentials({ JIRA_API_TOKEN: jira.scoped.token })
    const words = [...laptop, '--jira-host', jira.url]
    const result = await init(words, environment)
    expect(result).toMatchObject({ code: 0, stderr: '' })
    expect(result.stdout).toContain(
      `! Jira: ${jira.url} does not accept this token: a token with scopes belongs to ${jira.scoped.url}\n  The token is accepted there, so jiraHost becomes that address.\n`,
    )
    expect(result.stdout).toContain(`✓ Jira: dev@example.org is signed in at ${jira.scoped.url}`)
    expect(result.stdout).toContain('✓ Jira: DROP (Project DROP) can be read and commented on')
    expect(result.stdout).not.toContain(jira.scoped.token)
    const expected = { ...laptopSettings(), jiraHost: jira.scoped.url, jiraApiToken: jira.scoped.token }
    expect(parse(readFile())).toEqual(expected)
    // Again, with the site and without it.
    for (const again of [words, laptop]) {
      const result = await init(again, environment)
      expect(result).toMatchObject({ code: 0, stdout: expect.stringContaining('already has these settings') })
    }
    // A different value in the shell is reported.
    const other = await init(laptop, { ...environment, JIRA_HOST: jira.url })
    expect(other.stdout).toContain('! Configuration: JIRA_HOST has another value in this shell')
  })

  test('a missing scope is named, and nothing is written', async () => {
    jira.scoped.scopes.delete('write:jira-work')
    onTestFinished(() => void jira.scoped.scopes.add('write:jira-work'))
    const result = await init(laptop, credentials({ JIRA_API_TOKEN: jira.scoped.token }))
    expect(result.stdout).toContain('✗ Jira: the token of dev@example.org lacks the scope write:jira-work')
    expect(result.stdout).toContain('Create a token with read:jira-user, read:jira-work and write:jira-work')
    expect([result.code, filesAtHome(), jira.comments('DROP-1')]).toEqual([1, [], []])
  })

  test('every error is reported with a remedy, and nothing is written', async () => {
    jira.lacks.add('ADD_COMMENTS')
    const words = ['--github-repositories', 'acme/none', '--jira-projects', 'DROP,NOPE', '--json']
    const result = await init(words, credentials())
    const output = JSON.parse(result.stdout)
    const errors = output.checks.filter((row: Check) => row.status === 'error')
    expect(errors.map((row: Check) => row.text).sort()).toEqual([
      'GitHub shows no repository acme/none',
      'the account lacks the permission "Add comments" in DROP',
      'the project NOPE does not exist, or this account may not see it',
    ])
    for (const { remedy } of errors) expect(remedy).toMatch(/\w/)
    expect(output).toMatchObject({ path: path(), written: false, next: [] })
    expect([result.code, filesAtHome()]).toEqual([1, []])
    for (const secret of ['token-dev', jira.token]) expect(result.stdout + result.stderr).not.toContain(secret)
  })

  test('an App without its list of repositories is incomplete, and a flag completes it', async () => {
    const key = join(cli.home, 'key.pem')
    writeFileSync(key, github.app.privateKey, { mode: 0o600 })
    const environment = { GITHUB_API_URL: github.url, WEBHOOK_SECRET }
    const words = ['--app-id', String(github.app.id), '--private-key-file', key, '--jira', 'none', '--github', 'app']
    const projects = ['--jira-projects', 'drop:acme/shop+acme/*']
    const without = await init([...words, ...projects], environment)
    expect(without.stdout).toContain('✗ GitHub: GITHUB_REPOSITORIES is missing')
    expect(without.stdout).toContain('Set GITHUB_REPOSITORIES, or give --github-repositories.')
    expect([without.code, filesAtHome()]).toEqual([1, []])
    const complete = await init([...words, ...projects, '--github-repositories', 'acme/shop'], environment)
    expect(complete.stdout).toContain('✓ GitHub: acme/shop is reached')
    expect(complete.stdout).toContain('! Configuration: JIRA_PROJECTS: every repository of acme serves DROP')
    expect(complete.code).toBe(0)
    expect(parse(readFile())).toMatchObject({
      githubRepositories: ['acme/shop'],
      jiraProjects: ['DROP:acme/shop+acme/*'],
    })
    const star = await init(['--github-repositories', 'acme/*', '--jira-projects', 'DROP'], environment)
    expect(star.stdout).toContain('✗ Configuration: JIRA_PROJECTS: no repository serves DROP')
  })

  test('without answers it names what to give', async () => {
    const result = await init([])
    expect(result).toMatchObject({ code: 1, stdout: expect.stringContaining('Neither GitHub nor Jira is configured') })
    const half = await init(['--github', 'token', '--jira', 'polling', '-q'])
    expect(half.stdout).toBe('')
    expect(half.stderr).toContain('Set GITHUB_TOKEN, or give --github-token-file FILE.')
    expect(half.stderr).toContain('Set JIRA_HOST, or give --jira-host.')
  })

  test('a dry run checks everything, and writes nothing', async () => {
    const result = await init([...laptop, '--dry-run'], credentials())
    expect(result).toMatchObject({ code: 0, stderr: 'Nothing was written: this is a dry run.\n' })
    expect(filesAtHome()).toEqual([])
  })

  test('a malformed answer is wrong usage', async () => {
    const mistakes = [
      [['--github-repositories', 'shop'], '--github-repositories: "shop" is no'],
      [['--github-token-file', '/none'], '--github-token-file: ENOENT'],
      [['--jira', 'pigeon'], '--jira'],
      [['--public-url', 'http://swarm.example.org'], '--public-url: '],
      [['--github', 'new-app'], 'the public address of the bot is missing'],
    ] as const
    for (const [words, text] of mistakes)
      expect(await init([...words])).toMatchObject({ code: 2, stderr: expect.stringContaining(text) })
    // Before any check, and although the file has a valid value.
    writeFile('githubRepositories: [acme/shop]\n')
    expect(await init([], { GITHUB_REPOSITORIES: 'shop' })).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining('GITHUB_REPOSITORIES: "shop" is no'),
    })
  })

  test('a file with errors stays as it is', async () => {
    writeFile('port: 3000\nprot: 3001\n')
    const result = await init(laptop, credentials())
    expect(result).toMatchObject({ code: 1, stderr: expect.stringContaining('config.yaml:2: prot is no') })
    expect(readFile()).toBe('port: 3000\nprot: 3001\n')
  })
})

describe('an App that GitHub creates', () => {
  const begin = async (more: string[] = []) => {
    const words = ['--github', 'new-app', '--public-url', 'https://swarm.example.org', ...laptop]
    const run = start([...words, ...more], { GITHUB_API_URL: github.url })
    const page = await until('the address', () => run.output.stderr.match(/http:\/\/127\.0\.0\.1:\d+\/\S+/)?.[0])
    return { run, page }
  }
  test('is kept with its key, when GitHub sends the browser back with the right state', async () => {
    const { run, page } = await begin()
    const { back } = await consent(page)
    expect(github.manifests.at(-1)).toMatchObject({
      hook_attributes: { url: 'https://swarm.example.org/api/github/webhooks', active: true },
      default_permissions: { contents: 'read', issues: 'write' },
      default_events: expect.arrayContaining(['push', 'pull_request', 'issue_comment']),
    })
    const status = async (url: string) => (await fetch(url, { redirect: 'manual' })).status
    const { origin } = new URL(page)
    expect(await status(origin)).toBe(404)
    expect(await status(back.replace(/state=.*/, 'state=guessed'))).toBe(403)
    // A page of another site whose host name resolves to this address.
    const { promise, resolve } = Promise.withResolvers<number | undefined>()
    get(page, { headers: { host: 'evil.example.org' } }, answer => resolve(answer.resume().statusCode))
    expect(await promise).toBe(404)
    const answer = await fetch(back, { redirect: 'manual' })
    expect([answer.status, answer.headers.get('location')]).toEqual([
      303,
      `${github.url}/apps/agent-swarm/installations/new`,
    ])
    const { code, stdout, stderr } = await run.ended
    expect(stdout).toContain('✓ GitHub: the App is agent-swarm, and its key is valid')
    expect(stdout).toContain('✓ GitHub: the App has the permissions and events that it needs')
    expect(stdout).toContain('✓ GitHub: the App is installed on acme, for all repositories')
    const key = join(home(), `github-app-${github.app.id}.pem`)
    expect(parse(readFile())).toEqual({
      appId: github.app.id,
      privateKeyPath: key,
      webhookSecret: WEBHOOK_SECRET,
      githubRepositories: ['acme/shop'],
      githubApiUrl: github.url,
      jiraProjects: ['DROP'],
      provider: 'synthetic',
      publicUrl: 'https://swarm.example.org',
    })
    expect(stdout).toContain('GitHub sends its events to https://swarm.example.org/api/github/webhooks')
    expect([modeOf(key), modeOf(path()), readFileSync(key, 'utf8')]).toEqual(['600', '600', github.app.privateKey])
    expect(code).toBe(0)
    for (const secret of [WEBHOOK_SECRET, 'PRIVATE KEY']) expect(stdout + stderr).not.toContain(secret)
  })

  test('asks for what the operator turned on', async () => {
    writeFile('agent: { use: codex, rounds: 2 }\n')
    const { run, page } = await begin()
    await consent(page)
    run.interrupt()
    await run.ended
    expect(github.manifests.at(-1)).toMatchObject({
      default_permissions: { contents: 'write', checks: 'read' },
      default_events: expect.arrayContaining(['push', 'pull_request_review', 'check_suite']),
    })
  })

  test('belongs to the named organization; Ctrl-C before consent creates nothing', async () => {
    const { run, page } = await begin(['--organization', 'acme'])
    expect((await consent(page)).action).toMatch(/\/organizations\/acme\/settings\/apps\/new\?state=/)
    run.interrupt()
    expect(await run.ended).toMatchObject({ code: 1, stderr: expect.stringContaining('creating the App: cancelled') })
    expect(filesAtHome()).toEqual([])
  })

  test('stays after Ctrl-C, and the message says so', async () => {
    const nowhere = { match: /^GET \/app\/installations/, answer: { status: 200, body: [] } }
    github.faults.push(...Array.from({ length: 50 }, () => nowhere))
    const { run, page } = await begin()
    const { back } = await consent(page)
    await fetch(back, { redirect: 'manual' })
    await until('the App is in the file', () => run.output.stdout.includes('Created the App'))
    run.interrupt()
    const { code, stderr } = await run.ended
    expect(stderr).toContain(`cancelled; the new App is in ${path()}\nContinue: agent-swarm init`)
    expect([code, parse(readFile()).appId]).toEqual([1, github.app.id])
  })
})
