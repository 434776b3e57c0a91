/** What a store costs that holds years of history, beside an empty one: processor time, in turns, within one run. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openMetrics } from '../../src/bot/http/metrics.ts'
import type { Store } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { isLong } from '../support/samples.ts'
import { comment, delivery, environmentOf, offer, queued, request, START, settlement, status } from './fixtures.ts'
import { makeOldStore } from './old.ts'

const SIZE = isLong ? { environments: 1_000, ended: 100_000 } : { environments: 100, ended: 20_000 }
const ROUNDS = 9

/** Processor time of this thread, microseconds. */
const costOf = async (work: () => unknown): Promise<number> => {
  const before = process.threadCpuUsage()
  await work()
  const { user, system } = process.threadCpuUsage(before)
  return user + system
}
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
/** How much more one takes than the other, as the median of rounds. */
const ratioOf = async (old: () => unknown, empty: () => unknown): Promise<number> => {
  const ratios: number[] = []
  // Without what is loaded and compiled first.
  for (const work of [old, empty]) await work()
  for (let round = 0; round < ROUNDS; round += 1) ratios.push((await costOf(old)) / (await costOf(empty)))
  return median(ratios)
}

const homes = async () => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-old-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const [old, empty] = [join(folder, 'old.db'), join(folder, 'empty.db')]
  await makeOldStore(old, { ...SIZE, now: START })
  return { old, empty }
}
const open = (path: string): Store => {
  const store = openStore(path, () => START)
  onTestFinished(() => store.close())
  return store
}

/** From deliveries to outcomes, with everything that the bot asks meanwhile. */
const actions = (store: Store) => {
  let count = 0
  return async (): Promise<void> => {
    for (let n = 0; n < 40; n += 1) {
      count += 1
      const [id, ticket] = [`new-${count}`, `OLD-${(n % 40) + 1}`]
      await store.inbox.accept([delivery(id, `push:${ticket}`)])
      const [taken] = await store.inbox.due(8)
      const action = queued(id, 'stop', ticket)
      const command = { comment: { ...comment, commentId: 1_000_000 + count }, line: 0 }
      await store.queue.list({ ticket, state: 'pending' })
      await store.requests.lastStateChange(ticket, 'anything')
      await store.inbox.settle([
        {
          seq: taken?.seq ?? 0,
          ...settlement({
            actions: [action],
            messages: [status(ticket)],
            requests: [request(id, action.action, { command })],
          }),
        },
      ])
      const lease = await store.queue.claim('runner-1', offer)
      await store.queue.renew(lease?.id ?? '', lease?.token ?? '', null)
      await store.queue.expired()
      await store.requests.unfinishedComments(START, 200)
      await store.requests.history(ticket, 5)
      const environment = environmentOf(ticket, { status: 'stopped' })
      expect(
        await store.queue.complete(
          ...([lease?.id ?? '', lease?.token ?? ''] as const),
          { result: 'done', summary: 'stopped', environment, seconds: 1 },
          [status(ticket)],
        ),
      ).toBe('ok')
      for (const row of await store.outbox.due(4)) await store.outbox.ack(row)
    }
  }
}
const metricsOf = (store: Store) => {
  const metrics = openMetrics({ store, rate: () => null, clock: () => START })
  return async () => {
    for (let n = 0; n < 200; n += 1) await metrics.text()
  }
}
/** A process that opens it and asks what a bot asks first, and prints its processor time. Microseconds. */
const START_SCRIPT = `
  import { openStore } from ${JSON.stringify(new URL('../../src/store/sqlite/index.ts', import.meta.url).href)}
  const store = openStore(process.argv[1], () => ${START})
  await store.inbox.acceptScheduled(${START})
  await store.inbox.due(8)
  await store.outbox.due(4)
  await store.queue.expired()
  await store.requests.unfinishedComments(${START}, 200)
  await store.counts()
  await store.close()
  const { user, system } = process.cpuUsage()
  console.log(user + system)`
const startOf = (path: string): number =>
  Number(
    execFileSync(process.execPath, ['--input-type=module', '-e', START_SCRIPT, path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  )
const startRatio = (old: string, empty: string): number =>
  median(Array.from({ length: isLong ? ROUNDS : 3 }, () => startOf(old) / startOf(empty)))

test('what ended costs nothing: actions, metrics and a start take as long as on an empty store', async () => {
  const { old, empty } = await homes()
  const [one, other] = [open(old), open(empty)]
  // Actions a second: at least 0.8 of those of the empty store.
  expect(await ratioOf(actions(one), actions(other))).toBeLessThan(1 / 0.8)
  expect(await ratioOf(metricsOf(one), metricsOf(other))).toBeLessThan(1.5)
  expect(startRatio(old, empty)).toBeLessThan(1.2)
}, 120_000)
