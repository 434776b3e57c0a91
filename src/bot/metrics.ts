/** What operators see at /metrics, in Prometheus' own format. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Queue } from '../queue/queue.ts'

export type Metrics = ReturnType<typeof openMetrics>
/** What became of a request that brought a delivery. */
export type Acceptance = 'accepted' | 'bad_signature' | 'bad_request' | 'too_large' | 'not_configured' | 'store_failed'

export const openMetrics = ({
  queue,
  runnersAlive,
  clock,
}: {
  queue: Queue
  runnersAlive: () => number
  clock: () => number
}) => {
  const registers = [new Registry()]
  const [registry = new Registry()] = registers
  const deliveries = new Counter({
    name: 'agent_swarm_deliveries_total',
    help: 'Deliveries by source and what became of the request.',
    labelNames: ['source', 'result'],
    registers,
  })
  const verdicts = new Counter({
    name: 'agent_swarm_verdicts_total',
    help: 'Deliveries by event and verdict.',
    labelNames: ['event', 'verdict'],
    registers,
  })
  const actions = new Counter({
    name: 'agent_swarm_actions_total',
    help: 'Actions by kind and how they ended.',
    labelNames: ['kind', 'result'],
    registers,
  })
  const seconds = new Histogram({
    name: 'agent_swarm_action_seconds',
    help: 'From the queueing of an action to its end, in seconds.',
    labelNames: ['kind'],
    buckets: [0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 900],
    registers,
  })
  new Gauge({
    name: 'agent_swarm_queue',
    help: 'Rows of the store by state.',
    labelNames: ['state'],
    registers,
    collect() {
      const { oldestPendingAt: _, ...counts } = queue.counts()
      for (const [state, count] of Object.entries(counts)) this.set({ state }, count)
    },
  })
  new Gauge({
    name: 'agent_swarm_queue_oldest_seconds',
    help: 'Age of the oldest action that waits, in seconds.',
    registers,
    collect() {
      const { oldestPendingAt } = queue.counts()
      this.set(oldestPendingAt === null ? 0 : (clock() - oldestPendingAt) / 1000)
    },
  })
  new Gauge({
    name: 'agent_swarm_runners_alive',
    help: 'Runners heard from just now.',
    registers,
    collect() {
      this.set(runnersAlive())
    },
  })
  return {
    delivery: (source: 'github' | 'jira' | 'clock', result: Acceptance) => deliveries.inc({ source, result }),
    verdict: (event: string, verdict: string) => verdicts.inc({ event, verdict }),
    action: (kind: string, result: string, milliseconds: number) => {
      actions.inc({ kind, result })
      seconds.observe({ kind }, milliseconds / 1000)
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  }
}
