import { afterEach, beforeEach, expect, test } from 'vitest'
import { providers } from '../../providers/index.ts'
import type { Capacity, Provider } from '../../providers/provider.ts'
import { fail } from '../../src/errors.ts'
import { openOffer } from '../../src/runner/offer.ts'
import type { Action } from '../../src/schema/action.ts'
import { openTestContext, type TestContext } from '../support/context.ts'

const GIB = 1024 ** 3
const capacity: Capacity = {
  cpus: 8,
  memoryBytes: { total: 32 * GIB, available: 10 * GIB },
  diskBytes: { total: 500 * GIB, available: 200 * GIB },
}

let it: TestContext
let calls: number
/** What the hypervisor answers; null: it does not. */
let answer: Partial<Provider> | null
beforeEach(async () => {
  it = await openTestContext()
  calls = 0
  answer = {
    available: async () => ({ available: true }),
    listBaseImages: async () => ['agent-swarm-base', 'node-24', 'Not A Name'],
    capacity: async () => capacity,
  }
  const provider = async (name: string) => {
    calls += 1
    if (answer === null) throw fail('hypervisor-unreachable', 'no answer')
    return { ...answer, name } as Provider
  }
  it.context.provider = provider
  it.context.chosenProvider = () => provider('kvm')
})
afterEach(() => it.close())

test('it has providers with their images, defaults, limits and room', async () => {
  const offer = await openOffer(it.context, new Set()).read()
  expect(offer).toMatchObject({
    defaults: { provider: 'kvm', baseImage: 'agent-swarm-base', size: it.context.config.size },
    limits: it.context.config.limits,
    // Without the reserve: a twentieth of 32 GiB, and 10 GiB of disk.
    room: { free: { cpus: 64, memoryMiB: 8601, diskGiB: 190 }, empty: { cpus: 64, memoryMiB: 31_129, diskGiB: 490 } },
  })
  expect(offer.providers.find(({ name }) => name === 'kvm')).toMatchObject({
    label: expect.any(String),
    live: true,
    images: ['agent-swarm-base', 'node-24'],
  })
  // Those for other platforms are not offered.
  const parts = providers
    .filter(({ platform }) => platform === null || platform === process.platform)
    .map(({ name }) => name)
  expect(offer.providers.map(({ name }) => name)).toEqual(parts)
})

test('when the host does not answer, images and room are unknown, and no provider is available', async () => {
  answer = null
  const offer = await openOffer(it.context, new Set()).read()
  expect(offer).toMatchObject({ defaults: { provider: null }, room: null })
  expect(offer.providers.map(({ images }) => images)).toEqual(offer.providers.map(() => null))
})

test('an offer is reused until it is refreshed', async () => {
  const source = openOffer(it.context, new Set())
  await source.read()
  const first = calls
  await source.read()
  expect(calls).toBe(first)
  source.refresh()
  await source.read()
  expect(calls).toBe(2 * first)
})

test('machines that are being created take their memory from the free one', async () => {
  const running = new Set<Action>()
  const source = openOffer(it.context, running)
  const freeWith = async (...memoryMiB: number[]) => {
    running.clear()
    for (const [n, memory] of memoryMiB.entries())
      running.add({
        ...{ kind: 'create', ticket: `DROP-${n + 1}`, by: { via: 'cli', who: null }, replyTo: null },
        machine: { memoryMiB: memory },
      })
    return (await source.read()).room?.free.memoryMiB
  }
  expect(await freeWith(1024, 3 * 1024)).toBe(8601 - 4096)
  expect(await freeWith(100 * 1024)).toBe(0)
  expect(await freeWith()).toBe(8601)
})

test('memory that the host could not tell is unknown, not none', async () => {
  answer = { ...answer, capacity: async () => ({ ...capacity, memoryBytes: { total: 0, available: 0 } }) }
  expect((await openOffer(it.context, new Set()).read()).room).toBeNull()
})

test('a provider for another platform is not offered', async () => {
  answer = null
  it.context.platform = 'darwin'
  const names = (await openOffer(it.context, new Set()).read()).providers.map(({ name }) => name)
  expect(names).not.toContain('kvm')
  expect(names).toContain('synthetic')
})
