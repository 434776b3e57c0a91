import { expect, test } from 'vitest'
import { openGate } from '../../src/runner/gate.ts'

test('who waits for a place may leave, and the next one gets it', async () => {
  const gate = openGate(1)
  const first = Promise.withResolvers<void>()
  const leaving = new AbortController()
  const ran: string[] = []
  const all = [
    gate(() => first.promise),
    gate(async () => void ran.push('left'), leaving.signal).catch(error => void ran.push(error.name)),
    gate(async () => void ran.push('next'), new AbortController().signal),
  ]
  leaving.abort()
  await all[1]
  expect(ran).toEqual(['AbortError'])
  first.resolve()
  await Promise.all(all)
  expect(ran).toEqual(['AbortError', 'next'])
})

test('who leaves when it has a place takes it from nobody', async () => {
  const gate = openGate(1)
  const first = Promise.withResolvers<void>()
  const second = Promise.withResolvers<void>()
  const leaving = new AbortController()
  const all = [
    gate(() => first.promise).then(() => leaving.abort()),
    gate(() => second.promise, leaving.signal),
    gate(async () => 'third'),
  ]
  first.resolve()
  await all[0]
  second.resolve()
  expect(await all[2]).toBe('third')
  await all[1]
  await expect(gate(async () => {}, leaving.signal)).rejects.toThrow('abort')
})
