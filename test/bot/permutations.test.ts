/**
 * Whatever order deliveries arrive in, twice or not at all: after one look for what was missed, each ticket has the machine that it
 * should have. Inbox, facts, handlers and polls are real, and GitHub and Jira are the stand-ins; the machine is a word.
 */
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { acceptPolled, catchUp } from '../../src/bot/catch-up.ts'
import type { GitHub } from '../../src/bot/github/client.ts'
import { githubLane } from '../../src/bot/github/events.ts'
import { openGitHub } from '../../src/bot/github/open.ts'
import { openGitHubPoll } from '../../src/bot/github/poll.ts'
import { decide } from '../../src/bot/inbox/decide.ts'
import { type Jira, openJira } from '../../src/bot/jira/client.ts'
import { jiraLane } from '../../src/bot/jira/events.ts'
import { openJiraPoll } from '../../src/bot/jira/poll.ts'
import { standardRules } from '../../src/bot/rules/repository-file.ts'
import { openLog } from '../../src/log.ts'
import type { AgentReport } from '../../src/schema/environment.ts'
import type { Outcome } from '../../src/schema/outcome.ts'
import { type Database, type OpenDatabase, openDatabase } from '../../src/sqlite.ts'
import { AGENT_ENDED, type Delivery, PUSHED } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { environmentOf, offer } from '../store/fixtures.ts'
import { type GitHubStandIn, startGitHub } from '../support/github.ts'
import { type JiraStandIn, type JiraStatus, startJira } from '../support/jira.ts'
import { randomFrom } from '../support/payload-mutations.ts'
import { isLong } from '../support/samples.ts'

/** How many orders of a life are tried, and how many of them with deliveries that come twice or are missing. */
const [ORDERS, VARIED] = isLong ? [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY] : [6, 2]
const START = Date.parse('2026-11-24T09:00:00Z')
const MINUTE = 60_000

type Machine = 'running' | 'stopped' | null
type Step = { name: string; delivery: Delivery }
type Life = {
  /** What happens, in this order. `one` and `two` are pull requests. */
  steps: readonly string[]
  end: Machine
  /** Its end when nothing was decided in time, if that differs: what is over by then needs no machine. */
  late?: Machine
  /** Its end when this step is lost without a trace, so that nobody can know of it. */
  without?: Record<string, Machine>
}

// ── The lives of tickets ──

const lives: Record<string, Life> = {
  'in progress, a pull request, a push, merged': {
    steps: ['In Progress', 'open one', 'push one', 'merge one'],
    end: null,
  },
  'its pull request closed unmerged': {
    steps: ['In Progress', 'open one', 'close one'],
    end: 'stopped',
  },
  'in review after the merge': {
    steps: ['In Progress', 'open one', 'merge one', 'In Review'],
    end: null,
  },
  'back to the backlog': { steps: ['In Progress', 'In Review', 'To Do'], end: 'stopped', late: null },
  'back to the backlog, and again': { steps: ['In Progress', 'To Do', 'In Progress'], end: 'running' },
  'merged, back to the backlog, and again': {
    steps: ['In Progress', 'open one', 'merge one', 'To Do', 'In Progress'],
    end: 'running',
  },
  'closed, and moved on in Jira after that': {
    steps: ['In Progress', 'open one', 'close one', 'In Review'],
    end: 'running',
  },
  'done without a pull request': { steps: ['In Progress', 'Done'], end: null },
  'done while its pull request is open': {
    steps: ['In Progress', 'open one', 'Done'],
    end: 'stopped',
    late: null,
  },
  'two pull requests, both merged': {
    steps: ['In Progress', 'open one', 'open two', 'merge one', 'merge two'],
    end: null,
  },
  'two pull requests, one merged': {
    steps: ['In Progress', 'open one', 'open two', 'merge one'],
    end: 'running',
  },
  'closed and opened again': {
    steps: ['In Progress', 'open one', 'close one', 'reopen one'],
    end: 'running',
  },
  'deleted by a person': {
    steps: ['In Progress', 'open one', 'say one /swarm delete'],
    end: null,
    without: { 'say one /swarm delete': 'running' },
  },
  'stopped by a person, and then merged': {
    steps: ['In Progress', 'open one', 'say one /swarm stop', 'merge one'],
    end: null,
  },
  'an agent pushes, is reviewed and ends, and its work is merged': {
    steps: ['In Progress', 'agent pushes', 'open one', 'review one', 'agent ends', 'merge one'],
    end: null,
  },
  'deleted by a person, and wanted again by a move': {
    steps: ['In Progress', 'open one', 'say one /swarm delete', 'To Do', 'In Progress'],
    end: 'running',
  },
}

// ── The world ──

let hub: GitHubStandIn
let board: JiraStandIn
let github: GitHub
let jira: Jira
const log = openLog('silent')
const titles = Object.keys(lives)
const projectOf = (title: string) => `LIFE${String.fromCharCode(65 + titles.indexOf(title))}`

/** Responses by request, while nothing happens in the world: the same requests are repeated hundreds of times. */
const responses = new Map<string, { status: number; headers: [string, string][]; body: string }>()
const realFetch = globalThis.fetch
let living = ''
const cachedFetch: typeof fetch = async (url, init = {}) => {
  const key = JSON.stringify([init.method, String(url), init.body])
  const known = responses.get(key)
  if (known !== undefined) return new Response(known.body, known)
  const response = await realFetch(url, init)
  const text = await response.text()
  // Each life has the repository to itself.
  const body = /\/pulls\?/.test(String(url))
    ? JSON.stringify(JSON.parse(text).filter((pull: { head: { ref: string } }) => pull.head.ref.startsWith(living)))
    : text
  const kept = { status: response.status, headers: [...response.headers] as [string, string][], body }
  responses.set(key, kept)
  return new Response(kept.body, kept)
}

beforeAll(async () => {
  vi.useFakeTimers({ toFake: ['Date'], now: START })
  hub = await startGitHub()
  board = await startJira({ issues: Object.fromEntries(titles.map(title => [`${projectOf(title)}-1`, title])) })
  hub.lose('failed')
  vi.stubGlobal('fetch', cachedFetch)
  const settings = { via: 'token', token: 'token-dev', repositories: [hub.repo], apiUrl: hub.url } as const
  github = await openGitHub(settings, { log, paced: false })
  jira = openJira({
    url: board.url,
    email: board.me.emailAddress,
    apiToken: board.token,
    webhookSecret: null,
    automationSecret: null,
  })
})
afterAll(async () => {
  vi.unstubAllGlobals()
  vi.useRealTimers()
  await Promise.all([hub.stop(), board.stop()])
  process.stderr.write(`permutations: ${runs} runs of ${titles.length} lives\n`)
})

const agent: AgentReport = {
  ...{ use: 'claude', run: '0a1b2c3d', state: 'running', startedAt: null, endedAt: null, result: null, reason: null },
  ...{ summary: null, turns: 1, tokens: 1, usd: null, rounds: 0, pullRequest: 'draft' },
}
/** What a runner reports of the agent. */
const reported = async (ticket: string, what: string, receivedAt: number): Promise<Delivery> => {
  const common = { source: 'runner', lane: `runner:${ticket}`, receivedAt } as const
  if (what === 'ends') {
    const body = JSON.stringify({ ticket, run: { ...agent, state: 'ended', result: 'done' } })
    return { ...common, id: `run:${ticket}:${agent.run}:ended`, event: AGENT_ENDED, body }
  }
  const branch = `${ticket}-one`
  const commit = await hub.push(branch)
  const push = { repo: hub.repo, branch, commit, byAgent: true, at: new Date(receivedAt).toISOString() }
  const body = JSON.stringify({ ticket, push, agentOpens: agent.pullRequest })
  return { ...common, id: `push:${ticket}:${hub.repo}:${branch}:${commit}`, event: PUSHED, body }
}

/** Lets the next step happen, a minute later, and returns the delivery that reports it. */
const perform = async (ticket: string, step: string, pulls: Map<string, number>): Promise<Delivery> => {
  vi.setSystemTime(Date.now() + MINUTE)
  const receivedAt = Date.now()
  const [verb = '', which = '', ...words] = step.split(' ')
  const branch = `${ticket}-${which}`
  const number = pulls.get(which) ?? 0
  const steps: Record<string, () => Promise<unknown>> = {
    open: async () => {
      await hub.push(branch)
      pulls.set(which, await hub.open(branch, `work ${which}`))
    },
    push: () => hub.push(branch),
    merge: () => hub.merge(number),
    close: () => hub.close(number),
    reopen: () => hub.reopen(number),
    say: () => hub.comment(number, words.join(' ')),
    review: () => hub.review(number, 'Add a test.'),
  }
  responses.clear()
  if (verb === 'agent') return reported(ticket, which, receivedAt)
  const act = steps[verb]
  if (act === undefined) {
    await board.move(ticket, step as JiraStatus, { send: false })
    const payload = board.payloadOf(ticket, [{ field: 'status' }])
    const event = 'jira:issue_updated'
    const { id } = payload.changelog
    return { source: 'jira', id, event, lane: jiraLane(payload), body: JSON.stringify(payload), receivedAt }
  }
  await act()
  const sent = hub.deliveries.at(-1)
  if (sent === undefined) return expect.fail(`nothing reports ${step}`)
  const { guid: id, event, payload } = sent
  return { source: 'github', id, event, lane: githubLane(event, payload), body: JSON.stringify(payload), receivedAt }
}

// ── A bot ──

/** A database that was used before, emptied: making its tables takes longer than everything that happens in it. */
const reused = (): OpenDatabase => {
  let database: Database | null = null
  let tables: string[] = []
  return (path, migrations) => {
    if (database === null) {
      database = openDatabase(path, migrations)
      tables = database.db
        .prepare(`select name from sqlite_master where type = 'table'`)
        .all()
        .map(({ name }) => String(name))
    } else database.db.exec(tables.map(name => `delete from "${name}";`).join(''))
    return database
  }
}
const again = reused()

/** What an action makes of the machine. */
const MACHINE_AFTER: Partial<Record<string, (machine: Machine) => Machine>> = {
  create: machine => machine ?? 'running',
  start: machine => machine && 'running',
  stop: machine => machine && 'stopped',
  delete: () => null,
}

/** `chance` is below 1: now and then the runner works between two deliveries. */
const openBot = async (title: string, chance: () => number, open: OpenDatabase = again) => {
  const clock = Date.now
  const project = projectOf(title)
  const ticket = `${project}-1`
  const store = openStore(':memory:', clock, open)
  const began = new Date(START).toISOString()
  await store.cursors.set('jira', { at: START, began: { [project]: START } })
  await store.cursors.set(`github-app:${hub.repo}`, { began, comments: began, pulls: began })
  const rules = standardRules({
    projects: [project],
    assignees: 'me',
    jiraCommanders: [],
    agent: { use: 'claude', rounds: 1 },
  })
  const hasAgent = lives[title]?.steps.includes('agent ends') === true
  const rulesOf = async () => rules
  const rulesChanged = async () => {}
  const context = {
    ...{ store, jira, github, hasGitHub: true, octokitFor: github.clientFor, clock },
    ...{ rulesOf, rulesOfTicket: rulesOf, rulesChanged, standard: rules, explain: true },
    ...{ isListed: async () => true, isOwnerListed: () => true, servesNow: async () => true },
    repositoriesFor: async () => ({ repositories: ['acme/shop'], isMapped: false }),
  }

  let machine: Machine = null
  let made = 0
  const work = async () => {
    for (
      let lease = await store.queue.claim('one', offer);
      lease !== null;
      lease = await store.queue.claim('one', offer)
    ) {
      const { id, token, action } = lease
      const before = machine
      machine = MACHINE_AFTER[action.kind]?.(machine) ?? (action.kind in MACHINE_AFTER ? null : machine)
      if (before === null && machine !== null) made += 1
      const vmId = `as-${ticket.toLowerCase()}-${made.toString(16).padStart(8, '0')}`
      const environment =
        machine === null ? null : environmentOf(ticket, { status: machine, vmId, ...(hasAgent ? { agent } : {}) })
      const outcome: Outcome =
        before === machine
          ? { result: 'skipped', reason: 'it is so already', environment }
          : { result: 'done', summary: '', environment, seconds: 1 }
      await store.queue.complete(id, token, outcome, [])
    }
  }
  const decideAll = async () => {
    for (let [due] = await store.inbox.due(1); due !== undefined; [due] = await store.inbox.due(1)) {
      await store.inbox.settle([{ seq: due.seq, ...(await decide(context, due)) }])
      if (chance() < 0.5) await work()
    }
  }
  const found = { store, accept: acceptPolled(store, clock, () => {}), everyMs: MINUTE, clock, log }
  const pulls = openGitHubPoll({ ...found, github, parts: ['pulls'], rulesOf, rulesChanged })
  const issues = openJiraPoll({ ...found, jira, projects: [project], assignees: 'me', hasWebhook: true })
  return {
    deliver: async (deliveries: readonly Delivery[]) => {
      for (const delivery of deliveries) {
        await store.inbox.accept([delivery])
        await decideAll()
      }
    },
    /** What is to be told of the agent, and what it is told, each by its name. */
    told: async (): Promise<string[]> => {
      const messages = (await store.outbox.due(1_000)).map(({ key }) => key)
      const tells = (await store.queue.list({ ticket })).filter(({ action }) => action.kind === 'tell')
      return [
        ...messages.filter(key => /^(agent-ended|pull-request|rounds-over):/.test(key)),
        ...tells.map(() => 'tell'),
      ]
    },
    /** The machine, after one look for what was missed. */
    end: async (): Promise<Machine> => {
      await work()
      await catchUp([pulls.round, pulls.compare, issues.round, issues.compare])(new AbortController().signal)
      await decideAll()
      await work()
      return machine
    },
  }
}
type Bot = Awaited<ReturnType<typeof openBot>>

// ── In every order ──

const orders = <T>(all: readonly T[]): T[][] =>
  all.length < 2
    ? [[...all]]
    : all.flatMap((first, index) => orders(all.toSpliced(index, 1)).map(rest => [first, ...rest]))
const draw = <T>(all: readonly T[], most: number, below: (bound: number) => number): T[] => {
  const left = [...all]
  const drawn: T[] = []
  while (left.length > 0 && drawn.length < most) drawn.push(...left.splice(below(left.length), 1))
  return drawn
}

let runs = 0

test.for(titles)('%s', { timeout: 600_000 }, async title => {
  const { steps, end, late = end, without = {} } = lives[title] as Life
  const below = randomFrom(1 + titles.indexOf(title))
  const chance = () => below(1_000) / 1_000
  const ticket = `${projectOf(title)}-1`
  living = ticket
  const pulls = new Map<string, number>()
  const wrong: string[] = []
  const check = async (bot: Bot, how: string, delivered: readonly string[], expected: Machine) => {
    runs += 1
    const machine = await bot.end()
    const lost = steps.find(step => !delivered.includes(step) && Object.hasOwn(without, step))
    const wanted = lost === undefined ? expected : (without[lost] ?? null)
    if (machine !== wanted) wrong.push(`${how}: ${machine}, and not ${wanted}`)
    const told = await bot.told()
    const isTold = told.some(name => name.startsWith('agent-ended'))
    if (isTold !== delivered.includes('agent ends') || new Set(told).size < told.length)
      wrong.push(`${how}: told ${told.join(', ')}`)
  }

  // Bots that are away from each step on. They decide the steps before it as they happen.
  const away: Bot[] = []
  for (const _ of steps) away.push(await openBot(title, chance, openDatabase))
  const reported: Step[] = []
  for (const [index, name] of steps.entries()) {
    const delivery = await perform(ticket, name, pulls)
    reported.push({ name, delivery })
    for (const bot of away.slice(index)) await bot.deliver([delivery])
  }
  vi.setSystemTime(Date.now() + MINUTE)
  responses.clear()
  for (const [index, bot] of away.entries())
    await check(bot, `the first ${index + 1} in time`, steps.slice(0, index + 1), end)

  const run = async (order: readonly Step[], how: string) => {
    const bot = await openBot(title, chance)
    await bot.deliver(order.map(({ delivery }) => delivery))
    const names = order.map(({ name }) => name)
    await check(bot, `${how}: ${names.join(', ')}`, names, late)
  }
  const all = draw(orders(reported), ORDERS, below)
  for (const order of all) await run(order, 'all')
  for (const order of draw(all, VARIED, below)) {
    const twice = draw(order, 1 + below(order.length), below)
    const mixed = [...order]
    for (const step of twice) mixed.splice(below(mixed.length + 1), 0, step)
    await run(mixed, 'some twice')
  }
  for (const missing of reported) {
    const rest = orders(reported.filter(step => step !== missing))
    for (const order of draw(rest, Math.ceil(VARIED / reported.length), below))
      await run(order, `without ${missing.name}`)
  }
  expect(wrong).toEqual([])
})
