/** What operators see at /metrics, in Prometheus' own format. docs/operating.md says what each means. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { ActionKind } from '../../schema/action.ts'
import type { Outcome } from '../../schema/outcome.ts'
import type { Delivery, Queue, Verdict } from '../../store/port.ts'
import { githubEventNames } from '../github/events.ts'
import { FIRST_LOOK, LATER } from '../inbox/decide.ts'
import { jiraEventNames } from '../jira/events.ts'

export type Metrics = ReturnType<typeof openMetrics>
/** What became of a request that brought a delivery. */
export type Acceptance = 'accepted' | 'bad_signature' | 'bad_request' | 'too_large' | 'store_failed'

/** Senders choose the names of their events: what is not one of these is counted as `other`. */
const EVENTS = new Set([...githubEventNames, ...jiraEventNames, FIRST_LOOK, LATER])

export const openMetrics = ({
  queue,
  runnersAlive,
  rate,
  clock,
}: {
  queue: Queue
  runnersAlive: () => number
  /** Requests that GitHub still grants; null while it has not said. `resetAt` is epoch ms. */
  rate: () => { limit: number; remaining: number; resetAt: number } | null
  clock: () => number
}) => {
  const registry = new Registry()
  const registers = [registry]
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  /** Not there at all while it is not known: 0 would be a claim. */
  const gaugeOnceKnown = (name: string, help: string, read: () => number | null) =>
    new Gauge({
      name,
      help,
      labelNames: ['resource'],
      registers,
      collect() {
        const value = read()
        if (value !== null) this.set({ resource: 'core' }, value)
      },
    })
  const age = (since: number | null) => (since === null ? 0 : Math.max(0, (clock() - since) / 1000))

  const deliveries = new Counter({
    name: 'agent_swarm_deliveries_total',
    help: 'Requests that brought a delivery, by source and what became of the request.',
    labelNames: ['source', 'result'] as const,
    registers,
  })
  const events = new Counter({
    name: 'agent_swarm_events_total',
    help: 'Deliveries that were decided, by source, event and verdict.',
    labelNames: ['source', 'event', 'verdict'] as const,
    registers,
  })
  const actions = new Counter({
    name: 'agent_swarm_actions_total',
    help: 'Actions that ended, by kind and outcome.',
    labelNames: ['kind', 'outcome'] as const,
    registers,
  })
  const seconds = new Histogram({
    name: 'agent_swarm_action_duration_seconds',
    help: 'Time from the queueing of an action to its end, by kind and outcome.',
    labelNames: ['kind', 'outcome'] as const,
    buckets: [0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 900],
    registers,
  })
  gauge('agent_swarm_inbox_deliveries', 'Deliveries that are not decided yet.', () => queue.counts().inbox)
  gauge('agent_swarm_inbox_oldest_age_seconds', 'Age of the oldest delivery that is not decided.', () =>
    age(queue.counts().oldestDeliveryAt),
  )
  new Gauge({
    name: 'agent_swarm_queue_actions',
    help: 'Actions in the queue: pending ones wait for a runner, active ones are being done.',
    labelNames: ['state'],
    registers,
    collect() {
      const { pending, active } = queue.counts()
      this.set({ state: 'pending' }, pending)
      this.set({ state: 'active' }, active)
    },
  })
  gauge('agent_swarm_queue_oldest_age_seconds', 'Age of the oldest action that waits for a runner.', () =>
    age(queue.counts().oldestPendingAt),
  )
  gauge('agent_swarm_outbox_messages', 'Messages that wait to be published.', () => queue.counts().outbox)
  gauge('agent_swarm_outbox_oldest_age_seconds', 'Age of the oldest message that waits to be published.', () =>
    age(queue.counts().oldestMessageAt),
  )
  gauge('agent_swarm_runners_alive', 'Runners that were heard from within the last three heartbeats.', runnersAlive)
  gaugeOnceKnown(
    'agent_swarm_github_rate_limit_remaining',
    'Requests that GitHub still grants, as its last answer said.',
    () => rate()?.remaining ?? null,
  )
  gaugeOnceKnown(
    'agent_swarm_github_rate_limit_limit',
    'Requests that GitHub grants in one period, as its last answer said.',
    () => rate()?.limit ?? null,
  )
  gaugeOnceKnown(
    'agent_swarm_github_rate_limit_reset_timestamp_seconds',
    'When GitHub grants all of them again, as its last answer said.',
    () => {
      const known = rate()
      return known === null ? null : known.resetAt / 1000
    },
  )

  return {
    delivery: (source: Delivery['source'], result: Acceptance) => deliveries.inc({ source, result }),
    decided: (source: Delivery['source'], event: string, verdict: Verdict['verdict']) =>
      events.inc({ source, event: EVENTS.has(event) ? event : 'other', verdict }),
    action: (kind: ActionKind, outcome: Outcome['result'], milliseconds: number) => {
      actions.inc({ kind, outcome })
      seconds.observe({ kind, outcome }, milliseconds / 1000)
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  }
}
