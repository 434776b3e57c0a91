/** `bot inbox`, `bot replay` and `bot audit` as operators use them: whole processes, beside a bot that runs and without one. */
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Bot, startBot } from '../../../src/bot/index.ts'
import { type Config, readConfig } from '../../../src/config/config.ts'
import { openLog } from '../../../src/log.ts'
import { compiled } from '../../support/cli.ts'
import { JIRA_SECRET, type JiraStandIn, startJira } from '../../support/jira.ts'
import { until } from '../../support/wait.ts'

const entry = resolve(import.meta.dirname, '../../../bin/agent-swarm.js')
const RUNNER_TOKEN = 'the-token-of-the-runners'
let home: string
let jira: JiraStandIn
let bot: Bot | null
beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-operator-'))
  jira = await startJira({ issues: { 'DROP-1': 'one', 'DROP-2': 'two', 'SHOP-1': 'three' } })
  bot = null
})
afterEach(async () => {
  await bot?.close()
  await jira.stop()
  rmSync(home, { recursive: true })
})

const configWith = (projects: string): Promise<Config> =>
  readConfig(
    {},
    {
      AGENT_SWARM_HOME: home,
      ...jira.settings,
      JIRA_PROJECTS: projects,
      AGENT_SWARM_RUNNER_TOKEN: RUNNER_TOKEN,
      PORT: '0',
    },
  )
const start = async (projects: string) => {
  bot = await startBot(await configWith(projects), openLog('silent'))
  jira.sendTo(bot.url)
}
const end = async () => {
  await bot?.close()
  bot = null
}
const swarm = (...words: string[]): Promise<{ stdout: string; stderr: string; code: number }> =>
  new Promise(done =>
    execFile(
      process.execPath,
      [entry, 'bot', ...words],
      { env: { PATH: process.env.PATH, HOME: home, AGENT_SWARM_HOME: home, ...compiled } },
      (error, stdout, stderr) =>
        done({ stdout, stderr, code: error === null ? 0 : ((error.code as unknown as number) ?? 1) }),
    ),
  )
const inbox = async (...words: string[]) => JSON.parse((await swarm('inbox', '--json', ...words)).stdout)
const decided = () => until('a decision', async () => (await inbox('waiting')).length === 0)

describe('an operator', () => {
  test('sees what was delivered and why nothing came of it, mends that, and has it decided again', async () => {
    await start('DROP')
    await jira.move('SHOP-1', 'In Progress')
    await decided()
    const [row] = await inbox()
    expect(row).toEqual({
      source: 'jira',
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      event: 'jira:issue_updated',
      about: 'SHOP-1',
      receivedAt: expect.stringMatching(/^\d{4}-.*Z$/),
      verdict: 'ignored',
      reason: 'SHOP is no project of ours',
      attempt: 0,
      dueAt: null,
      settledAt: expect.stringMatching(/^\d{4}-.*Z$/),
      actions: [],
    })
    const again = await swarm('replay', row.id)
    expect(again).toMatchObject({
      code: 0,
      stdout: `${row.id} is decided again. ignored: SHOP is no project of ours\n`,
    })

    await end()
    expect((await swarm('inbox')).stdout).toMatch(
      /VERDICT .*\n.* ignored .* jira jira:issue_updated +SHOP-1 +SHOP is no project/,
    )
    await start('DROP,SHOP')
    expect(await swarm('replay', row.id)).toMatchObject({
      code: 0,
      stdout: `${row.id} is decided again. actions: create SHOP-1 (pending)\n`,
    })
    expect(await swarm('replay', row.id)).toMatchObject({
      code: 0,
      stdout: `${row.id} took effect when it came, and nothing is done again. actions: create SHOP-1 (pending)\n`,
    })
    expect(await inbox('shop-1', 'actions')).toMatchObject([{ id: row.id, actions: [{ kind: 'create' }] }])
  })

  test('finds by its ticket what nothing came of', async () => {
    await start('DROP')
    await jira.move('DROP-2', 'In Progress')
    await jira.assign('DROP-1', 'somebody')
    await jira.move('DROP-1', 'In Progress')
    await decided()
    expect(await inbox('drop-1')).toMatchObject([
      { about: 'DROP-1', verdict: 'ignored', reason: 'DROP-1 is assigned to somebody else' },
      { about: 'DROP-1', verdict: 'ignored' },
    ])
    expect(await inbox('drop-1', 'actions')).toEqual([])
  })

  test('asks while no bot runs: it is decided at the next start', async () => {
    await start('DROP')
    await jira.move('SHOP-1', 'In Progress')
    await decided()
    const [{ id }] = await inbox()
    await end()
    expect((await swarm('replay', id)).stdout).toBe(`${id} is decided again when the bot starts.\n`)
    expect(await inbox('waiting')).toHaveLength(1)
    await start('SHOP')
    await until('the action', async () => (await inbox('actions')).length === 1)
  })

  test('sees what waits for Jira, why, and until when', async () => {
    await start('DROP')
    await jira.move('DROP-1', 'In Progress')
    await decided()
    jira.setDown(true)
    await jira.move('DROP-1', 'To Do')
    const [row] = await until('a try that failed', async () => {
      const rows = await inbox('waiting')
      return rows[0]?.attempt > 0 ? rows : null
    })
    expect(row).toMatchObject({ verdict: 'waiting', reason: expect.stringContaining('Jira answered 503') })
    expect(Date.parse(row.dueAt)).toBeGreaterThan(Date.now() - 5_000)
    expect((await swarm('inbox', 'waiting')).stdout).toMatch(/Jira answered 503.*; tried \d+ times, again (in|now)/)
    jira.setDown(false)
    expect((await swarm('replay', row.id)).code).toBe(0)
    await decided()
  })

  test('who names nothing that is there is told so', async () => {
    expect(await swarm('replay', 'x')).toMatchObject({ code: 1, stderr: expect.stringContaining('No bot ever ran') })
    expect(await inbox()).toEqual([])
    expect(readdirSync(home)).not.toContain('bot.db')
    await start('DROP')
    expect(await swarm('replay', 'x')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('no delivery has the id x'),
    })
    expect(await swarm('inbox', '--limit', '0')).toMatchObject({ code: 2 })
  })

  test('sees who commanded what, whether it was allowed, and why, beside a bot that runs and without one', async () => {
    await start('DROP')
    const id = await jira.write('DROP-1', 'Now\n/swarm create\n/swarm fly')
    await jira.write('DROP-1', '/swarm delete --force\n/swarm stop \u202e', { by: 'mallory' })
    await decided()
    await jira.write('DROP-2', '/swarm stop', { by: 'mallory' })
    await decided()
    await jira.write('DROP-1', 'hello', { by: 'mallory' })
    await jira.rewrite('DROP-1', id, '/swarm delete')
    await decided()
    const audit = async (...words: string[]) => JSON.parse((await swarm('audit', '--json', ...words)).stdout)
    const at = expect.stringMatching(/^\d{4}-.*Z$/)
    const mallory = {
      at,
      who: 'mallory',
      verdict: 'refused',
      reason: 'neither the assignee of the ticket nor an account that is listed',
    }
    const me = { at, who: jira.me.accountId, place: 'DROP-1', ticket: 'DROP-1' }
    const lines = [
      { ...me, what: '/swarm delete', verdict: 'refused', reason: 'an edited comment gives no commands' },
      { ...mallory, place: 'DROP-2', ticket: 'DROP-2', what: '/swarm stop' },
      { ...mallory, place: 'DROP-1', ticket: 'DROP-1', what: '/swarm delete --force; /swarm stop \u202e' },
      { ...me, what: '/swarm create', verdict: 'allowed', reason: 'the assignee of the ticket' },
    ]
    expect(await audit()).toEqual(lines)
    expect(await audit('--limit', '1')).toEqual(lines.slice(0, 1))
    expect(await audit('--ticket', 'drop-1')).toEqual(lines.filter(one => one.ticket === 'DROP-1'))
    await end()
    expect(await audit('--ticket', 'DROP-2')).toHaveLength(1)
    const { stdout } = await swarm('audit')
    expect(stdout.split('\n')[0]).toMatch(/^AGE +VERDICT +WHO +WHERE +TICKET +COMMAND +WHY$/)
    expect(stdout).toMatch(/refused +mallory +DROP-1 +DROP-1 +\/swarm delete --force; \/swarm stop \? +neither/)
    expect((await swarm('audit', '--ticket', 'DROP-9')).stderr).toBe('Nobody gave a command for DROP-9.\n')
    expect(await swarm('audit', '--ticket', 'x')).toMatchObject({ code: 2 })
  })

  test('is shown the text of others without what moves a terminal', async () => {
    await start('DROP')
    await jira.deliver({ webhookEvent: 'x\u001b[2J\u202e\r\n', issue: {} })
    await decided()
    const { stdout } = await swarm('inbox')
    expect(stdout).toContain('jira x?[2J???')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not be there
    expect(stdout).not.toMatch(/[\u001b\u202e\r]/)
  })
})

describe('the operator’s door', () => {
  const door = () => JSON.parse(readFileSync(join(home, 'operator.json'), 'utf8')) as { url: string; token: string }
  const knock = (url: string, token: string | null, body: string = JSON.stringify({ ask: 'replay', id: 'x' })) =>
    fetch(url, { method: 'POST', body, headers: token === null ? {} : { authorization: `Bearer ${token}` } })

  test('opens for the user who runs the bot, and for no one else', async () => {
    await start('DROP')
    const { url, token } = door()
    expect(statSync(join(home, 'operator.json')).mode & 0o777).toBe(0o600)
    expect(new URL(url).hostname).toBe('127.0.0.1')
    expect((await knock(url, token)).status).toBe(200)
    for (const wrong of [null, '', 'x', RUNNER_TOKEN, JIRA_SECRET]) expect((await knock(url, wrong)).status).toBe(401)
    // Nothing of it is where webhooks come in.
    for (const path of ['/', '/replay', '/operator'])
      expect((await knock(`${bot?.url}${path}`, token)).status).toBe(404)
  })

  test.for([
    'no JSON',
    '[]',
    '{"ask":"constructor"}',
    '{"ask":"deliveries","words":[],"limit":1e9}',
    `{"ask":"replay","id":"${'x'.repeat(2_000)}"}`,
  ])('refuses what is no question: %s', async body => {
    await start('DROP')
    const { url, token } = door()
    expect((await knock(url, token, body)).status).toBe(400)
  })

  test('is gone with the bot; what a killed one left leads nowhere', async () => {
    await start('DROP')
    const left = readFileSync(join(home, 'operator.json'), 'utf8')
    await end()
    expect(readdirSync(home)).not.toContain('operator.json')
    writeFileSync(join(home, 'operator.json'), left)
    expect(await inbox()).toEqual([])
    // Whoever has its port now, and answers what nobody asked.
    await start('DROP')
    writeFileSync(join(home, 'operator.json'), JSON.stringify({ url: bot?.url, token: 'x' }))
    expect(await inbox()).toEqual([])
  })

  test('is one for each folder: a second bot does not start, and the first goes on', async () => {
    await start('DROP')
    await expect(startBot(await configWith('DROP'), openLog('silent'))).rejects.toMatchObject({
      failure: { kind: 'busy', message: expect.stringContaining('another one runs') },
    })
    expect((await knock(door().url, door().token)).status).toBe(200)
  })
})
