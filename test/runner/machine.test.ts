/** How long the steps of a machine may take, and how long its hypervisor may leave it between two states. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Provider } from '../../providers/provider.ts'
import { fail } from '../../src/errors.ts'
import { guestHash } from '../../src/runner/link/guest-files.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../support/context.ts'

const MINUTE_MS = 60_000

let it: TestContext
/** What the clock is ahead. */
let ahead: number
beforeEach(async () => {
  it = await openTestContext()
  ahead = 0
  const now = performance.now.bind(performance)
  vi.spyOn(performance, 'now').mockImplementation(() => now() + ahead)
})
afterEach(() => {
  vi.restoreAllMocks()
  it.close()
})
/** `change`: the provider's methods that behave in another way. */
const withProvider = (change: (provider: Provider) => Partial<Provider>) =>
  wrapProviders(it.context, provider => ({ ...provider, ...change(provider) }))

test('a create and a start that take longer than a hypervisor may report "creating" are done', async () => {
  const begun: string[] = []
  const slowly =
    <Arguments extends unknown[], Result>(name: string, work: (...words: Arguments) => Promise<Result>) =>
    async (...words: Arguments): Promise<Result> => {
      begun.push(name)
      ahead += 6 * MINUTE_MS
      return work(...words)
    }
  let looks = 0
  withProvider(provider => ({
    createVm: slowly('create', provider.createVm),
    startVm: slowly('start', provider.startVm),
    // It is still between two states after its create, for a moment.
    status: async id => {
      const status = await provider.status(id)
      if (!begun.includes('create') || begun.includes('start')) return status
      looks += 1
      return looks === 1 ? 'creating' : status
    },
  }))
  expect(await it.do(actions.create('DROP-1'))).toMatchObject({ result: 'done' })
  expect(begun).toEqual(['create', 'start'])
  expect(it.context.registry.environment('DROP-1')?.status).toBe('running')
})

test('a hypervisor that reports "creating" without an end is given up after five minutes', async () => {
  await it.do(actions.create('DROP-1'))
  const began = ahead
  withProvider(() => ({
    status: async () => {
      ahead += MINUTE_MS
      return 'creating'
    },
  }))
  expect(await it.do(actions.stop('DROP-1'))).toMatchObject({ result: 'failed', failure: { kind: 'timeout' } })
  expect((ahead - began) / MINUTE_MS).toBeLessThan(10)
})

test('a machine that ends after each start is given up, too', async () => {
  await it.do(actions.create('DROP-1'))
  await it.do(actions.stop('DROP-1'))
  let starts = 0
  withProvider(() => ({
    status: async () => 'stopped',
    startVm: async () => {
      starts += 1
      ahead += 2 * MINUTE_MS
    },
  }))
  expect(await it.do(actions.start('DROP-1'))).toMatchObject({ result: 'failed', failure: { kind: 'timeout' } })
  expect(starts).toBeGreaterThan(1)
  expect(starts).toBeLessThan(6)
})

test('that the keys of people could not be put in, or taken out, stands in the answer', async () => {
  withProvider(({ runInGuest: _, ...provider }) => ({
    ...provider,
    runInGuest: undefined,
    sshInfo: async () => ({ host: '127.0.0.1', port: 22, user: 'agent' }),
  }))
  it.context.config = { ...it.context.config, authorizedKeys: [] }
  const { run } = it.context
  it.context.run = async (program, argv, options) => {
    if (program !== 'ssh') return run(program, argv, options)
    if (argv.at(-1) === 'sh -s') throw fail('unknown', 'the disk of the machine is full')
    return { stdout: `${guestHash()}\n`, stderr: '', exitCode: 0, milliseconds: 0 }
  }
  const note =
    '. The keys of people (authorizedKeys) in it are those that it had before: the disk of the machine is full'
  expect(await it.do(actions.create('DROP-1'))).toMatchObject({
    result: 'done',
    summary: expect.stringContaining(note),
  })
  expect(await it.do({ ...actions.start('DROP-1'), kind: 'restart' })).toMatchObject({
    result: 'done',
    summary: expect.stringContaining(note),
  })
})
