/** The bot dies at each step between a delivery and the comments that tell its end: every comment is there, and once. */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type Jira, openJira } from '../../src/bot/jira/client.ts'
import { openPublisher } from '../../src/bot/publish/publisher.ts'
import { readConfig } from '../../src/config/config.ts'
import { openLog } from '../../src/log.ts'
import { LEASE_MS } from '../../src/schema/runner-protocol.ts'
import { jiraNoteMessage } from '../../src/store/messages.ts'
import type { Store } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { delivery, done, environmentOf, failure, offer, queued, request, settlement } from '../store/fixtures.ts'
import { type JiraStandIn, startJira } from '../support/jira.ts'
import { until } from '../support/wait.ts'
import { runWith } from './crash.ts'
import { asyncStep, type OnPoint } from './points.ts'
import { openMatrix } from './rounds.ts'
import { copyOf, remove } from './scenarios.ts'

/** Jira sends it again when it was not answered. */
const DELIVERIES = ['d1', 'd2']

const decide = async (store: Store): Promise<void> => {
  for (const { seq, id } of await store.inbox.due(9)) {
    const ticket = id === 'd1' ? 'DROP-1' : 'DROP-2'
    const action = queued(`jira:${id}:0`, 'create', ticket)
    const requests = [request(action.id, action.action, { place: ticket })]
    await store.inbox.settle([{ seq, ...settlement({ actions: [action], requests }) }])
  }
}
/** One create succeeds, and the other one fails for good. */
const work = async (store: Store): Promise<void> => {
  for (const { id, token } of await store.queue.expired()) await store.queue.giveBack(id, token ?? '')
  for (
    let lease = await store.queue.claim('runner-1', offer);
    lease !== null;
    lease = await store.queue.claim('runner-1', offer)
  ) {
    const { id, token, action } = lease
    const { ticket } = action
    if (ticket === 'DROP-1') {
      const environment = environmentOf(ticket)
      const note = { kind: 'ready', environment, host: null } as const
      await store.queue.complete(id, token, done(environment), [jiraNoteMessage(ticket, `ready:${id}`, note)])
    } else {
      const note = { kind: 'failed', action, failure } as const
      const messages = [jiraNoteMessage(ticket, `failed:${id}`, note)]
      await store.queue.fail(id, token, { failure, retry: false, environment: null, messages })
    }
  }
}
const watched = (jira: Jira, on: OnPoint): Jira =>
  new Proxy(jira, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name)
      return typeof member === 'function'
        ? (...values: unknown[]) =>
            asyncStep(on, { name: `Jira ${String(name)}`, work: () => member.apply(target, values) })
        : member
    },
  })

/** All of it, from a start of the bot. */
const live = async (
  home: string,
  jira: Jira,
  jiraUrl: string,
  clock: () => number,
  on: OnPoint = () => {},
): Promise<void> => {
  const store = openStore(join(home, 'bot.db'), clock)
  await store.inbox.accept(DELIVERIES.map(id => delivery(id, id, { source: 'jira', event: 'jira:issue_updated' })))
  await decide(store)
  await work(store)
  const log = openLog('silent')
  const publisher = openPublisher({
    store,
    github: null,
    jira: watched(jira, on),
    webUrl: 'https://github.com',
    jiraUrl,
    clock,
    log,
  })
  await until('an empty outbox', async () => (await store.counts()).outbox === 0)
  await publisher.close()
  await store.close()
}

const problemsOf = async (home: string, stand: JiraStandIn, clock: () => number): Promise<string[]> => {
  const store = openStore(join(home, 'bot.db'), clock)
  const { inbox, pending, active, outbox } = await store.counts()
  const actions = await Promise.all(
    DELIVERIES.map(id => store.queue.list({ ticket: id === 'd1' ? 'DROP-1' : 'DROP-2' })),
  )
  await store.close()
  const told = ['DROP-1', 'DROP-2'].map(ticket => stand.comments(ticket).length)
  return [
    ...(told.every(count => count === 1) ? [] : [`comments on the two tickets: ${told}`]),
    ...(inbox + pending + active + outbox === 0 ? [] : [`left: ${JSON.stringify({ inbox, pending, active, outbox })}`]),
    ...(actions.every(rows => rows.length === 1) ? [] : ['an action is there more than once']),
  ]
}

test('each outcome is reported once', async () => {
  const issues = { 'DROP-1': 'one', 'DROP-2': 'two' }
  let now = Date.parse('2026-11-24T10:00:00Z')
  const clock = () => now
  const template = mkdtempSync(join(tmpdir(), 'agent-swarm-crash-'))
  onTestFinished(() => remove(template))
  await openStore(join(template, 'bot.db'), clock).close()
  /** A Jira of its own for each round. */
  const withJira = async <T>(run: (jira: Jira, url: string, stand: JiraStandIn) => Promise<T>): Promise<T> => {
    const stand = await startJira({ issues })
    try {
      const { jira } = await readConfig({}, { AGENT_SWARM_HOME: template, ...stand.settings, JIRA_PROJECTS: 'DROP' })
      if (jira === null) throw new Error('Jira is not configured')
      return await run(openJira(jira), jira.url, stand)
    } finally {
      await stand.stop()
    }
  }
  const { points } = await withJira(async (jira, url) => {
    const home = copyOf(template)
    const recorded = await runWith(home, null, on => live(home, jira, url, clock, on))
    remove(home)
    return recorded
  })
  const matrix = openMatrix('publish', points)
  for (const { at, sample } of matrix.rounds({ all: 50, some: 1, points: 12 })) {
    let home = copyOf(template)
    const found = await withJira(async (jira, url, stand) => {
      home = (await runWith(home, { at }, on => live(home, jira, url, clock, on))).home
      now += 2 * LEASE_MS
      if (sample.next(2) === 0) {
        const second = sample.next(points.length)
        home = (await runWith(home, { at: second }, on => live(home, jira, url, clock, on))).home
        now += 2 * LEASE_MS
      }
      await live(home, jira, url, clock)
      return problemsOf(home, stand, clock)
    })
    remove(home)
    matrix.played(at, found)
  }
  expect(matrix.end()).toEqual([])
})
