/** `agent-swarm init` as a process of its own: on a terminal, and with a secret on standard input. */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'
import { openCli } from '../support/cli.ts'
import { type GitHubStandIn, startGitHub } from '../support/github.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import type { Step } from '../support/terminal.ts'

let github: GitHubStandIn
let jira: JiraStandIn
let cli: ReturnType<typeof openCli>
beforeAll(async () => {
  github = await startGitHub({ more: ['web'], people: { dev: 'push' } })
  // Both may have been made in one millisecond.
  const file = { message: 'Newer', content: Buffer.from('x').toString('base64') }
  await github.api('acme', 'PUT', '/repos/acme/web/contents/newer', file)
  jira = await startJira({ issues: { 'DROP-1': 'one' } })
})
afterAll(() => Promise.all([github.stop(), jira.stop()]))
beforeEach(() => {
  cli = openCli()
})
afterEach(() => cli.close())

const home = () => join(cli.home, 'state')
const path = () => join(home(), 'config.yaml')
const readFile = () => readFileSync(path(), 'utf8')
/** Without the cache of compiled code. */
const filesAtHome = () => (existsSync(home()) ? readdirSync(home()).filter(name => name !== 'cache') : [])
const addresses = () => ({ GITHUB_API_URL: github.url, JIRA_HOST: jira.url })
const settings = () => ({
  githubToken: 'token-dev',
  githubRepositories: ['acme/shop'],
  githubApiUrl: github.url,
  jiraHost: jira.url,
  jiraEmail: jira.me.emailAddress,
  jiraApiToken: jira.token,
  jiraProjects: ['DROP'],
  provider: 'synthetic',
})

/** Down, and chosen. The repository with the newest push is the first: acme/web. */
const SECOND = '\u001b[B '
const steps = (...lines: [prompt: string, text: string][]) =>
  lines.map(([prompt, text]) => ({ prompt, text: `${text}\r` }))
const runInit = async (type: Step[], environment: Record<string, string> = {}) => {
  const { screen, code } = await cli.processes.terminal(['init'], {
    environment: { ...addresses(), ...environment },
    type,
  })
  return { screen: stripVTControlCharacters(screen), code }
}

test('it asks, asks again after an error, shows no secret, and writes', async () => {
  const { screen, code } = await runInit(
    steps(
      ['reach GitHub?', ''],
      ['Your GitHub token', 'wrong-token'],
      ['Answer again?', ''],
      ['Your GitHub token', 'token-dev'],
      ['may act on tickets?', SECOND],
      ['reach Jira Cloud?', ''],
      ['As which Jira account', ''],
      ['The Jira site', ''],
      ['e-mail address', 'dev'],
      ['is not an e-mail address', '@example.org'],
      ['API token', jira.token],
      // The only visible project is prefilled.
      ['The keys of', ''],
      ['Which tickets get', ''],
      ['Which hypervisor?', ''],
      ['Write these settings?', ''],
    ),
  )
  expect(screen).toContain('✗ GitHub: GitHub does not know this token')
  expect(screen).toContain('https://id.atlassian.com/manage-profile/security/api-tokens')
  expect(screen).toContain('Enter keeps the current one.')
  expect(screen).toContain('Next: agent-swarm up')
  for (const secret of ['wrong-token', 'token-dev', jira.token]) expect(screen).not.toContain(secret)
  expect(code).toBe(0)
  expect(parse(readFile())).toEqual(settings())
  expect((statSync(path()).mode & 0o777).toString(8)).toBe('600')
})

test('a token without a scope is asked for again, and then written with the address that accepts it', async () => {
  const { scopes, token, url } = jira.scoped
  scopes.delete('read:jira-work')
  onTestFinished(() => void scopes.add('read:jira-work'))
  const { screen, code } = await runInit(
    [
      ...steps(['reach GitHub?', ''], ['Your GitHub token', 'token-dev'], ['may act on tickets?', SECOND]),
      ...steps(
        ['reach Jira Cloud?', ''],
        ['As which Jira account', ''],
        ['The Jira site', jira.url],
        ['e-mail address', jira.me.emailAddress],
      ),
      ...steps(['API token', token]),
      // Meanwhile the token gets the scope.
      { prompt: 'Answer again?', does: () => void scopes.add('read:jira-work'), text: '\r' },
      ...steps(['The Jira site', ''], ['e-mail address', ''], ['API token', '']),
      ...steps(
        ['The keys of', ''],
        ['Which tickets get', ''],
        ['Which hypervisor?', ''],
        ['Write these settings?', ''],
      ),
    ],
    { JIRA_HOST: '' },
  )
  expect(screen).toContain('One with scopes needs read:jira-user')
  expect(screen).toContain('lacks the scope read:jira-work')
  expect(screen).not.toContain(token)
  expect(code).toBe(0)
  expect(parse(readFile())).toEqual({ ...settings(), jiraHost: url, jiraApiToken: token })
})

test('what works is written, although something else does not', async () => {
  const { screen, code } = await runInit(
    steps(
      ...([
        ['reach GitHub?', ''],
        ['Your GitHub token', 'token-dev'],
        ['may act on tickets?', SECOND],
      ] as [string, string][]),
      ...([
        ['reach Jira Cloud?', ''],
        ['As which Jira account', ''],
        ['The Jira site', ''],
      ] as [string, string][]),
      ...([
        ['e-mail address', 'dev@example.org'],
        ['API token', 'wrong-token'],
        ['Answer again?', 'n'],
      ] as [string, string][]),
      ...([
        ['The keys of', 'DROP'],
        ['Which tickets get', ''],
        ['Which hypervisor?', ''],
      ] as [string, string][]),
      ['What should be written?', ''],
    ),
  )
  expect(screen).toMatch(/An administrator creates one at https:\/\/admin\.atlassian\.com/)
  expect(screen).toContain('Jira: there are errors. What should be written?')
  expect(screen).toMatch(/Wrote githubToken, githubRepositories, githubApiUrl, provider to \S*config\.yaml\./)
  expect(code).toBe(1)
  const { githubToken, githubRepositories, githubApiUrl, provider } = settings()
  expect(parse(readFile())).toEqual({ githubToken, githubRepositories, githubApiUrl, provider })
})

test('other repositories are typed; after an error they are chosen already', async () => {
  const { screen, code } = await runInit([
    ...steps(['reach GitHub?', ''], ['Your GitHub token', 'token-dev']),
    // acme/shop, and the last: to type others.
    { prompt: 'may act on tickets?', text: '\u001b[B \u001b[B \r' },
    // The hint comes before the question, which alone reads what is typed.
    { prompt: 'separated by commas' },
    ...steps(['may act on tickets?', ', acme/none'], ['Answer again?', '']),
    // acme/none is there now, below acme/shop.
    { prompt: 'may act on tickets?', text: '\u001b[B \r' },
    { prompt: 'reach Jira Cloud?', text: '\u0003' },
  ])
  expect(screen).toContain('GitHub shows no repository acme/none')
  expect(screen).toContain('acme/shop can be read and written')
  expect([code, filesAtHome()]).toEqual([1, []])
})

test('Ctrl-C changes nothing', async () => {
  const { screen, code } = await runInit([
    ...steps(['reach GitHub?', ''], ['Your GitHub token', 'token-dev']),
    { prompt: 'may act on tickets?', text: '\u0003' },
  ])
  expect(screen).toContain('agent-swarm init: cancelled; nothing was changed')
  expect([code, filesAtHome()]).toEqual([1, []])
})

test('existing settings are offered, and a no writes nothing', async () => {
  mkdirSync(home(), { recursive: true })
  const before = 'githubToken: token-dev\ngithubRepositories: [acme/shop]\njiraProjects: [DROP]\nprovider: synthetic\n'
  writeFileSync(path(), before)
  const { screen, code } = await runInit(
    steps(
      ['reach GitHub?', ''],
      ['Your GitHub token', ''],
      // The present one is chosen; below it is the other.
      ['may act on tickets?', SECOND],
      ['reach Jira Cloud?', ''],
      ['The keys of', ''],
      ['Which hypervisor?', ''],
      ['Write these settings?', 'n'],
    ),
    { JIRA_HOST: '' },
  )
  expect(screen).toContain('Enter keeps the current one.')
  expect(screen).toContain('~ githubRepositories: acme/shop -> acme/shop, acme/web')
  expect(screen).toContain('Nothing was written.')
  expect([code, readFile()]).toEqual([1, before])
})

test('a secret comes from standard input', async () => {
  const words = ['init', '--github-token-file', '-', '--github-repositories', 'acme/shop', '--jira-projects', 'DROP']
  const result = await cli.processes.swarm(words, { environment: { GITHUB_API_URL: github.url }, input: 'token-dev\n' })
  expect(result.code).toBe(0)
  expect(parse(readFile())).toMatchObject({ githubToken: 'token-dev' })
})
