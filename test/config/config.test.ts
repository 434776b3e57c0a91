import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { providerNames, providers } from '../../providers/index.ts'
import { readConfig } from '../../src/config/config.ts'
import { homeId } from '../../src/config/home.ts'
import { groups } from '../../src/config/settings.ts'
import { PROVIDER_NAME } from '../../src/domain.ts'
import { plainAccess } from '../../src/runner/project/access.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-config-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))
const read = (environment: Record<string, string> = {}, flags = {}) =>
  readConfig(flags, { AGENT_SWARM_HOME: home, ...environment })
const KEY = '-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----'
const github = {
  APP_ID: '1',
  PRIVATE_KEY: KEY,
  WEBHOOK_SECRET: 'hush-hush-hush-hush',
  GITHUB_REPOSITORIES: 'acme/shop',
}
const jira = {
  JIRA_HOST: 'example.atlassian.net',
  JIRA_EMAIL: 'me@example.org',
  JIRA_API_TOKEN: 't',
  JIRA_PROJECTS: 'drop, WEB',
  JIRA_WEBHOOK_SECRET: 'hush-hush-hush-hush',
}

test('without settings, the CLI works, and the bot reports everything that it lacks', async () => {
  const config = await read()
  expect(config).toMatchObject({
    home,
    host: '127.0.0.1',
    port: 3000,
    provider: null,
    size: { cpus: 2, memoryMiB: 4096, diskGiB: 40 },
    github: null,
    jira: null,
  })
  expect(config.botProblems.join()).toMatch(/APP_ID.*WEBHOOK_SECRET.*JIRA_HOST/)
})

test('a runner without a credential of GitHub knows where the repositories are', async () => {
  const config = await read({ GITHUB_API_URL: 'https://github.example.org/api/v3' })
  expect(config).toMatchObject({ github: null, githubApiUrl: 'https://github.example.org/api/v3' })
  await plainAccess(config.githubApiUrl)(
    { ticket: 'DROP-1', vmId: 'as-drop-1-00000001', repo: 'acme/shop', signal: AbortSignal.abort() },
    async ({ remote }) => expect(remote).toBe('https://github.example.org/'),
  )
})

test('the private key may be base64, as Probot accepts it', async () => {
  const config = await read({ ...github, PRIVATE_KEY: Buffer.from(KEY).toString('base64'), JIRA_PROJECTS: 'DROP' })
  expect(config.github).toMatchObject({ privateKey: KEY })
})

test('both sides complete: no problems; the private key may be one line with \\n', async () => {
  const config = await read({ ...github, PRIVATE_KEY: KEY.replaceAll('\n', '\\n'), ...jira })
  expect(config.botProblems).toEqual([])
  expect(config.github).toEqual({
    via: 'app',
    appId: 1,
    privateKey: KEY,
    webhookSecret: 'hush-hush-hush-hush',
    repositories: ['acme/shop'],
    apiUrl: null,
  })
  expect(config.jira).toMatchObject({ url: 'https://example.atlassian.net' })
  expect(config.projects).toEqual(['DROP', 'WEB'])
})

test.for([
  [
    'an App without its secret',
    { APP_ID: '1', PRIVATE_KEY: KEY, JIRA_PROJECTS: 'DROP' },
    /WEBHOOK_SECRET is missing or empty/,
  ],
  ['an empty secret', { ...github, WEBHOOK_SECRET: '', JIRA_PROJECTS: 'DROP' }, /WEBHOOK_SECRET is missing or empty/],
  [
    'only a webhook secret',
    { WEBHOOK_SECRET: 'hush-hush-hush-hush', JIRA_PROJECTS: 'DROP' },
    /APP_ID is missing[\s\S]*PRIVATE_KEY/,
  ],
  ['a private key that is not PEM', { ...github, PRIVATE_KEY: 'abc', JIRA_PROJECTS: 'DROP' }, /not a PEM private key/],
  ['an empty webhook secret of Jira', { ...jira, JIRA_WEBHOOK_SECRET: '' }, /JIRA_WEBHOOK_SECRET is empty/],
  [
    'an App that is configured in part, beside a token',
    { APP_ID: '1', GITHUB_TOKEN: 't', JIRA_PROJECTS: 'DROP' },
    /WEBHOOK_SECRET/,
  ],
  ['an empty token', { GITHUB_TOKEN: '', JIRA_PROJECTS: 'DROP' }, /GITHUB_TOKEN is empty/],
  [
    'a secret of Jira automation that is short',
    { ...jira, JIRA_AUTOMATION_SECRET: 'fifteen letters' },
    /JIRA_AUTOMATION_SECRET has 15 characters/,
  ],
  ['an empty secret of Jira automation', { ...jira, JIRA_AUTOMATION_SECRET: '' }, /JIRA_AUTOMATION_SECRET is empty/],
  ['Jira without projects', { ...jira, JIRA_PROJECTS: '' }, /JIRA_PROJECTS is missing/],
] as const)('%s keeps the bot from starting', async ([, environment, expected]) => {
  const config = await read(environment)
  expect(config.botProblems.join('\n')).toMatch(expected)
})

test('a token instead of an App, and Jira without a webhook secret, are complete', async () => {
  const { JIRA_WEBHOOK_SECRET: _, ...polled } = jira
  const config = await read({ ...polled, GITHUB_TOKEN: 't', GITHUB_REPOSITORIES: 'acme/shop, acme/web' })
  expect(config.botProblems).toEqual([])
  expect(config.github).toEqual({ via: 'token', token: 't', repositories: ['acme/shop', 'acme/web'], apiUrl: null })
  expect(config.jira).toMatchObject({ webhookSecret: null, automationSecret: null })
})

test('a token beside a complete App is ignored', async () => {
  expect((await read({ ...github, GITHUB_TOKEN: 't', JIRA_PROJECTS: 'DROP' })).github).toMatchObject({ via: 'app' })
})

test('an address may not contain a user or a password, and the message shows neither', async () => {
  for (const url of ['https://me:canary@bot.example', 'https://canary@bot.example/', 'http://me:canary@bot.example']) {
    const [message = ''] = await mistakes({ AGENT_SWARM_BOT_URL: url })
    expect(message).toMatch(/^AGENT_SWARM_BOT_URL must .*"https?:\/\/\[redacted\]@bot\.example\/?"\.$/)
  }
})

test('http is allowed on loopback', async () => {
  expect((await read({ ...jira, JIRA_HOST: 'http://127.0.0.1:8080' })).jira?.url).toBe('http://127.0.0.1:8080')
  // An ordinary name, which somebody owns.
  expect((await mistakes({ JIRA_HOST: 'http://127.example.org' })).join()).toMatch(
    /^JIRA_HOST must be .* loopback only/,
  )
})

test('a scheme is not taken for a host name', async () => {
  expect((await read({ ...jira, JIRA_HOST: 'HTTPS://Example.atlassian.net' })).jira?.url).toBe(
    'https://example.atlassian.net',
  )
  expect((await read({ ...jira, JIRA_HOST: 'localhost:8080/jira' })).jira?.url).toBe('https://localhost:8080/jira')
  for (const given of ['ftp://example.org', 'HTTP://example.org', 'https:/example.org', 'file:///etc'])
    expect((await mistakes({ JIRA_HOST: given })).join()).toMatch(/^JIRA_HOST must be a host name or an https URL/)
})

test('an address keeps its path', async () => {
  const gateway = 'https://api.atlassian.com/ex/jira/35273b54-3f06-40d2-880f-dd28cf8daafa'
  for (const given of [gateway, `${gateway}/`, gateway.replace('https://', '')])
    expect((await read({ ...jira, JIRA_HOST: given })).jira?.url).toBe(gateway)
})

const mistakes = async (environment: Record<string, string>, flags = {}): Promise<string[]> => {
  const error = await read(environment, flags).then(
    () => null,
    (thrown: Error) => thrown,
  )
  return (error?.message ?? '')
    .split('\n')
    .slice(1)
    .map(line => line.replace('  - ', '').replace(home, '~'))
}

test('every mistake is reported at once, each with its place and what the value must be', async () => {
  writeFileSync(
    join(home, 'config.yaml'),
    'jiraProjects: [DROP, 7]\nprot: 1000\nmemoryMiB: much\nrunnerToken: 1234\nbaseImage: [a, b]\n',
    { mode: 0o600 },
  )
  const messages = await mistakes(
    {
      PORT: 'x',
      LOG_LEVEL: 'loud',
      GITHUB_TOKEN: 't',
      GITHUB_REPOSITORIES: 'a/b,shop',
      JIRA_HOST: 'http://jira.example',
    },
    { provider: 'vmware', botUrl: 'http://bot.example' },
  )
  expect(messages.sort()).toEqual([
    '--bot-url must be a host name or an https URL (http on loopback only), not "http://bot.example".',
    `--provider must be one of ${providerNames.join(', ')}, not "vmware".`,
    'GITHUB_REPOSITORIES[1] is not a repository (write owner/name, or owner/* for all of an owner): "shop".',
    'JIRA_HOST must be a host name or an https URL (http on loopback only), not "http://jira.example".',
    'LOG_LEVEL must be one of trace, debug, info, warn, error, fatal, silent, not "loud".',
    'PORT must be a whole number from 0 to 65535, not "x".',
    '~/config.yaml:1: jiraProjects[1] is not a Jira project key (for example DROP), nor one with its repositories (DROP:acme/shop+acme/api): 7.',
    '~/config.yaml:2: prot is not a setting; did you mean port?',
    '~/config.yaml:3: memoryMiB must be a whole number from 256 to 1048576, not "much".',
    '~/config.yaml:4: runnerToken must be text (in quotes if it looks like a number).',
    '~/config.yaml:5: baseImage is not an image name (lower-case letters, digits and hyphens, at most 41 characters): ["a","b"].',
  ])
})

test.for([
  ['text that is not YAML', 'a: [', /config\.yaml:1: /],
  ['the same setting twice', 'port: 1\nport: 2\n', /config\.yaml:2: Map keys must be unique/],
  ['an alias', 'port: &p 1\ncpus: *p\n', /aliases \(&name, \*name\) are not allowed/],
  ['a list', '- port\n', /config\.yaml must be lines of "name: value"/],
  ['a tag', 'port: !!js/function "x"\n', /config\.yaml:1: /],
  ['a merge key', '<<: {port: 1}\n', /config\.yaml:1: << is not a setting/],
  [
    'a name that objects inherit',
    '__proto__: {port: 1}\nconstructor: 1\n',
    /__proto__ is not a setting[\s\S]*constructor is not a setting/,
  ],
  ['endless nesting', `port: ${'['.repeat(50_000)}`, /config\.yaml/],
  ['an endless line', `port: 1 # ${'x'.repeat(200_000)}`, /larger than 100000 characters/],
] as const)('a file with %s is refused with a message', async ([, content, expected]) => {
  writeFileSync(join(home, 'config.yaml'), content)
  const error = await read().then(
    () => '',
    (thrown: Error) => thrown.message,
  )
  expect(error).toMatch(expected)
})

test('a line of the file without a value is given, and empty', async () => {
  writeFileSync(join(home, 'config.yaml'), 'githubToken:\njiraProjects: [DROP]\n')
  expect((await read()).botProblems.join()).toMatch(/GITHUB_TOKEN is empty/)
})

test('a secret is never shown, even when it is wrong', async () => {
  writeFileSync(join(home, 'config.yaml'), 'jiraApiToken: [hidden]\nwebhookSecret: {hidden: 1}\n', { mode: 0o600 })
  const messages = await mistakes({})
  expect(messages).toHaveLength(2)
  expect(messages.join()).not.toContain('hidden')
})

test('a limit is by default the size of a machine', async () => {
  expect((await read({ AGENT_SWARM_CPUS: '3', AGENT_SWARM_MAX_DISK_GIB: '100' })).limits).toEqual({
    cpus: 3,
    memoryMiB: 4096,
    diskGiB: 100,
  })
})

test('a flag wins over the environment, which wins over the file', async () => {
  writeFileSync(join(home, 'config.yaml'), 'port: 1000\nlogLevel: warn\njiraProjects: [DROP, WEB]\n')
  expect(await read({ PORT: '2000' }, { port: '3001' })).toMatchObject({
    port: 3001,
    logLevel: 'warn',
    projects: ['DROP', 'WEB'],
  })
  expect(await read({ PORT: '2000' })).toMatchObject({ port: 2000 })
  expect(await read()).toMatchObject({ port: 1000 })
})

test('NODE_ENV changes nothing', async () => {
  const { environment: _, ...production } = await read({ ...github, ...jira, NODE_ENV: 'production' })
  const { environment: __, ...development } = await read({ ...github, ...jira, NODE_ENV: 'development' })
  expect(production).toEqual(development)
})

test("a provider's settings come from its own folder", async () => {
  const { providerSettings } = await read({ AGENT_SWARM_KVM_URI: 'qemu:///session' })
  expect(Object.keys(providerSettings)).toEqual(providerNames)
  expect(providerSettings.kvm).toMatchObject({ kvmUri: 'qemu:///session', kvmPool: 'agent-swarm' })
  expect(providerSettings.synthetic).toEqual({ syntheticMemoryMiB: null })
  expect(await mistakes({ AGENT_SWARM_KVM_FIRMWARE: 'coreboot' })).toEqual([
    'AGENT_SWARM_KVM_FIRMWARE must be one of bios, uefi, not "coreboot".',
  ])
})

test('a provider is one row with a valid name, and no two providers share a setting', () => {
  for (const { name, label, settings } of providers) {
    expect(name).toMatch(PROVIDER_NAME)
    expect(label.length).toBeLessThanOrEqual(64)
    for (const [setting, { env }] of Object.entries(settings)) {
      expect(setting.startsWith(name)).toBe(true)
      // One with members stands in the file alone.
      if (env !== null) expect(env).toMatch(new RegExp(`^AGENT_SWARM_${name.toUpperCase()}_[A-Z_]+$`))
    }
  }
  const rows = Object.values(groups).flatMap(rows => Object.entries(rows))
  expect(new Set(rows.map(([name]) => name)).size).toBe(rows.length)
  const variables = rows.flatMap(([, { env }]) => (env === null ? [] : [env]))
  expect(new Set(variables).size).toBe(variables.length)
})

test("a home's id is made once, and damage to it is reported", async () => {
  const id = await homeId(home)
  expect(id).toMatch(/^[0-9a-f]{16}$/)
  expect(await homeId(home)).toBe(id)
  writeFileSync(join(home, 'id'), '')
  await expect(homeId(home)).rejects.toThrow(/does not hold 16 hex digits/)
})

test('moves without a machine are explained, unless that is turned off', async () => {
  expect((await read({ ...github, ...jira })).explain).toBe(true)
  expect((await read({ ...github, ...jira, JIRA_EXPLAIN: 'off' })).explain).toBe(false)
  expect((await mistakes({ JIRA_EXPLAIN: 'perhaps' })).join()).toMatch(/JIRA_EXPLAIN/)
})

test.for([
  ['WEBHOOK_SECRET', { ...github, WEBHOOK_SECRET: 'x'.repeat(15) }, 'GitHub: WEBHOOK_SECRET'],
  ['JIRA_WEBHOOK_SECRET', { ...jira, JIRA_WEBHOOK_SECRET: 'x'.repeat(15) }, 'Jira: JIRA_WEBHOOK_SECRET'],
  ['AGENT_SWARM_RUNNER_TOKEN', { ...jira, AGENT_SWARM_RUNNER_TOKEN: 'x'.repeat(15) }, 'AGENT_SWARM_RUNNER_TOKEN'],
] as const)(
  '%s with fewer than 16 characters stops the start, and says how to make one',
  async ([name, given, start]) => {
    const environment = { AGENT_SWARM_HOME: '/nowhere', JIRA_PROJECTS: 'DROP', ...given }
    expect((await readConfig({}, environment)).botProblems).toEqual([
      `${start} has 15 characters; it needs at least 16. Make one with: openssl rand -hex 32`,
    ])
    expect((await readConfig({}, { ...environment, [name]: 'x'.repeat(16) })).botProblems).toEqual([])
  },
)

test.for([
  [
    'addresses and ranges',
    '192.0.2.1, 198.51.100.0/24,2001:db8::/32',
    ['192.0.2.1', '198.51.100.0/24', '2001:db8::/32'],
  ],
  ['a name', 'proxy.example.org', null],
  ['a range that is too long', '192.0.2.0/33', null],
  ['two ranges in one', '192.0.2.0/24/24', null],
  ['an address with letters', '192.0.2.x', null],
] as const)('AGENT_SWARM_PROXIES: %s', async ([, given, expected]) => {
  const read = readConfig({}, { AGENT_SWARM_HOME: '/nowhere', AGENT_SWARM_PROXIES: given })
  if (expected === null) await expect(read).rejects.toThrow(/AGENT_SWARM_PROXIES.* is not an IP address or a range/)
  else expect((await read).proxies).toEqual(expected)
})
