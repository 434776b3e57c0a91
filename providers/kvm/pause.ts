/** How long a guest stands still, by QEMU's own events, and who lets it go on as soon as its memory is protected. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Context } from './context.ts'
import { isLiveIn, monitor, readLive } from './monitor.ts'
import { isWritingPages } from './parse.ts'

/** A whole checkpoint takes less. */
const DEADLINE_MS = 10 * 60_000
/** The event of the end may come after the answer to the command. */
const LATE_MS = 2_000
/** Longer, nobody waits for a virsh to connect. */
const READY_MS = 20_000
/** A whole line: what the monitor answers, or why it does not. */
const ANSWER = /.*"return".*|^error: .*/
/** Between two questions. Each takes libvirt and QEMU about as long. */
const ASK_MS = 2

const millisecondsOf = ([, seconds = '', micros = '']: RegExpMatchArray): number =>
  Number(seconds) * 1000 + Number(micros.padEnd(6, '0')) / 1000

export type PauseWatch = {
  /** From now on, no event is missed. */
  isReady: Promise<unknown>
  /** Milliseconds from STOP to RESUME; undefined when they were not seen. */
  end(): Promise<number | undefined>
}

/**
 * When the event comes. `qemu-monitor-event`: `event STOP at 1732876543.123456 for domain 'as-…': <null>`, by QEMU's clock (virsh 9.0).
 */
const waitForEvent = ({ virsh }: Pick<Context, 'virsh'>, id: string, event: string, signal: AbortSignal) => {
  const ready = Promise.withResolvers<void>()
  const at = virsh
    .talk(
      async ({ say, next }) => {
        // Its answer shows that virsh is connected. Then it takes less time to wait than another virsh takes to begin.
        say(['domstate', id], ['qemu-monitor-event', id, event, '--timeout', `${DEADLINE_MS / 1000}`])
        await next(/^(?!virsh)[a-z]/)
        ready.resolve()
        return millisecondsOf(await next(new RegExp(`event ${event} at (\\d+)\\.(\\d+)`)))
      },
      { deadline: DEADLINE_MS, signal },
    )
    .finally(ready.resolve)
  return { isReady: ready.promise, at }
}

export const watchPause = (context: Pick<Context, 'virsh'>, id: string): PauseWatch => {
  const ending = new AbortController()
  // A virsh for each: after a short pause, one that waits for one event after the other comes too late for the second.
  const [stop, resume] = ['STOP', 'RESUME'].map(event => waitForEvent(context, id, event, ending.signal))
  const pause = Promise.all([stop?.at, resume?.at])
    .then(([stopped = 0, resumed = 0]) => Math.round((resumed - stopped) * 10) / 10)
    .catch(() => undefined)
  const ready = Promise.all([stop?.isReady, resume?.isReady])
  return {
    isReady: Promise.race([ready, delay(READY_MS, undefined, { ref: false })]),
    end: async () => {
      const late = delay(LATE_MS, undefined, { signal: ending.signal }).catch(() => undefined)
      try {
        return await Promise.race([pause, late])
      } finally {
        ending.abort()
      }
    },
  }
}

/**
 * Lets the guest go on once the save under way has protected its memory. Since 8.0, QEMU leaves a guest stopped that was stopped
 * before, and libvirt's own `resume` waits for the end of the save. Earlier, memory and disk would differ: QEMU protects the memory
 * before it writes the first page. A save that is not live protects nothing, whoever turned the capability off: that guest stands
 * still until its end. QEMU keeps the capability as it is while a save is under way. `isReady`: from now on, no moment is missed.
 */
export const resumeWhenProtected = (
  { virsh }: Pick<Context, 'virsh'>,
  id: string,
): { isReady: Promise<unknown>; end(): Promise<void> } => {
  const ending = new AbortController()
  const ready = Promise.withResolvers<void>()
  const resumed = virsh
    .talk(
      async ({ say, next }) => {
        while (!ending.signal.aborted) {
          say(monitor(id, 'query-migrate'))
          const [answer] = await next(ANSWER)
          ready.resolve()
          if (isWritingPages(answer)) break
          await delay(ASK_MS)
        }
        say(readLive(id))
        const [capabilities] = await next(ANSWER)
        if (isLiveIn(capabilities) !== true) return
        say(monitor(id, 'cont'))
        await next(ANSWER)
      },
      { deadline: DEADLINE_MS, signal: ending.signal },
    )
    .catch(() => {})
    .finally(ready.resolve)
  return {
    isReady: Promise.race([ready.promise, delay(READY_MS, undefined, { ref: false })]),
    end: async () => {
      ending.abort()
      await resumed
    },
  }
}
