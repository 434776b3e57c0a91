import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readConfig } from '../src/config.ts'

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
  ['a repository that is none', { GITHUB_TOKEN: 't', GITHUB_REPOSITORIES: 'shop' }, /"shop" is no repository/],
  ['Jira without projects', { ...jira, JIRA_PROJECTS: '' }, /JIRA_PROJECTS is missing/],
  ['Jira over plain http elsewhere', { ...jira, JIRA_HOST: 'http://jira.example.org' }, /JIRA_HOST must be/],
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

test('http is allowed on loopback', async () => {
  expect((await read({ ...jira, JIRA_HOST: 'http://127.0.0.1:8080' })).jira?.url).toBe('http://127.0.0.1:8080')
})

test('every mistake is told at once', async () => {
  await expect(
    read({ PORT: 'x', AGENT_SWARM_PROVIDER: 'vmware', LOG_LEVEL: 'loud', JIRA_PROJECTS: 'a-b' }),
  ).rejects.toThrow(/PORT[\s\S]*AGENT_SWARM_PROVIDER|AGENT_SWARM_PROVIDER[\s\S]*PORT/)
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

test('an unknown setting and a broken file are said with the path', async () => {
  writeFileSync(join(home, 'config.yaml'), 'prot: 1000\n')
  await expect(read()).rejects.toThrow(/config\.yaml: unknown setting "prot"/)
  writeFileSync(join(home, 'config.yaml'), 'a: [')
  await expect(read()).rejects.toThrow(/config\.yaml/)
  chmodSync(home, 0o700)
})

test('NODE_ENV changes nothing', async () => {
  const { environment: _, ...production } = await read({ ...github, ...jira, NODE_ENV: 'production' })
  const { environment: __, ...development } = await read({ ...github, ...jira, NODE_ENV: 'development' })
  expect(production).toEqual(development)
})
