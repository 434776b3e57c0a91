/** (p) What polling costs in an hour in which nothing happens, and how long a change takes to become an action. */
import { join } from 'node:path'
import { catchUp } from '../src/bot/catch-up.ts'
import type { GitHub } from '../src/bot/github/client.ts'
import { openGitHub } from '../src/bot/github/open.ts'
import { openGitHubPoll } from '../src/bot/github/poll.ts'
import { openRedeliver } from '../src/bot/github/redeliver.ts'
import { startBot } from '../src/bot/index.ts'
import { openJira } from '../src/bot/jira/client.ts'
import { openJiraPoll } from '../src/bot/jira/poll.ts'
import { standardRules } from '../src/bot/rules/repository-file.ts'
import { openRepositoryRules } from '../src/bot/rules/repository-rules.ts'
import { readConfig } from '../src/config/config.ts'
import { fail } from '../src/errors.ts'
import { openLog } from '../src/log.ts'
import { openStore } from '../src/store/sqlite/index.ts'
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
/** A look asks for the clock and for what changed. */
const TARGET_JIRA = 150
const ROUNDS = 9
/** From the look that finds a change to the action in the queue. */
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
      AGENT_SWARM_RUNNER_TOKEN: 'bench-token-of-16-characters',
      AGENT_SWARM_POLL_SECONDS: '1',
      PORT: '0',
      GITHUB_TOKEN: 'token-dev',
      GITHUB_API_URL: hub.url,
      JIRA_HOST: board.url,
      JIRA_EMAIL: board.me.emailAddress,
      JIRA_API_TOKEN: board.token,
      GITHUB_REPOSITORIES: 'acme/*',
      JIRA_PROJECTS: PROJECTS.map(key => `${key}:acme/*`).join(','),
    }
    const config = await readConfig({}, environment)
    if (config.github === null || config.jira === null) throw fail('not-configured', 'the bench')

    // ── An hour of a clock that does not wait ──
    let now = Date.now()
    const clock = () => now
    const store = openStore(':memory:', clock)
    const github: GitHub = await openGitHub(config.github, { log, paced: false })
    const rules = openRepositoryRules({
      ...{ store, clock, log, standard: standardRules(config), serving: config.serving, clientFor: github.clientFor },
      onProblems: async () => {},
    })
    const common = { store, everyMs: 60_000, clock, log, accept: async () => {} }
    const pulls = openGitHubPoll({
      ...{ ...common, github, ...rules },
      parts: ['pushes', 'comments', 'pulls'],
    })
    const issues = openJiraPoll({
      ...{ ...common, jira: openJira(config.jira), projects: PROJECTS, assignees: 'me' as const, hasWebhook: false },
    })
    const round = catchUp([openRedeliver({ github, store, clock, log }), pulls.compare, issues.compare])
    const catchUpOnce = () => round(new AbortController().signal)
    // The first look reads what there is; the second begins where it ended.
    for (let n = 0; n < 2; n += 1, now += 60_000) await Promise.all([pulls.round(), issues.round(), catchUpOnce()])
    const from = { hub: hub.requests.length, board: board.requests.length, at: now }
    for (let caughtUp = now; now < from.at + HOUR; ) {
      const [wait] = await Promise.all([pulls.round(), issues.round()])
      if (now - caughtUp >= QUARTER) {
        await catchUpOnce()
        caughtUp = now
      }
      now += wait
    }
    const requests = hub.requests.slice(from.hub)
    const counted = requests.filter(({ status }) => status !== 304).length
    const ofJira = board.requests.length - from.board
    await store.close()

    // ── From a change to its action ──
    const bot = await startBot(config, log)
    const seen = openStore(join(config.home, 'bot.db'), Date.now)
    const searches = () => board.requests.filter(one => one.path.includes('updated')).length
    // The first one searches for nothing that was updated.
    const before = searches()
    await until('the second look', () => searches() > before)
    const times: number[] = []
    for (const ticket of Object.keys(tickets).slice(0, ROUNDS)) {
      await board.move(ticket, 'In Progress', { send: false })
      const began = performance.now()
      const before = searches()
      await until('the look', () => searches() > before, { every: 1 })
      const looked = performance.now()
      await until('the action', async () => (await seen.queue.list({ ticket })).length > 0, { every: 1 })
      times.push(performance.now() - (looked > began ? looked : began))
    }
    await seen.close()
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
        what: `from the look that finds a change to its action, median of ${ROUNDS} (before it: up to pollSeconds)`,
        measured: `${Math.round(delay)} ms`,
        target: `<= ${TARGET_MS} ms`,
        ok: delay <= TARGET_MS,
      },
    ]
  })
