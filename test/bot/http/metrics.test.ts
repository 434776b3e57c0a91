/** The page at /metrics, read by a third party's parser of Prometheus' text format. */
import { readFileSync } from 'node:fs'
// @ts-expect-error It has no types.
import parse from 'parse-prometheus-text-format'
import { expect, test } from 'vitest'
import { githubEventNames } from '../../../src/bot/github/events.ts'
import { openMetrics } from '../../../src/bot/http/metrics.ts'
import { LATER } from '../../../src/bot/inbox/clock.ts'
import { jiraEventNames } from '../../../src/bot/jira/events.ts'
import { FIRST_LOOK } from '../../../src/bot/jira/polled.ts'
import { statusMessage } from '../../../src/store/messages.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'
import { delivery, heartbeatOf, offer, queued } from '../../store/fixtures.ts'

type Family = {
  name: string
  help: string
  type: 'COUNTER' | 'GAUGE' | 'HISTOGRAM'
  metrics: {
    labels?: Record<string, string>
    value?: string
    count?: string
    sum?: string
    buckets?: Record<string, string>
  }[]
}
const stage = () => {
  let now = 1_000_000
  let rate: { limit: number; remaining: number; resetAt: number } | null = null
  const store = openStore(':memory:', () => now)
  const metrics = openMetrics({ store, rate: () => rate, clock: () => now })
  return {
    store,
    metrics,
    pass: (seconds: number) => {
      now += seconds * 1000
    },
    setRate: (next: typeof rate) => {
      rate = next
    },
    read: async () => new Map((parse(await metrics.text()) as Family[]).map(family => [family.name, family])),
  }
}
const everything = () => {
  const all = stage()
  all.metrics.delivery('github', 'accepted')
  all.metrics.decided('github', 'push', 'actions')
  all.metrics.action('create', 'done', 3_000)
  all.setRate({ limit: 5_000, remaining: 4_990, resetAt: 1_700_000_000_000 })
  return all
}

test('names, types, labels and help follow the conventions of Prometheus', async () => {
  const families = await everything().read()
  expect(families.size).toBe(15)
  for (const { name, help, type, metrics } of families.values()) {
    expect(name).toMatch(/^agent_swarm_[a-z]+(_[a-z]+)*$/)
    expect(help).toMatch(/^[A-Z].*\.$/)
    expect(name.endsWith('_total')).toBe(type === 'COUNTER')
    // Seconds and no other unit of time; the unit comes last.
    expect(name).not.toMatch(/milliseconds|_ms\b|minutes/)
    if (/seconds/.test(name)) expect(name).toMatch(/_seconds$/)
    for (const { labels = {} } of metrics)
      for (const label of Object.keys(labels))
        expect(['source', 'event', 'verdict', 'result', 'kind', 'outcome', 'state', 'resource']).toContain(label)
  }
})

test('runners are alive until their heartbeats stop', async () => {
  const { store, pass, read } = stage()
  const alive = async () => (await read()).get('agent_swarm_runners_alive')?.metrics[0]?.value
  expect(await alive()).toBe('0')
  await store.runners.heartbeat(heartbeatOf([]))
  expect(await alive()).toBe('1')
  pass(60)
  expect(await alive()).toBe('0')
})

test('every metric is documented, and nothing else is', async () => {
  const page = readFileSync(new URL('../../../docs/operating.md', import.meta.url), 'utf8')
  const documented = [...page.matchAll(/^\| `(agent_swarm_\w+)(?:\{[^`]*\})?` \|/gm)].map(([, name]) => name)
  expect(documented.sort()).toEqual([...(await everything().read()).keys()].sort())
})

test('the number and the age of what waits', async () => {
  const { store, pass, read } = stage()
  const values = async () => {
    const families = await read()
    return Object.fromEntries(
      [
        'inbox_deliveries',
        'inbox_oldest_age_seconds',
        'queue_oldest_age_seconds',
        'outbox_messages',
        'outbox_oldest_age_seconds',
      ].map(name => [name, Number(families.get(`agent_swarm_${name}`)?.metrics[0]?.value)]),
    )
  }
  expect(new Set(Object.values(await values()))).toEqual(new Set([0]))
  await store.inbox.accept([{ ...delivery('1'), receivedAt: 1_000_000 }])
  pass(10)
  await store.queue.enqueue(queued('1'))
  pass(20)
  await store.outbox.put([statusMessage('DROP-1')])
  pass(5)
  // A message that replaces it has waited as long.
  await store.outbox.put([statusMessage('DROP-1')])
  pass(5)
  expect(await values()).toEqual({
    inbox_deliveries: 1,
    inbox_oldest_age_seconds: 40,
    queue_oldest_age_seconds: 30,
    outbox_messages: 1,
    outbox_oldest_age_seconds: 10,
  })
  expect(await store.queue.claim('one', offer)).not.toBeNull()
  expect((await read()).get('agent_swarm_queue_actions')?.metrics).toEqual([
    { labels: { state: 'pending' }, value: '0' },
    { labels: { state: 'active' }, value: '1' },
  ])
})

test('an action counts by kind and outcome, with the time it took', async () => {
  const { metrics, read } = stage()
  metrics.action('create', 'done', 3_000)
  metrics.action('create', 'done', 50)
  // The parser merges a histogram's labels.
  expect((await read()).get('agent_swarm_action_duration_seconds')?.metrics).toMatchObject([
    { buckets: { '0.1': '1', '2': '1', '5': '2', '+Inf': '2' } },
  ])
  expect(await metrics.text()).toContain('agent_swarm_action_duration_seconds_sum{kind="create",outcome="done"} 3.05')
  metrics.action('create', 'failed', 400_000)
  expect((await read()).get('agent_swarm_actions_total')?.metrics).toEqual([
    { labels: { kind: 'create', outcome: 'done' }, value: '2' },
    { labels: { kind: 'create', outcome: 'failed' }, value: '1' },
  ])
  expect(await metrics.text()).toContain('agent_swarm_action_duration_seconds_count{kind="create",outcome="failed"} 1')
})

test('GitHub’s rate limit has no value until it is known', async () => {
  const { setRate, read } = stage()
  const remaining = async () => (await read()).get('agent_swarm_github_rate_limit_remaining')?.metrics ?? []
  expect((await remaining()).filter(({ value }) => value !== undefined)).toEqual([])
  setRate({ limit: 5_000, remaining: 0, resetAt: 0 })
  expect(await remaining()).toEqual([{ labels: { resource: 'core' }, value: '0' }])
})

test('an event that the bot listens to is counted by its name', async () => {
  const { metrics, read } = stage()
  const names = { github: githubEventNames, jira: [...jiraEventNames, FIRST_LOOK], clock: [LATER] } as const
  for (const source of ['github', 'jira', 'clock'] as const)
    for (const event of names[source]) metrics.decided(source, event, 'actions')
  const series = (await read()).get('agent_swarm_events_total')?.metrics as { labels: { event: string } }[]
  expect(series.map(({ labels }) => labels.event)).toEqual(Object.values(names).flat())
})

test('names that senders choose make no series of their own', async () => {
  const { metrics, read } = stage()
  for (let n = 0; n < 500; n += 1) metrics.decided('jira', `jira:${n}" } evil 1\n`, 'ignored')
  metrics.decided('github', '__proto__', 'ignored')
  metrics.decided('github', 'push', 'ignored')
  expect((await read()).get('agent_swarm_events_total')?.metrics).toEqual([
    { labels: { source: 'jira', event: 'other', verdict: 'ignored' }, value: '500' },
    { labels: { source: 'github', event: 'other', verdict: 'ignored' }, value: '1' },
    { labels: { source: 'github', event: 'push', verdict: 'ignored' }, value: '1' },
  ])
})
