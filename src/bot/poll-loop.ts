/** Work that is done again and again, never twice at once: each round says after how many milliseconds the next may begin. */

import type { Log } from '../log.ts'
import type { Failure } from '../schema/failure.ts'
import { MAX_WAIT_MS } from '../store/port.ts'

/** After a round that failed in a way nobody foresaw. Milliseconds. */
const AFTER_TROUBLE_MS = 60_000
/** How long is waited for a server that asks for `wait` ms: whatever it says, it is asked again within the hour. */
export const boundedWait = (wait: number): number => Math.max(1_000, Math.min(wait, MAX_WAIT_MS))

/** Tells a trouble once, until it is another one or over. */
export const openProblemLog = (log: Log) => {
  const known = new Map<string, string>()
  return (what: string, trouble: Pick<Failure, 'message' | 'remedy'> | null): void => {
    if (known.get(what) === trouble?.message) return
    if (trouble === null) {
      known.delete(what)
      log.info(`${what}: well again`)
    } else {
      known.set(what, trouble.message)
      log.warn({ remedy: trouble.remedy }, trouble.message)
    }
  }
}

export type PollLoop = {
  /** Begins nothing more, and waits for the round in hand, at most `within` ms. */
  close(within: number): Promise<void>
}

export const openPollLoop = (what: string, round: () => Promise<number>, log: Log): PollLoop => {
  let closed = false
  let timer: NodeJS.Timeout | null = null
  let inHand: Promise<void> = Promise.resolve()
  const begin = () => {
    inHand = round()
      .catch(error => {
        log.error({ err: error }, what)
        return AFTER_TROUBLE_MS
      })
      .then(wait => {
        if (closed) return
        timer = setTimeout(begin, Math.min(wait, MAX_WAIT_MS))
        timer.unref()
      })
  }
  begin()
  return {
    close: async within => {
      closed = true
      if (timer !== null) clearTimeout(timer)
      await Promise.race([inHand, new Promise(resolve => setTimeout(resolve, within).unref())])
    },
  }
}
