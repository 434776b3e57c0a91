/** What operators see at /metrics, in Prometheus' own format. docs/operating.md says what each metric means. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Clock } from '../../clock.ts'
import type { ActionKind } from '../../schema/action.ts'
import type { Outcome } from '../../schema/outcome.ts'
import { AGENT_ENDED, type Counts, type Delivery, PUSHED, type Store, type Verdict } from '../../store/port.ts'
import type { GitHub } from '../github/client.ts'
import { allGitHubEventNames } from '../github/events.ts'
import { LATER } from '../inbox/clock.ts'
import { jiraEventNames } from '../jira/events.ts'
import { FIRST_LOOK } from '../jira/polled.ts'

export type Metrics = ReturnType<typeof openMetrics>
/** What became of a request that brought a delivery. */
export type Acceptance = 'accepted' | 'bad_signature' | 'bad_request' | 'too_large' | 'store_failed'

/** Senders choose the names of their events: every other name is counted as `other`. */
const EVENTS = new Set([...allGitHubEventNames, ...jiraEventNames, FIRST_LOOK, LATER, AGENT_ENDED, PUSHED])

const counters = (registers: Registry[]) => ({
  deliveries: new Counter({
    name: 'agent_swarm_deliveries_total',
    help: 'Requests that brought a delivery, by source and what became of the request.',
    labelNames: ['source', 'result'] as const,
    registers,
  }),
  events: new Counter({
    name: 'agent_swarm_events_total',
    help: 'Deliveries that were decided, by source, event and verdict.',
    labelNames: ['source', 'event', 'verdict'] as const,
    registers,
  }),
  connections: new Counter({
    name: 'agent_swarm_connections_refused_total',
    help: 'Connections that were refused, by the limit: of one address, or of all.',
    labelNames: ['limit'] as const,
    registers,
  }),
  actions: new Counter({
    name: 'agent_swarm_actions_total',
    help: 'Actions that ended, by kind and outcome.',
    labelNames: ['kind', 'outcome'] as const,
    registers,
  }),
  seconds: new Histogram({
    name: 'agent_swarm_action_duration_seconds',
    help: 'Time from the queueing of an action to its end, by kind and outcome.',
    labelNames: ['kind', 'outcome'] as const,
    buckets: [0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 900],
    registers,
  }),
})

/** Gauges of the store. The result sets them. */
const storeGauges = (registers: Registry[]) => {
  const gauge = (name: string, help: string) => new Gauge({ name: `agent_swarm_${name}`, help, registers })
  const inbox = gauge('inbox_deliveries', 'Deliveries that are not decided yet.')
  const inboxAge = gauge('inbox_oldest_age_seconds', 'Age of the oldest delivery that is not decided.')
  const queue = new Gauge({
    name: 'agent_swarm_queue_actions',
    help: 'Actions in the queue: pending ones wait for a runner, active ones are in progress.',
    labelNames: ['state'],
    registers,
  })
  const queueAge = gauge('queue_oldest_age_seconds', 'Age of the oldest action that waits for a runner.')
  const outbox = gauge('outbox_messages', 'Messages that wait to be published.')
  const outboxAge = gauge('outbox_oldest_age_seconds', 'Age of the oldest message that waits to be published.')
  const runners = gauge('runners_alive', 'Runners that sent a heartbeat within the last three intervals.')
  return (counts: Counts, runnersAlive: number, now: number): void => {
    const age = (since: number | null) => (since === null ? 0 : Math.max(0, (now - since) / 1000))
    inbox.set(counts.inbox)
    inboxAge.set(age(counts.oldestDeliveryAt))
    queue.set({ state: 'pending' }, counts.pending)
    queue.set({ state: 'active' }, counts.active)
    queueAge.set(age(counts.oldestPendingAt))
    outbox.set(counts.outbox)
    outboxAge.set(age(counts.oldestMessageAt))
    runners.set(runnersAlive)
  }
}

/** Gauges of GitHub's rate limit. They have no value until it is known: 0 would be a claim. */
const rateGauges = (registers: Registry[]) => {
  const gauge = (name: string, help: string) =>
    new Gauge({ name: `agent_swarm_github_rate_limit_${name}`, help, labelNames: ['resource'], registers })
  const remaining = gauge('remaining', "Requests that GitHub still grants, from GitHub's last response.")
  const limit = gauge('limit', "Requests that GitHub grants in one period, from GitHub's last response.")
  const reset = gauge(
    'reset_timestamp_seconds',
    "When GitHub grants the full number of requests again, from GitHub's last response.",
  )
  return (rate: ReturnType<GitHub['rate']>): void => {
    if (rate === null) return
    remaining.set({ resource: 'core' }, rate.remaining)
    limit.set({ resource: 'core' }, rate.limit)
    reset.set({ resource: 'core' }, rate.resetAt / 1000)
  }
}

type MetricsContext = { store: Store; rate: GitHub['rate']; clock: Clock }
export const openMetrics = ({ store, rate, clock }: MetricsContext) => {
  const registry = new Registry()
  const { deliveries, events, connections, actions, seconds } = counters([registry])
  const setStore = storeGauges([registry])
  const setRate = rateGauges([registry])
  return {
    delivery: (source: Delivery['source'], result: Acceptance) => deliveries.inc({ source, result }),
    decided: (source: Delivery['source'], event: string, verdict: Verdict) =>
      events.inc({ source, event: EVENTS.has(event) ? event : 'other', verdict }),
    connectionRefused: (limit: 'address' | 'total') => connections.inc({ limit }),
    action: (kind: ActionKind, outcome: Outcome['result'], milliseconds: number) => {
      actions.inc({ kind, outcome })
      seconds.observe({ kind, outcome }, milliseconds / 1000)
    },
    text: async (): Promise<string> => {
      const runners = await store.runners.list()
      setStore(await store.counts(), runners.filter(({ connected }) => connected).length, clock())
      setRate(rate())
      return registry.metrics()
    },
    contentType: registry.contentType,
  }
}
