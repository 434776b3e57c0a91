/** (c) Deliveries accepted per second, with checked signature and on disk, compared with Probot's server with an empty handler. Both with their default log. */
import { join } from 'node:path'
import { pound, push, serve } from './deliveries.ts'
import type { Row } from './main.ts'
import { botEnvironment, entry, median, privateKey, withHome } from './measure.ts'

const ROUNDS = 7
const SECONDS = 2
const TARGETS = { 10: 0.9, 100: 1.2 } as const

/** Requests per second. */
const load = async (url: string, connections: number): Promise<number> => {
  const { ok, bad, seconds } = await pound(url, { connections, deliveries: [push('main')], duration: SECONDS })
  if (bad > 0) throw new Error(`loading ${url}: ${bad} deliveries were refused`)
  return ok / seconds
}

export const accepting = (): Promise<Row[]> =>
  withHome(async home => {
    const rows: Row[] = []
    for (const connections of [10, 100] as const) {
      const environment = { ...botEnvironment(join(home, String(connections)), privateKey()), LOG_LEVEL: 'info' }
      const ours = await serve([entry, 'bot'], environment)
      const theirs = await serve([join(import.meta.dirname, 'probot-server.ts')], environment)
      try {
        const ratios: number[] = []
        const [ourRates, theirRates]: [number[], number[]] = [[], []]
        for (let round = 0; round < ROUNDS; round += 1) {
          const a = await load(ours.url, connections)
          const b = await load(theirs.url, connections)
          ourRates.push(a)
          theirRates.push(b)
          ratios.push(a / b)
        }
        const ratio = median(ratios)
        rows.push({
          row: 'c',
          what: `deliveries accepted per second / Probot's Server with an empty handler, ${connections} connections, median of ${ROUNDS}`,
          measured: `${ratio.toFixed(2)} (${Math.round(median(ourRates))} / ${Math.round(median(theirRates))} per s)`,
          target: `>= ${TARGETS[connections]}`,
          ok: ratio >= TARGETS[connections],
        })
      } finally {
        ours.stop()
        theirs.stop()
      }
    }
    return rows
  })
