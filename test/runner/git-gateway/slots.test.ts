import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openSlots } from '../../../src/runner/git-gateway/slots.ts'

const openStage = () => {
  const slot = openSlots({ total: 3, each: 2, waiting: 1 })
  const started: string[] = []
  const start = (name: string, signal = new AbortController().signal) => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const done = slot(name[0] ?? '', signal, () => {
      started.push(name)
      return promise
    })
    done.catch(() => {})
    return { end: resolve, done }
  }
  return { start, started }
}

test('one machine has its share and waits for itself; another goes on', async () => {
  const { start, started } = openStage()
  const [a1] = [start('a1'), start('a2'), start('a3'), start('b1')]
  await turn()
  expect(started).toEqual(['a1', 'a2', 'b1'])
  await expect(start('a4').done).rejects.toThrow('more than 1 requests of this machine wait')
  a1?.end()
  await turn()
  expect(started).toEqual(['a1', 'a2', 'b1', 'a3'])
})

test('whoever leaves while waiting takes no slot', async () => {
  const { start, started } = openStage()
  const gone = new AbortController()
  const [a1] = [start('a1'), start('a2')]
  const a3 = start('a3', gone.signal)
  gone.abort()
  await expect(a3.done).rejects.toThrow('cancelled')
  start('a4')
  a1?.end()
  await turn()
  expect(started).toEqual(['a1', 'a2', 'a4'])
})
