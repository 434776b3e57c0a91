/** A start without GITHUB_REPOSITORIES: the line to paste. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { startBot } from '../../src/bot/index.ts'
import { readConfig } from '../../src/config/config.ts'
import { openLog } from '../../src/log.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { type GitHubStandIn, startGitHub } from '../support/github.ts'

let hub: GitHubStandIn
beforeAll(async () => {
  hub = await startGitHub({ more: ['api'] })
})
afterAll(() => hub.stop())

const start = async (settings: Record<string, string>, watched: string[] = []): Promise<string> => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-start-'))
  onTestFinished(() => rmSync(home, { recursive: true, force: true }))
  if (watched.length > 0) {
    const store = openStore(join(home, 'bot.db'), Date.now)
    for (const repo of watched) await store.cursors.set(`github-app:${repo}`, {})
    await store.close()
  }
  const common = { AGENT_SWARM_HOME: home, JIRA_PROJECTS: 'DROP', AGENT_SWARM_RUNNER_TOKEN: 'x'.repeat(20), PORT: '0' }
  const config = await readConfig({}, { ...common, ...settings })
  return startBot(config, openLog('silent')).then(
    () => 'started',
    (error: Error) => error.message,
  )
}
const withApp = () => {
  const { GITHUB_REPOSITORIES: _, ...settings } = hub.settings
  return settings
}

test('an App: those of its installations', async () => {
  const message = await start(withApp())
  expect(message).toMatch(/GITHUB_REPOSITORIES is missing/)
  expect(message).toContain('githubRepositories: [acme/api, acme/shop]\n')
  expect(message).toContain('GITHUB_REPOSITORIES=acme/api,acme/shop')
})

test('a token: those that it may push to', async () => {
  expect(await start({ GITHUB_TOKEN: 'token-dev', GITHUB_API_URL: hub.url })).toContain(
    'GITHUB_REPOSITORIES=acme/api,acme/shop',
  )
})

test('an App that GitHub does not answer: those that the bot watched before', async () => {
  const message = await start({ ...withApp(), GITHUB_API_URL: 'http://127.0.0.1:9' }, ['acme/site', 'acme/shop'])
  expect(message).toContain('GITHUB_REPOSITORIES=acme/shop,acme/site')
})

test('nothing is known: what is missing is said all the same', async () => {
  const message = await start({ ...withApp(), GITHUB_API_URL: 'http://127.0.0.1:9' })
  expect(message).toMatch(/GITHUB_REPOSITORIES is missing\. List/)
  expect(message).not.toContain('These are known')
})

test('a project that nothing serves stops the start', async () => {
  expect(await start({ ...hub.settings, GITHUB_REPOSITORIES: 'acme/*' })).toMatch(
    /no repository serves DROP.*JIRA_PROJECTS=DROP:acme\/shop/,
  )
})
