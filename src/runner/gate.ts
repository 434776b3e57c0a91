/** Waits in the queue until a place is given. Throws the reason of the signal when it aborts first. */
const waitIn = async (waiting: (() => void)[], signal: AbortSignal | undefined): Promise<void> => {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const leave = () => {
    const at = waiting.indexOf(resolve)
    // It has a place already.
    if (at === -1) return
    waiting.splice(at, 1)
    reject(signal?.reason)
  }
  waiting.push(resolve)
  signal?.addEventListener('abort', leave)
  await promise.finally(() => signal?.removeEventListener('abort', leave))
}

/** Lets so many pieces of work run at once; the others wait in order. `signal` ends the wait for a place, and not the work. */
export const openGate = (places: number) => {
  const waiting: (() => void)[] = []
  let free = places
  return async <T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> => {
    signal?.throwIfAborted()
    if (free > 0) free -= 1
    else await waitIn(waiting, signal)
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      if (next === undefined) free += 1
      else next()
    }
  }
}
export type Gate = ReturnType<typeof openGate>
