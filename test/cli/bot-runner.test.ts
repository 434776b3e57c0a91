/** `bot runner add`, `list` and `revoke`, beside a running bot and without one. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Bot, startBot } from '../../src/bot/index.ts'
import { readConfig } from '../../src/config/config.ts'
import { openLog } from '../../src/log.ts'
import { environmentOf, offer } from '../store/fixtures.ts'
import { openCli } from '../support/cli.ts'
import { until } from '../support/wait.ts'

let home: string
let ahead: number
let bot: Bot | null
let cli: ReturnType<typeof openCli>
beforeEach(() => {
  home = join(mkdtempSync(join(tmpdir(), 'agent-swarm-runners-')), 'home')
  cli = openCli()
  bot = null
  ahead = 0
})
afterEach(async () => {
  await bot?.close()
  cli.close()
  rmSync(join(home, '..'), { recursive: true })
})
const start = async (more: Record<string, string> = {}) => {
  const jira = { JIRA_HOST: 'http://127.0.0.1:1', JIRA_EMAIL: 'dev@example.org', JIRA_API_TOKEN: 'jira-token' }
  const config = await readConfig({}, { AGENT_SWARM_HOME: home, ...jira, JIRA_PROJECTS: 'DROP', PORT: '0', ...more })
  bot = await startBot(config, openLog('silent'), { clock: () => Date.now() + ahead })
}
const swarm = (...words: string[]) => cli.swarm(['bot', 'runner', ...words], { AGENT_SWARM_HOME: home })
const add = async (...words: string[]) => (await swarm('add', ...words)).stdout.trim()
const beat = async (token: string, instance: string, host = 'studio', environments: object[] = []) =>
  (
    await fetch(`${bot?.url}/runner/v1/heartbeat`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ runnerId: instance, host, version: '1', offer, environments }),
    })
  ).status

test('a token that was made before the first start lets one runner in, and is on disk as a hash alone', async () => {
  const added = await swarm('add', 'studio')
  expect(added).toMatchObject({ code: 0, stderr: expect.stringContaining('AGENT_SWARM_RUNNER_TOKEN') })
  const token = added.stdout.trim()
  expect(token).toMatch(/^swarm_[A-Za-z0-9_-]{43}$/)
  expect(statSync(home).mode & 0o777).toBe(0o700)
  // It needs no AGENT_SWARM_RUNNER_TOKEN.
  await start()
  expect([await beat(token, 'a'), await beat(token, 'b'), await beat(`${token}x`, 'a')]).toEqual([204, 403, 401])
  expect((await swarm('list')).stdout).toMatch(/NAME .*\nstudio +studio +connected /)
  for (const file of readdirSync(home)) expect(readFileSync(join(home, file)).includes(token)).toBe(false)
})

test('beside a running bot: a runner gets a token of its own, keeps its id with --as, and loses it at once', async () => {
  await start({ AGENT_SWARM_RUNNER_TOKEN: 'the-token-of-the-runners' })
  expect(await beat('the-token-of-the-runners', 'one')).toBe(204)
  const own = await add('attic', '--as', 'one')
  expect(await beat(own, 'one')).toBe(204)
  expect(await beat(own, 'another')).toBe(403)
  const rows = JSON.parse((await swarm('list', '--json')).stdout)
  expect(rows).toEqual([
    expect.objectContaining({ name: null, id: 'one', token: 'shared', connected: true }),
    expect.objectContaining({ name: 'attic', id: 'one', token: 'own', host: 'studio' }),
  ])
  expect(await swarm('revoke', 'attic')).toMatchObject({ code: 0, stdout: expect.stringContaining('--as one') })
  expect(await beat(own, 'one')).toBe(401)
  expect(await swarm('revoke', 'attic')).toMatchObject({ code: 1, stderr: expect.stringContaining('no runner') })
})

test('the shared token stays with the first runner that showed it, across restarts; without any token no bot starts', async () => {
  await expect(start()).rejects.toMatchObject({
    failure: { kind: 'not-configured', remedy: expect.stringContaining('agent-swarm bot runner add NAME') },
  })
  const shared = { AGENT_SWARM_RUNNER_TOKEN: 'the-token-of-the-runners' }
  await start(shared)
  expect(await beat('the-token-of-the-runners', 'one')).toBe(204)
  await bot?.close()
  await start(shared)
  expect(await beat('the-token-of-the-runners', 'two')).toBe(403)
  expect(await beat('the-token-of-the-runners', 'one')).toBe(204)
  await bot?.close()
  // The setting holds another one: the former is nobody's.
  await start({ AGENT_SWARM_RUNNER_TOKEN: 'another-token-of-the-runners' })
  expect(await beat('the-token-of-the-runners', 'one')).toBe(401)
  expect(await beat('another-token-of-the-runners', 'two')).toBe(204)
})

test('what cannot be added says what to do', async () => {
  await add('studio')
  for (const [words, reason] of [
    [['studio'], /revoke that token first: agent-swarm bot runner revoke studio/],
    [['two', '--as', 'nobody'], /knows no runner with the id nobody/],
    [['No Name'], /is not a name/],
    [['__proto__'], /is not a name/],
    [[], /Missing argument <NAME>/],
  ] as const) {
    const { code, stderr } = await swarm('add', ...words)
    expect([code === 0, stderr]).toEqual([false, expect.stringMatching(reason)])
  }
})

test('a home without a bot has no runners, and listing them makes nothing', async () => {
  expect(await swarm('list')).toMatchObject({ code: 0, stderr: expect.stringContaining('No bot has run') })
  expect(await swarm('revoke', 'x')).toMatchObject({ code: 1 })
  expect(() => statSync(home)).toThrow()
})

const MINUTE = 60_000
const forget = (...words: string[]) => swarm('forget', ...words)

test('a runner that is gone for good is shown, and forgotten with --yes, which ends its token', async () => {
  const token = await add('studio')
  await start()
  expect(await beat(token, 'a', 'studio', [environmentOf('DROP-1')])).toBe(204)
  expect(await forget('studio', '--yes')).toMatchObject({ code: 1, stderr: expect.stringContaining('it is connected') })
  expect(await forget('nobody')).toMatchObject({ code: 1, stderr: expect.stringContaining('no runner has this name') })
  expect(await forget('../x')).toMatchObject({ code: 1, stderr: expect.stringContaining('no runner has this name') })

  ahead += MINUTE
  const shown = await forget('studio')
  expect(shown).toMatchObject({ code: 0, stderr: expect.stringContaining('Nothing was changed. To forget it: --yes') })
  expect(shown.stdout).toMatch(/The runner studio on studio, last seen .*\nTICKET .*\nDROP-1 +as-drop-1-1a2b3c4d/)
  expect(JSON.parse((await forget('studio', '--json')).stdout)).toMatchObject({
    ...{ result: 'planned', name: 'studio', host: 'studio' },
    machines: [{ ticket: 'DROP-1', status: 'running' }],
  })
  expect((await swarm('list')).stdout).toContain('studio')

  // A clock that jumps is a bot that slept, when it notices: it knows a while later who is connected.
  const forgotten = await until('the runner to be forgotten', async () => {
    ahead += 400
    const ran = await forget('studio', '--yes')
    if (ran.code !== 0) expect(ran.stderr).toContain('it is not known whether the runner is connected')
    return ran.code === 0 ? ran : null
  })
  expect(forgotten.stderr).toContain('1 machine')
  expect(await beat(token, 'a')).toBe(401)
  expect(await swarm('list')).toMatchObject({ stderr: expect.stringContaining('No runners yet') })
  expect(await forget('studio', '--yes')).toMatchObject({ code: 1 })
})

test('nobody is forgotten without a bot that could have heard it: one that does not run, or has just started', async () => {
  await start({ AGENT_SWARM_RUNNER_TOKEN: 'the-token-of-the-runners' })
  await beat('the-token-of-the-runners', 'one')
  const end = async () => {
    await bot?.close()
    bot = null
  }
  await end()
  expect((await forget('one', '--yes')).stderr).toContain('it is connected')
  ahead = MINUTE
  await start({ AGENT_SWARM_RUNNER_TOKEN: 'the-token-of-the-runners' })
  expect((await forget('one', '--yes')).stderr).toContain('the bot has just started')
  await end()
  await add('attic')
  expect((await forget('attic', '--yes')).stderr).toContain('the bot does not run')
  await start()
  ahead += MINUTE
  expect(await forget('attic', '--yes')).toMatchObject({ code: 0 })
  expect(await forget('one', '--yes')).toMatchObject({ code: 0 })
})
