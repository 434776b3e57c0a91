/** (p) The requests of polling in an hour without a change, and the time from a change to its action. */
import { join } from 'node:path'
import { openCatchUp } from '../src/bot/catch-up.ts'
import type { GitHub } from '../src/bot/github/client.ts'
import { openGitHub } from '../src/bot/github/open.ts'
import { openGitHubPoll } from '../src/bot/github/poll.ts'
import { startBot } from '../src/bot/index.ts'
import { openJira } from '../src/bot/jira/client.ts'
import { openJiraPoll } from '../src/bot/jira/poll.ts'
import { standardRules } from '../src/bot/rules/repository-file.ts'
import { openRepositoryRules } from '../src/bot/rules/repository-rules.ts'
import { readConfig } from '../src/config/config.ts'
import { fail } from '../src/errors.ts'
import { openLog } from '../src/log.ts'
import { openMemory } from '../src/store/sqlite/memory.ts'
import { openQueue } from '../src/store/sqlite/queue.ts'
import { startGitHub } from '../test/support/github.ts'
import { startJira } from '../test/support/jira.ts'
import { until } from '../test/support/wait.ts'
import type { Row } from './main.ts'
import { median, withHome } from './measure.ts'

const REPOSITORIES = 20
const PROJECTS = ['ONE', 'TWO', 'THREE', 'FOUR', 'FIVE']
const HOUR = 60 * 60_000
const QUARTER = HOUR / 4
/** Of GitHub's 5,000 an hour. */
const TARGET_COUNTED = 500
/** A poll asks for the time and for changes. */
const TARGET_JIRA = 150
const ROUNDS = 9
/** From the poll that finds a change to the action in the queue. */
const TARGET_MS = 1_000

export const polling = (): Promise<Row[]> =>
  withHome(async home => {
    const hub = await startGitHub({ more: Array.from({ length: REPOSITORIES - 1 }, (_, n) => `shop-${n}`) })
    const tickets = Object.fromEntries(PROJECTS.flatMap(key => [1, 2, 3].map(n => [`${key}-${n}`, 'a ticket'])))
    const board = await startJira({ issues: tickets })
    const log = openLog('silent')
    const environment = {
      HOME: home,
      AGENT_SWARM_HOME: join(home, 'state'),
      AGENT_SWARM_RUNNER_TOKEN: 'bench-token',
      AGENT_SWARM_POLL_SECONDS: '1',
      PORT: '0',
      GITHUB_TOKEN: 'token-dev',
      GITHUB_API_URL: hub.url,
      JIRA_HOST: board.url,
      JIRA_EMAIL: board.me.emailAddress,
      JIRA_API_TOKEN: board.token,
      JIRA_PROJECTS: PROJECTS.join(','),
    }
    const config = await readConfig({}, environment)
    if (config.github === null || config.jira === null) throw fail('not-configured', 'the bench')

    // ── An hour on a simulated clock ──
    let now = Date.now()
    const clock = () => now
    const memory = openMemory(':memory:', clock)
    const github: GitHub = await openGitHub(config.github, {
      ...{ log, paced: false, installationOf: () => null },
      decide: async () => {
        throw fail('unknown', 'nothing happens in this hour')
      },
    })
    const rules = openRepositoryRules({
      ...{ memory, clock, log, standard: standardRules(config), clientFor: github.clientFor, onProblems: () => {} },
    })
    const look = { memory, everyMs: 60_000, clock, log, accept: () => {} }
    const pulls = openGitHubPoll({
      ...{ ...look, github, rulesOf: rules.rulesOf, rulesChanged: rules.changed },
      parts: ['pushes', 'comments', 'pulls'],
    })
    const issues = openJiraPoll({
      ...{ ...look, jira: openJira(config.jira), projects: PROJECTS, assignees: 'me' as const },
    })
    const queue = openQueue(':memory:', clock)
    const looks = [pulls.compare, issues.compare]
    const catchUp = openCatchUp({ github, looks, queue, memory, clock, log })
    // The first poll reads the current state; the second continues from there.
    for (let n = 0; n < 2; n += 1, now += 60_000) await Promise.all([pulls.round(), issues.round(), catchUp.round()])
    const from = { hub: hub.asked.length, board: board.asked.length, at: now }
    for (let caughtUp = now; now < from.at + HOUR; ) {
      const [wait] = await Promise.all([pulls.round(), issues.round()])
      if (now - caughtUp >= QUARTER) {
        await catchUp.round()
        caughtUp = now
      }
      now += wait
    }
    const requests = hub.asked.slice(from.hub)
    const counted = requests.filter(({ status }) => status !== 304).length
    const ofJira = board.asked.length - from.board
    memory.close()
    queue.close()

    // ── From a change to its action ──
    const bot = await startBot(config, log)
    const queueOfBot = openQueue(join(config.home, 'bot.db'), Date.now)
    const searches = () => board.asked.filter(({ path }) => path.includes('updated')).length
    // The first poll does not search for updates.
    const before = searches()
    await until('the second poll', () => searches() > before)
    const times: number[] = []
    for (const ticket of Object.keys(tickets).slice(0, ROUNDS)) {
      await board.move(ticket, 'In Progress', { send: false })
      const movedAt = performance.now()
      const before = searches()
      await until('the poll', () => searches() > before, { every: 1 })
      const polledAt = performance.now()
      await until('the action', () => queueOfBot.list({ ticket }).length > 0, { every: 1 })
      times.push(performance.now() - Math.max(polledAt, movedAt))
    }
    queueOfBot.close()
    await bot.close()
    await Promise.all([hub.stop(), board.stop()])
    const delay = median(times)
    return [
      {
        row: 'p',
        what: `requests to GitHub in an idle hour, ${REPOSITORIES} repositories polled each minute; of these counted by its limit`,
        measured: `${requests.length}; ${counted}`,
        target: `<= ${TARGET_COUNTED} counted`,
        ok: counted <= TARGET_COUNTED,
      },
      {
        row: 'p',
        what: `requests to Jira in an idle hour, ${PROJECTS.length} projects polled each minute`,
        measured: String(ofJira),
        target: `<= ${TARGET_JIRA}`,
        ok: ofJira <= TARGET_JIRA,
      },
      {
        row: 'p',
        what: `from the poll that finds a change to its action, median of ${ROUNDS} (the poll starts within pollSeconds)`,
        measured: `${Math.round(delay)} ms`,
        target: `<= ${TARGET_MS} ms`,
        ok: delay <= TARGET_MS,
      },
    ]
  })
