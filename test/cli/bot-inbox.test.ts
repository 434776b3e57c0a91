/** `bot inbox`, `bot replay` and `bot audit` beside a running bot, and without one. What they ask: test/bot/http/operator.test.ts. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Bot, startBot } from '../../src/bot/index.ts'
import { readConfig } from '../../src/config/config.ts'
import { openLog } from '../../src/log.ts'
import { openCli } from '../support/cli.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'

let home: string
let jira: JiraStandIn
let bot: Bot | null
let cli: ReturnType<typeof openCli>
beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-inbox-'))
  jira = await startJira({ issues: { 'DROP-1': 'one', 'SHOP-1': 'two' } })
  cli = openCli()
  bot = null
})
afterEach(async () => {
  await bot?.close()
  await jira.stop()
  cli.close()
  rmSync(home, { recursive: true })
})

const start = async (projects: string) => {
  const config = await readConfig(
    {},
    {
      AGENT_SWARM_HOME: home,
      ...jira.settings,
      ...{ JIRA_PROJECTS: projects, AGENT_SWARM_RUNNER_TOKEN: 'the-token-of-the-runners', PORT: '0' },
    },
  )
  bot = await startBot(config, openLog('silent'))
  jira.sendTo(bot.url)
}
const end = async () => {
  await bot?.close()
  bot = null
}
const swarm = (...words: string[]) => cli.swarm(['bot', ...words], { AGENT_SWARM_HOME: home })
const json = async (...words: string[]) => JSON.parse((await swarm(...words, '--json')).stdout)
const decided = () => until('a decision', async () => (await json('inbox', 'waiting')).length === 0)
const TIME = expect.stringMatching(/^\d{4}-.*Z$/)

test('a delivery without an effect is shown with its reason, and decided again', async () => {
  await start('DROP')
  await jira.move('SHOP-1', 'In Progress')
  await decided()
  const [row] = await json('inbox')
  expect(row).toMatchObject({
    ...{ source: 'jira', event: 'jira:issue_updated', about: 'SHOP-1', receivedAt: TIME, settledAt: TIME },
    ...{ verdict: 'ignored', reason: expect.stringContaining('SHOP'), attempt: 0, dueAt: null, actions: [] },
  })
  expect(await swarm('replay', row.id)).toMatchObject({ code: 0, stdout: expect.stringContaining('ignored: SHOP') })

  await end()
  expect((await swarm('inbox')).stdout).toMatch(/VERDICT .*\n.* ignored .* jira jira:issue_updated +SHOP-1 +SHOP is/)
  await start('DROP,SHOP')
  const again = await swarm('replay', row.id)
  expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('actions: create SHOP-1 (pending)') })
  const had = await swarm('replay', row.id)
  expect(had).toMatchObject({ code: 0, stdout: expect.stringContaining('nothing is repeated') })
})

test('without a bot, a replay waits for the next start', async () => {
  await start('DROP')
  await jira.move('SHOP-1', 'In Progress')
  await decided()
  const [{ id }] = await json('inbox')
  await end()
  expect((await swarm('replay', id)).stdout).toContain('when the bot starts')
  expect(await json('inbox', 'waiting')).toHaveLength(1)
})

test('a delivery that waits shows why, and when it is decided next', async () => {
  await start('DROP')
  await jira.move('DROP-1', 'In Progress')
  await decided()
  jira.setDown(true)
  await jira.move('DROP-1', 'To Do')
  await until('a failed attempt', async () => (await json('inbox', 'waiting'))[0]?.attempt > 0)
  expect((await swarm('inbox', 'waiting')).stdout).toMatch(/Jira answered 503.*; attempt \d+ failed, next (in|now)/)
})

test('unknown ids, wrong options and a home without a bot', async () => {
  expect(await swarm('replay', 'x')).toMatchObject({ code: 1 })
  expect(await json('inbox')).toEqual([])
  expect(readdirSync(home)).not.toContain('bot.db')
  await start('DROP')
  expect(await swarm('replay', 'x')).toMatchObject({ code: 1, stderr: expect.stringContaining('x') })
  expect(await swarm('inbox', '--limit', '0')).toMatchObject({ code: 2 })
  expect(await swarm('audit', '--ticket', 'x')).toMatchObject({ code: 2 })
})

test('the audit as a table and as JSON', async () => {
  await start('DROP')
  await jira.write('DROP-1', '/swarm delete --force\n/swarm stop \u202e', { by: 'mallory' })
  await decided()
  expect(await json('audit', '--ticket', 'drop-1')).toEqual([
    {
      ...{ at: TIME, who: 'mallory', name: 'mallory Example', place: 'DROP-1', ticket: 'DROP-1', verdict: 'refused' },
      what: '/swarm delete --force; /swarm stop \u202e',
      reason: expect.stringContaining('only the assignee of the ticket'),
    },
  ])
  const { stdout } = await swarm('audit')
  expect(stdout.split('\n')[0]).toMatch(/ VERDICT +WHO +WHERE +TICKET +COMMAND +WHY$/)
  expect(stdout).toMatch(
    /refused +mallory Example \(mallory\) +DROP-1 +DROP-1 +\/swarm delete --force; \/swarm stop \? +only the assignee/,
  )
  expect((await swarm('audit', '--ticket', 'DROP-9')).stderr).toContain('DROP-9')
})

test('outside text moves no cursor', async () => {
  await start('DROP')
  await jira.deliver({ webhookEvent: 'x\u001b[2J\u202e\r\n', issue: {} })
  await decided()
  const { stdout } = await swarm('inbox')
  expect(stdout).toContain('jira x?[2J???')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they must not be there
  expect(stdout).not.toMatch(/[\u001b\u202e\r]/)
})
