import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readConfig } from '../../src/config/config.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-config-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))
const read = (environment: Record<string, string> = {}, flags = {}) =>
  readConfig(flags, { AGENT_SWARM_HOME: home, ...environment })
const KEY = '-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----'
const github = { APP_ID: '1', PRIVATE_KEY: KEY, WEBHOOK_SECRET: 'hush' }
const jira = {
  JIRA_HOST: 'example.atlassian.net',
  JIRA_EMAIL: 'me@example.org',
  JIRA_API_TOKEN: 't',
  JIRA_PROJECTS: 'drop, WEB',
  JIRA_WEBHOOK_SECRET: 'hush',
}

test('with nothing set, the CLI works and the bot says all that it lacks', async () => {
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

test('the key in base64, as Probot takes it too', async () => {
  const config = await read({ ...github, PRIVATE_KEY: Buffer.from(KEY).toString('base64'), JIRA_PROJECTS: 'DROP' })
  expect(config.github).toMatchObject({ privateKey: KEY })
})

test('both sides complete: no problem; the key with \\n in one line is a key', async () => {
  const config = await read({ ...github, PRIVATE_KEY: KEY.replaceAll('\n', '\\n'), ...jira })
  expect(config.botProblems).toEqual([])
  expect(config.github).toEqual({ via: 'app', appId: 1, privateKey: KEY, webhookSecret: 'hush', apiUrl: null })
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
  ['a secret alone', { WEBHOOK_SECRET: 'hush', JIRA_PROJECTS: 'DROP' }, /APP_ID is missing[\s\S]*PRIVATE_KEY/],
  ['a key that is none', { ...github, PRIVATE_KEY: 'abc', JIRA_PROJECTS: 'DROP' }, /no PEM private key/],
  ['a webhook secret of Jira that is empty', { ...jira, JIRA_WEBHOOK_SECRET: '' }, /JIRA_WEBHOOK_SECRET is empty/],
  ['an App that is begun, beside a token', { APP_ID: '1', GITHUB_TOKEN: 't', JIRA_PROJECTS: 'DROP' }, /WEBHOOK_SECRET/],
  ['an empty token', { GITHUB_TOKEN: '', JIRA_PROJECTS: 'DROP' }, /GITHUB_TOKEN is empty/],
  ['Jira without projects', { ...jira, JIRA_PROJECTS: '' }, /JIRA_PROJECTS is missing/],
] as const)('%s keeps the bot from starting', async ([, environment, said]) => {
  const config = await read(environment)
  expect(config.botProblems.join('\n')).toMatch(said)
})

test('a token instead of an App, and Jira without a webhook, are complete', async () => {
  const { JIRA_WEBHOOK_SECRET: _, ...polled } = jira
  const config = await read({ ...polled, GITHUB_TOKEN: 't', GITHUB_REPOSITORIES: 'acme/shop, acme/web' })
  expect(config.botProblems).toEqual([])
  expect(config.github).toEqual({ via: 'token', token: 't', repositories: ['acme/shop', 'acme/web'], apiUrl: null })
  expect(config.jira).toMatchObject({ webhookSecret: null })
})

test('a complete App counts, and the token beside it does not', async () => {
  expect((await read({ ...github, GITHUB_TOKEN: 't', JIRA_PROJECTS: 'DROP' })).github).toMatchObject({ via: 'app' })
})

test('an address has no user and no password, and what is said of it shows neither', async () => {
  for (const url of ['https://me:canary@bot.example', 'https://canary@bot.example/', 'http://me:canary@bot.example']) {
    const [found = ''] = await mistakes({ AGENT_SWARM_BOT_URL: url })
    expect(found).toMatch(/^AGENT_SWARM_BOT_URL must .*"https?:\/\/\[redacted\]@bot\.example\/?"\.$/)
  }
})

test('http is allowed on loopback', async () => {
  expect((await read({ ...jira, JIRA_HOST: 'http://127.0.0.1:8080' })).jira?.url).toBe('http://127.0.0.1:8080')
  // A name like any other, and somebody's.
  expect((await mistakes({ JIRA_HOST: 'http://127.example.org' })).join()).toMatch(
    /^JIRA_HOST must be .* loopback only/,
  )
})

test('a scheme is no name of a host', async () => {
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

test('every mistake is told at once, each with where, what is wrong and how it is written', async () => {
  writeFileSync(
    join(home, 'config.yaml'),
    'jiraProjects: [DROP, 7]\nprot: 1000\nmemoryMiB: much\nrunnerToken: 1234\nbaseImage: [a, b]\n',
  )
  const found = await mistakes(
    {
      PORT: 'x',
      LOG_LEVEL: 'loud',
      GITHUB_TOKEN: 't',
      GITHUB_REPOSITORIES: 'a/b,shop',
      JIRA_HOST: 'http://jira.example',
    },
    { provider: 'vmware', botUrl: 'http://bot.example' },
  )
  expect(found.sort()).toEqual([
    '--bot-url must be a host name or an https URL (http on loopback only), and is "http://bot.example".',
    '--provider must be one of kvm, tart, hyperv, aws, synthetic, and is "vmware".',
    'GITHUB_REPOSITORIES[1] is no repository, which is written owner/name: "shop".',
    'JIRA_HOST must be a host name or an https URL (http on loopback only), and is "http://jira.example".',
    'LOG_LEVEL must be one of trace, debug, info, warn, error, fatal, silent, and is "loud".',
    'PORT must be a whole number from 0 to 65535, and is "x".',
    '~/config.yaml:1: jiraProjects[1] is no project key of Jira, as DROP: 7.',
    '~/config.yaml:2: prot is no setting; did you mean port?',
    '~/config.yaml:3: memoryMiB must be a whole number from 256 to 1048576, and is "much".',
    '~/config.yaml:4: runnerToken must be text, in quotes when it looks like a number.',
    '~/config.yaml:5: baseImage is no name of an image: small letters, digits and hyphens, at most 41: ["a","b"].',
  ])
})

test.for([
  ['text that is no YAML', 'a: [', /config\.yaml:1: /],
  ['the same setting twice', 'port: 1\nport: 2\n', /config\.yaml:2: Map keys must be unique/],
  ['an alias', 'port: &p 1\ncpus: *p\n', /aliases \(&name, \*name\) are not taken/],
  ['a list', '- port\n', /config\.yaml must be lines of "name: value"/],
  ['a tag', 'port: !!js/function "x"\n', /config\.yaml:1: /],
  ['a merge key', '<<: {port: 1}\n', /config\.yaml:1: << is no setting/],
  [
    'a name that objects inherit',
    '__proto__: {port: 1}\nconstructor: 1\n',
    /__proto__ is no setting[\s\S]*constructor is no setting/,
  ],
  ['no end of nesting', `port: ${'['.repeat(50_000)}`, /config\.yaml/],
  ['no end', `port: 1 # ${'x'.repeat(200_000)}`, /larger than 100000 characters/],
] as const)('a file with %s is refused in words', async ([, content, expected]) => {
  writeFileSync(join(home, 'config.yaml'), content)
  const error = await read().then(
    () => '',
    (thrown: Error) => thrown.message,
  )
  expect(error).toMatch(expected)
})

test('a setting of the file with nothing behind it is given, and empty', async () => {
  writeFileSync(join(home, 'config.yaml'), 'githubToken:\njiraProjects: [DROP]\n')
  expect((await read()).botProblems.join()).toMatch(/GITHUB_TOKEN is empty/)
})

test('no secret is shown, even one that is wrong', async () => {
  writeFileSync(join(home, 'config.yaml'), 'jiraApiToken: [hidden]\nwebhookSecret: {hidden: 1}\n')
  const found = await mistakes({})
  expect(found).toHaveLength(2)
  expect(found.join()).not.toContain('hidden')
})

test('a limit is as much as a machine has, where nobody sets another', async () => {
  expect((await read({ AGENT_SWARM_CPUS: '3', AGENT_SWARM_MAX_DISK_GIB: '100' })).limits).toEqual({
    cpus: 3,
    memoryMiB: 4096,
    diskGiB: 100,
  })
})

test('a flag wins over the environment, and that over the file', async () => {
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
