/** What an operator asks of a bot, while it runs and while it does not. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type AskBot, answerFrom, findBot } from '../../../src/bot/http/operator.ts'
import { type Bot, startBot } from '../../../src/bot/index.ts'
import { type Config, readConfig } from '../../../src/config/config.ts'
import { openLog } from '../../../src/log.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'
import { JIRA_SECRET, type JiraStandIn, startJira } from '../../support/jira.ts'
import { until } from '../../support/wait.ts'

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
/** Asks the running bot, or else its store. */
const ask: AskBot = async question => {
  const running = await findBot(home)
  if (running !== null) return running(question)
  const store = openStore(join(home, 'bot.db'), Date.now)
  try {
    return await answerFrom(store, question)
  } finally {
    await store.close()
  }
}
const inbox = (...words: string[]) => ask({ ask: 'deliveries', words, limit: 50 })
const replay = (id: string) => ask({ ask: 'replay', id })
const decided = () => until('a decision', async () => (await inbox('waiting')).length === 0)

test('another user of the host cannot use up the open files of the bot', async () => {
  await start('DROP')
  const { url } = JSON.parse(readFileSync(join(home, 'operator.json'), 'utf8')) as { url: string }
  const sockets = Array.from({ length: 100 }, () => connect({ port: Number(new URL(url).port), host: '127.0.0.1' }))
  let closed = 0
  for (const socket of sockets) socket.on('error', () => {}).on('close', () => (closed += 1))
  await until('a refusal', () => closed >= 60)
  for (const socket of sockets) socket.destroy()
  await until('an answer', async () => (await findBot(home)) !== null)
})

describe('an operator', () => {
  test('sees why a delivery had no effect, corrects that, and has it decided again', async () => {
    await start('DROP')
    await jira.move('SHOP-1', 'In Progress')
    await decided()
    const [row] = await inbox()
    const id = row?.id ?? ''
    expect(row).toEqual({
      source: 'jira',
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      event: 'jira:issue_updated',
      lane: expect.stringContaining('SHOP-1'),
      receivedAt: expect.any(Number),
      verdict: 'ignored',
      reason: expect.stringContaining('SHOP is'),
      attempt: 0,
      dueAt: null,
      settledAt: expect.any(Number),
      actions: [],
    })
    expect(await replay(id)).toBe('again')
    await decided()
    expect(await inbox()).toMatchObject([{ id, verdict: 'ignored' }])

    await end()
    expect(await inbox()).toMatchObject([{ id, verdict: 'ignored' }])
    await start('DROP,SHOP')
    expect(await replay(id)).toBe('again')
    await decided()
    expect(await replay(id)).toBe('had-effect')
    expect(await inbox('shop-1', 'actions')).toMatchObject([
      { id, actions: [{ kind: 'create', ticket: 'SHOP-1', state: 'pending', result: null, reason: null }] },
    ])
  })

  test('finds deliveries without an effect by their ticket', async () => {
    await start('DROP')
    await jira.move('DROP-2', 'In Progress')
    await jira.assign('DROP-1', 'somebody')
    await jira.move('DROP-1', 'In Progress')
    await decided()
    expect(await inbox('drop-1')).toMatchObject([
      { verdict: 'ignored', reason: 'DROP-1 is assigned to somebody else' },
      { verdict: 'ignored' },
    ])
    expect(await inbox('drop-1', 'actions')).toEqual([])
  })

  test('asks while no bot runs: the next start decides', async () => {
    await start('DROP')
    await jira.move('SHOP-1', 'In Progress')
    await decided()
    const [row] = await inbox()
    await end()
    expect(await replay(row?.id ?? '')).toBe('again')
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
    const row = await until('a failed attempt', async () => {
      const [waiting] = await inbox('waiting')
      return (waiting?.attempt ?? 0) > 0 ? waiting : null
    })
    expect(row).toMatchObject({ verdict: 'waiting', reason: expect.stringContaining('Jira answered 503') })
    expect(row.dueAt).toBeGreaterThan(row.receivedAt)
    jira.setDown(false)
    await replay(row.id)
    await decided()
  })

  test('gets an answer about a delivery that does not exist', async () => {
    await start('DROP')
    expect(await replay('x')).toBe('unknown')
    expect(await inbox()).toEqual([])
  })

  test('sees who gave which command, whether it was allowed, and why', async () => {
    await start('DROP')
    const id = await jira.write('DROP-1', 'Now\n/swarm create\n/swarm fly')
    await jira.write('DROP-1', '/swarm delete --force\n/swarm stop \u202e', { by: 'mallory' })
    await decided()
    await jira.write('DROP-2', '/swarm stop', { by: 'mallory' })
    await decided()
    await jira.write('DROP-1', 'hello', { by: 'mallory' })
    await jira.rewrite('DROP-1', id, '/swarm delete')
    await decided()
    const audit = (ticket: string | null = null, limit = 50) => ask({ ask: 'audit', ticket, limit })
    const at = expect.any(Number)
    const mallory = {
      ...{ at, who: 'mallory', name: 'mallory Example', verdict: 'refused' },
      reason: 'only the assignee of the ticket and the accounts in JIRA_COMMANDERS may give commands',
    }
    const me = { at, who: jira.me.accountId, name: 'Dev', place: 'DROP-1', ticket: 'DROP-1' }
    const lines = [
      { ...me, what: '/swarm delete', verdict: 'refused', reason: 'edited comments cannot give commands' },
      { ...mallory, place: 'DROP-2', ticket: 'DROP-2', what: '/swarm stop' },
      { ...mallory, place: 'DROP-1', ticket: 'DROP-1', what: '/swarm delete --force; /swarm stop \u202e' },
      { ...me, what: '/swarm create', verdict: 'allowed', reason: 'the assignee of the ticket' },
    ]
    expect(await audit()).toEqual(lines)
    expect(await audit(null, 1)).toEqual(lines.slice(0, 1))
    expect(await audit('DROP-1')).toEqual(lines.filter(({ ticket }) => ticket === 'DROP-1'))
    await end()
    expect(await audit('DROP-2')).toHaveLength(1)
    expect(await audit('DROP-9')).toEqual([])
  })
})

describe('the operator’s door', () => {
  const door = () => JSON.parse(readFileSync(join(home, 'operator.json'), 'utf8')) as { url: string; token: string }
  const knock = (url: string, token: string | null, body: string = JSON.stringify({ ask: 'replay', id: 'x' })) =>
    fetch(url, { method: 'POST', body, headers: token === null ? {} : { authorization: `Bearer ${token}` } })

  test('opens for the user who runs the bot, and for nobody else', async () => {
    await start('DROP')
    const { url, token } = door()
    expect(statSync(join(home, 'operator.json')).mode & 0o777).toBe(0o600)
    expect(new URL(url).hostname).toBe('127.0.0.1')
    expect((await knock(url, token)).status).toBe(200)
    for (const wrong of [null, '', 'x', RUNNER_TOKEN, JIRA_SECRET]) expect((await knock(url, wrong)).status).toBe(401)
    // The server of the webhooks has no route to it.
    for (const path of ['/', '/replay', '/operator'])
      expect((await knock(`${bot?.url}${path}`, token)).status).toBe(404)
  })

  test('refuses whatever is not a question', async () => {
    await start('DROP')
    const { url, token } = door()
    const bodies = [
      'no JSON',
      '[]',
      '{"ask":"constructor"}',
      '{"ask":"deliveries","words":[],"limit":1e9}',
      `{"ask":"replay","id":"${'x'.repeat(2_000)}"}`,
    ]
    for (const body of bodies) expect([body, (await knock(url, token, body)).status]).toEqual([body, 400])
  })

  test('is gone with the bot, and what a killed bot left leads nowhere', async () => {
    await start('DROP')
    const left = readFileSync(join(home, 'operator.json'), 'utf8')
    await end()
    expect(readdirSync(home)).not.toContain('operator.json')
    writeFileSync(join(home, 'operator.json'), left)
    expect(await findBot(home)).toBeNull()
    // Another program may have the port now.
    await start('DROP')
    writeFileSync(join(home, 'operator.json'), JSON.stringify({ url: bot?.url, token: 'x' }))
    expect(await findBot(home)).toBeNull()
  })

  test('is the only one of its home: a second bot does not start, and the first continues', async () => {
    await start('DROP')
    await expect(startBot(await configWith('DROP'), openLog('silent'))).rejects.toMatchObject({
      failure: { kind: 'busy', message: expect.stringContaining('another one runs') },
    })
    expect((await knock(door().url, door().token)).status).toBe(200)
  })
})
