/**
 * (c) Deliveries accepted per second, and the processor time of each, with checked signature and on disk, compared with Probot's
 * server with an empty handler. Both with their default log.
 */
import { join } from 'node:path'
import { pound, push, type Served, serve } from './deliveries.ts'
import type { Row } from './main.ts'
import { botEnvironment, entry, median, privateKey, processorSeconds, withHome } from './measure.ts'

const ROUNDS = 7
const SECONDS = 2
const TARGETS = { 10: { rate: 0.9, processor: 1 }, 100: { rate: 1.2, processor: 0.7 } } as const

/** Requests per second, and milliseconds of the server's processor time for each. What it does later of them is in the next round. */
const load = async ({ url, pid }: Served, connections: number): Promise<{ rate: number; each: number }> => {
  const before = processorSeconds(pid)
  const { ok, bad, seconds } = await pound(url, { connections, deliveries: [push('main')], duration: SECONDS })
  if (bad > 0) throw new Error(`loading ${url}: ${bad} deliveries were refused`)
  return { rate: ok / seconds, each: ((processorSeconds(pid) - before) * 1000) / ok }
}

export const accepting = (): Promise<Row[]> =>
  withHome(async home => {
    const rows: Row[] = []
    for (const connections of [10, 100] as const) {
      const environment = { ...botEnvironment(join(home, String(connections)), privateKey()), LOG_LEVEL: 'info' }
      const ours = await serve([entry, 'bot'], environment)
      const theirs = await serve([join(import.meta.dirname, 'probot-server.ts')], environment)
      try {
        const rounds: { a: Awaited<ReturnType<typeof load>>; b: Awaited<ReturnType<typeof load>> }[] = []
        for (let round = 0; round < ROUNDS; round += 1)
          rounds.push({ a: await load(ours, connections), b: await load(theirs, connections) })
        const of = (name: 'rate' | 'each', side: 'a' | 'b') => median(rounds.map(round => round[side][name]))
        const rate = median(rounds.map(round => round.a.rate / round.b.rate))
        const processor = median(rounds.map(round => round.a.each / round.b.each))
        const targets = TARGETS[connections]
        rows.push(
          {
            row: 'c',
            what: `deliveries accepted per second / Probot's Server with an empty handler, ${connections} connections, median of ${ROUNDS}`,
            measured: `${rate.toFixed(2)} (${Math.round(of('rate', 'a'))} / ${Math.round(of('rate', 'b'))} per s)`,
            target: `>= ${targets.rate}`,
            ok: rate >= targets.rate,
          },
          {
            row: 'c',
            what: `processor time per accepted delivery / the same, ${connections} connections`,
            measured: `${processor.toFixed(2)} (${of('each', 'a').toFixed(2)} / ${of('each', 'b').toFixed(2)} ms)`,
            target: `<= ${targets.processor}`,
            ok: processor <= targets.processor,
          },
        )
      } finally {
        ours.stop()
        theirs.stop()
      }
    }
    return rows
  })
