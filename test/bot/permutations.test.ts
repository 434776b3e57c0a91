/**
 * Order does not matter: the deliveries of a ticket's life, in every order, with duplicates, with any one missing, and with
 * the bot away from any moment on. After one look for what was missed, the machine is as the life says. The stores, the
 * handlers and the looks are real, and the world is that of the stand-ins; the machine is a word.
 */
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { openCatchUp } from '../../src/bot/catch-up.ts'
import { type GitHub, openGitHub } from '../../src/bot/github/client.ts'
import { githubLane } from '../../src/bot/github/events.ts'
import { openGitHubPoll } from '../../src/bot/github/poll.ts'
import { openDecide } from '../../src/bot/inbox/decide.ts'
import { type Jira, openJira } from '../../src/bot/jira/client.ts'
import { jiraLane } from '../../src/bot/jira/events.ts'
import { openJiraPoll } from '../../src/bot/jira/poll.ts'
import { standardRules } from '../../src/bot/rules/repository-file.ts'
import { openOutcomes } from '../../src/bot/runners/outcomes.ts'
import { openLog } from '../../src/log.ts'
import type { Outcome } from '../../src/schema/outcome.ts'
import { type OpenStore, openStore, type Store } from '../../src/sqlite.ts'
import type { Delivery } from '../../src/store/port.ts'
import { openMemory } from '../../src/store/sqlite/memory.ts'
import { openQueue } from '../../src/store/sqlite/queue.ts'
import { type GitHubStandIn, startGitHub } from '../support/github.ts'
import { type JiraStandIn, type JiraStatus, startJira } from '../support/jira.ts'
import { environmentOf } from './stage.ts'

/** So many orders of a life are tried, and so many of them with others twice or missing, drawn by a seed. */
const [ORDERS, VARIED] =
  process.env.AGENT_SWARM_ALL_ORDERS === '1' ? [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY] : [24, 4]
const START = Date.parse('2026-11-24T09:00:00Z')
const MINUTE = 60_000

type Machine = 'running' | 'stopped' | null
type Step = { name: string; delivery: Delivery }
type Life = {
  /** What happens, in its order. What two steps are about has one name: `one` and `two` are pull requests. */
  steps: readonly string[]
  end: Machine
  /** Where it ends when none of it was decided in time, if that differs: what is over by then needs no machine. */
  late?: Machine
  /** Where it ends when this is lost without a trace: nobody can know that it was. */
  without?: Record<string, Machine>
}

// ── The lives ──

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

/** What was answered, as long as nothing happens in the world: it is asked the same hundreds of times. */
const answers = new Map<string, { status: number; headers: [string, string][]; body: string }>()
const real = globalThis.fetch
let living = ''
const remembering: typeof fetch = async (url, init = {}) => {
  const key = JSON.stringify([init.method, String(url), init.body])
  const known = answers.get(key)
  if (known !== undefined) return new Response(known.body, known)
  const answer = await real(url, init)
  const told = await answer.text()
  // Each life has the repository for itself.
  const body = /\/pulls\?/.test(String(url))
    ? JSON.stringify(JSON.parse(told).filter((one: { head: { ref: string } }) => one.head.ref.startsWith(living)))
    : told
  const kept = { status: answer.status, headers: [...answer.headers], body }
  answers.set(key, kept)
  return new Response(kept.body, kept)
}

beforeAll(async () => {
  vi.useFakeTimers({ toFake: ['Date'], now: START })
  hub = await startGitHub()
  board = await startJira({ issues: Object.fromEntries(titles.map(title => [`${projectOf(title)}-1`, title])) })
  hub.lose('failed')
  vi.stubGlobal('fetch', remembering)
  github = await openGitHub(
    { via: 'token', token: 'token-dev', repositories: [hub.repo], apiUrl: hub.url },
    { log, paced: false, installationOf: () => null, decide: async () => expect.fail('it is decided below') },
  )
  jira = openJira({ url: board.url, email: board.me.emailAddress, apiToken: board.token, webhookSecret: null })
})
afterAll(async () => {
  vi.unstubAllGlobals()
  vi.useRealTimers()
  await Promise.all([hub.stop(), board.stop()])
  process.stderr.write(`permutations: ${tried} runs of ${titles.length} lives\n`)
})

/** Lets the next thing happen, a minute later, and returns the delivery that tells of it. */
const happens = async (ticket: string, what: string, pulls: Map<string, number>): Promise<Delivery> => {
  vi.setSystemTime(Date.now() + MINUTE)
  const receivedAt = Date.now()
  const [verb = '', which = '', ...words] = what.split(' ')
  const branch = `${ticket}-${which}`
  const number = pulls.get(which) ?? 0
  const doing: Record<string, () => Promise<unknown>> = {
    open: async () => {
      await hub.push(branch)
      pulls.set(which, await hub.open(branch, `work ${which}`))
    },
    push: () => hub.push(branch),
    merge: () => hub.merge(number),
    close: () => hub.close(number),
    reopen: () => hub.reopen(number),
    say: () => hub.comment(number, words.join(' ')),
  }
  answers.clear()
  const act = doing[verb]
  if (act === undefined) {
    await board.move(ticket, what as JiraStatus, { send: false })
    const body = board.payloadOf(ticket, [{ field: 'status' }])
    const event = 'jira:issue_updated'
    return {
      source: 'jira',
      id: body.changelog.id,
      event,
      lane: jiraLane(body),
      body: JSON.stringify(body),
      receivedAt,
    }
  }
  await act()
  const sent = hub.deliveries.at(-1)
  if (sent === undefined) return expect.fail(`nothing tells of ${what}`)
  const { guid, event, payload } = sent
  const lane = githubLane(event, payload)
  return { source: 'github', id: guid, event, lane, body: JSON.stringify(payload), receivedAt }
}

// ── A bot ──

/** A store that was used before, emptied: to make its tables takes longer than all that happens in it. */
const emptied = (): OpenStore => {
  let store: Store | null = null
  return (path, migrations) => {
    if (store === null) {
      store = openStore(path, migrations)
      return store
    }
    const { db } = store
    const tables = db.prepare(`select name from sqlite_master where type = 'table'`).all()
    db.exec(tables.map(({ name }) => `delete from "${name}";`).join(''))
    return store
  }
}
const again = { memory: emptied(), queue: emptied() }

/** `chance` gives a number below 1: now and then the runner works between two deliveries. `stores`: where it keeps things. */
const openBot = (title: string, chance: () => number, stores: { memory: OpenStore; queue: OpenStore } = again) => {
  const clock = Date.now
  const project = projectOf(title)
  const ticket = `${project}-1`
  const memory = openMemory(':memory:', clock, stores.memory)
  const queue = openQueue(':memory:', clock, stores.queue)
  const began = new Date(START).toISOString()
  memory.setPlace('jira', { at: START, began: { [project]: START } })
  memory.setPlace(`github-app:${hub.repo}`, { began, comments: began, pulls: began })
  const rules = standardRules({ projects: [project], assignees: 'me', jiraCommanders: [] })
  const rulesOf = async () => rules
  const octokitFor = github.clientFor
  const decide = openDecide({
    ...{
      memory,
      queue,
      jira,
      clock,
      rulesOf,
      hasGitHub: true,
      octokitFor,
      rulesOfTicket: rulesOf,
      rulesChanged: async () => {},
    },
  })
  const { onOutcome } = openOutcomes({ memory, toJira: false, secrets: [], clock })

  let machine: Machine = null
  let made = 0
  const becomes = {
    create: () => machine ?? 'running',
    start: () => machine && 'running',
    stop: () => machine && 'stopped',
    delete: () => null,
  } as const
  const work = () => {
    for (let lease = queue.claim({ runnerId: 'one' }); lease !== null; lease = queue.claim({ runnerId: 'one' })) {
      const { id, token, action } = lease
      const before = machine
      if (Object.hasOwn(becomes, action.kind)) machine = becomes[action.kind as keyof typeof becomes]()
      if (before === null && machine !== null) made += 1
      const vmId = `as-${ticket.toLowerCase()}-${made.toString(16).padStart(8, '0')}`
      const environment = machine === null ? null : environmentOf(ticket, { status: machine, vmId })
      const outcome: Outcome =
        before === machine
          ? { result: 'skipped', reason: 'it is so', environment }
          : { result: 'done', summary: '', environment, seconds: 1 }
      const row = queue.get(id)
      queue.complete(id, token, outcome, () => (row === null ? [] : onOutcome(row, outcome)))
    }
  }
  const decided = async () => {
    for (let due = queue.due(1); due.length > 0; due = queue.due(1))
      for (const one of due) {
        const decision = await (one.source === 'jira'
          ? decide.jira(one)
          : github
              .clientFor(hub.repo)
              .then(octokit =>
                octokit === null
                  ? expect.fail('no client')
                  : decide.github({ id: one.id, name: one.event, payload: JSON.parse(one.body), octokit }),
              ))
        queue.settle([{ seq: one.seq, ...decision }])
        if (chance() < 0.5) work()
      }
  }
  const deliver = async (deliveries: readonly Delivery[]) => {
    for (const one of deliveries) {
      queue.accept([one])
      await decided()
    }
  }
  const accept = (deliveries: readonly Delivery[]) => void queue.accept(deliveries.filter(one => !queue.taken(one)))
  const look = { memory, everyMs: MINUTE, clock, log, accept }
  const pulls = openGitHubPoll({ ...look, github, parts: ['pulls'], rulesOf, rulesChanged: async () => {} })
  const tickets = openJiraPoll({ ...look, jira, projects: [project], assignees: 'me' })
  const looks = [pulls.round, pulls.compare, tickets.round, tickets.compare]
  const catchUp = openCatchUp({ github: null, looks, queue, memory, clock, log })
  return {
    deliver,
    /** The machine, after one look for what was missed. */
    end: async (): Promise<Machine> => {
      work()
      await catchUp.round()
      await decided()
      work()
      return machine
    },
  }
}

// ── In every order ──

/** Mulberry32. */
const chances = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}
const orders = <T>(all: readonly T[]): T[][] =>
  all.length < 2 ? [[...all]] : all.flatMap((one, at) => orders(all.toSpliced(at, 1)).map(rest => [one, ...rest]))
const drawn = <T>(all: readonly T[], most: number, chance: () => number): T[] => {
  const left = [...all]
  const found: T[] = []
  while (left.length > 0 && found.length < most) found.push(...left.splice(Math.floor(chance() * left.length), 1))
  return found
}

let tried = 0

test.for(titles)('%s', { timeout: 600_000 }, async title => {
  const { steps, end, late = end, without = {} } = lives[title] as Life
  const chance = chances(1 + titles.indexOf(title))
  const ticket = `${projectOf(title)}-1`
  living = ticket
  const pulls = new Map<string, number>()
  const wrong: string[] = []
  const check = async (bot: ReturnType<typeof openBot>, how: string, given: readonly string[], ends: Machine) => {
    tried += 1
    const found = await bot.end()
    const lost = steps.find(one => !given.includes(one) && Object.hasOwn(without, one))
    const wanted = lost === undefined ? ends : (without[lost] ?? null)
    if (found !== wanted) wrong.push(`${how}: ${found}, and not ${wanted}`)
  }

  // Away from each moment on: it sees the first steps as they happen.
  const away = steps.map(() => openBot(title, chance, { memory: openStore, queue: openStore }))
  const told: Step[] = []
  for (const [at, name] of steps.entries()) {
    const delivery = await happens(ticket, name, pulls)
    told.push({ name, delivery })
    for (const bot of away.slice(at)) await bot.deliver([delivery])
  }
  vi.setSystemTime(Date.now() + MINUTE)
  answers.clear()
  for (const [at, bot] of away.entries()) await check(bot, `the first ${at + 1} in time`, steps.slice(0, at + 1), end)

  const all = drawn(orders(told), ORDERS, chance)
  const run = async (order: readonly Step[], how: string) => {
    const bot = openBot(title, chance)
    await bot.deliver(order.map(one => one.delivery))
    const given = order.map(one => one.name)
    await check(bot, `${how}: ${given.join(', ')}`, given, late)
  }
  for (const order of all) await run(order, 'all')
  for (const order of drawn(all, VARIED, chance)) {
    const twice = drawn(order, 1 + Math.floor(chance() * order.length), chance)
    const mixed = [...order]
    for (const one of twice) mixed.splice(Math.floor(chance() * (mixed.length + 1)), 0, one)
    await run(mixed, 'some twice')
  }
  for (const missing of told)
    for (const order of drawn(orders(told.filter(one => one !== missing)), Math.ceil(VARIED / told.length), chance))
      await run(order, `without ${missing.name}`)
  expect(wrong).toEqual([])
})
