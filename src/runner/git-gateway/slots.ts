/** How many requests run at once: one machine has a share, and waits for its own requests first. */
import { fail } from '../../errors.ts'

export type SlotLimits = { total: number; each: number; waiting: number }

/** Runs `work` when there is a slot for `key`. Throws `busy` when too many of `key` wait already. */
export const openSlots = ({ total, each, waiting }: SlotLimits) => {
  const running = new Map<string, number>()
  let queue: { key: string; start: () => void }[] = []
  let all = 0
  const isFree = (key: string) => all < total && (running.get(key) ?? 0) < each
  const take = (key: string) => {
    all += 1
    running.set(key, (running.get(key) ?? 0) + 1)
  }
  const release = (key: string) => {
    all -= 1
    const left = (running.get(key) ?? 1) - 1
    if (left === 0) running.delete(key)
    else running.set(key, left)
    queue = queue.filter(one => {
      if (!isFree(one.key)) return true
      take(one.key)
      one.start()
      return false
    })
  }
  const wait = async (key: string, signal: AbortSignal): Promise<void> => {
    if (isFree(key)) return take(key)
    if (queue.filter(one => one.key === key).length >= waiting)
      throw fail('busy', `more than ${waiting} requests of this machine wait`, 'Try again.')
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const entry = { key, start: resolve }
    queue.push(entry)
    const leave = () => {
      if (!queue.includes(entry)) return
      queue = queue.filter(one => one !== entry)
      reject(fail('cancelled', 'waiting for another request of this machine: cancelled'))
    }
    signal.addEventListener('abort', leave, { once: true })
    try {
      await promise
    } finally {
      signal.removeEventListener('abort', leave)
    }
  }
  return async <T>(key: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> => {
    await wait(key, signal)
    try {
      return await work()
    } finally {
      release(key)
    }
  }
}
