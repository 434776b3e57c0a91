/** Each promise can be broken: a provider that breaks one is found out, by that promise. */
import { expect, test } from 'vitest'
import type { Provider } from '../../providers/provider.ts'
import { newVmId } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import { type BenchTools, openBench } from '../../src/selftest/bench.ts'
import { promises } from '../../src/selftest/promises.ts'
import { runPromises } from '../../src/selftest/run.ts'
import { openSyntheticBench, syntheticOptions } from '../support/synthetic-bench.ts'

const { cpus, memoryMiB } = syntheticOptions('')
const GIB = 1024 ** 3
const CONSOLE = 'login:'

/** Synthetic, with what it lacks. */
const whole = (provider: Provider): Provider => ({
  ...provider,
  usage: async () =>
    new Map(
      await Promise.all(
        (await provider.listVms()).map(async ({ vmId, status }) => {
          const isRunning = status === 'running'
          const size = { cpus, memoryBytes: memoryMiB * 1024 ** 2, diskBytes: GIB }
          const used = { memoryUsedBytes: isRunning ? GIB : 0, cpuSeconds: isRunning ? 1 : null }
          return [vmId, { ...size, ...used }] as const
        }),
      ),
    ),
  capacity: async () => ({
    cpus: 2,
    memoryBytes: { total: 2 * GIB, available: GIB },
    diskBytes: { total: GIB, available: GIB },
  }),
  consoleTail: async () => [CONSOLE],
})

type Script = BenchTools['script']
const brokenBy = async (
  breakIt: (provider: Provider) => Partial<Provider>,
  scriptOf: (script: Script) => Script = script => script,
): Promise<string[]> => {
  const { close, ...tools } = await openSyntheticBench(whole)
  const changed = (provider: Provider): Provider => ({ ...provider, ...breakIt(provider) })
  let count = 0
  const newMachine = (ticket: string) => {
    count += 1
    return newVmId(ticket, String(count).padStart(8, '0'))
  }
  const both = { provider: changed(tools.provider), otherHome: changed(tools.otherHome) }
  const broken = { ...tools, ...both, script: scriptOf(tools.script), newMachine }
  const bench = openBench({ name: 'synthetic', live: true }, broken, 2)
  const signal = new AbortController().signal
  const limits = { signal, deadlineMs: 60_000, abort: () => {} }
  const results = await runPromises(promises, bench, { begin: () => {}, end: () => {} }, limits)
  for (const { vmId } of await tools.provider.listVms()) await tools.provider.deleteVm(vmId)
  await close()
  expect(results.filter(({ result, why }) => (result === 'ok') !== (why === null))).toEqual([])
  return results.filter(({ result }) => result === 'failed').map(({ name }) => name)
}

test('a provider that keeps all of them breaks none', async () => expect(await brokenBy(() => ({}))).toEqual([]))

test.for<[string, (provider: Provider) => Partial<Provider>, string]>([
  ['a wrong name', () => ({ name: 'other' }), 'it is available'],
  ['a wrong `live`', () => ({ liveCheckpoints: undefined as never }), 'it is available'],
  [
    'a stop of nothing that succeeds',
    provider => ({ stopVm: id => (id.includes('-99-') ? Promise.resolve() : provider.stopVm(id)) }),
    'a machine that does not exist',
  ],
  [
    'machines that share their files',
    provider => {
      let first: string | null = null
      let before: Promise<unknown> = Promise.resolve()
      return {
        createVm: (ticket, image, options) => {
          const vmId = first ?? options.vmId
          first = vmId
          // One after the other: nobody promises two creates of one machine at the same time.
          const made = before.then(() => provider.createVm(ticket, image, { ...options, vmId }))
          before = made
          return made
        },
      }
    },
    'machines are created',
  ],
  [
    'a second create that fails',
    provider => {
      const made = new Set<string>()
      return {
        createVm: async (ticket, image, options) => {
          if (made.has(options.vmId)) throw fail('already-exists', 'it is there')
          made.add(options.vmId)
          return provider.createVm(ticket, image, options)
        },
      }
    },
    'creating a machine that exists',
  ],
  [
    'a list without tickets',
    provider => ({ listVms: async () => (await provider.listVms()).map(vm => ({ ...vm, ticket: null })) }),
    'all machines are listed',
  ],
  ["a list of other homes' machines", () => ({ listForeign: async () => [] }), 'a machine of another home is reported'],
  [
    'a list with the newest checkpoint first',
    provider => ({ listCheckpoints: async id => (await provider.listCheckpoints(id)).reverse() }),
    'a checkpoint restores the disk',
  ],
  [
    'a restore with memory that leaves the machine off',
    provider => {
      let restores = 0
      return {
        memoryCheckpoints: true,
        restore: async (id, name, options) => {
          await provider.restore(id, name, options)
          restores += 1
          if (restores > 2) await provider.stopVm(id)
        },
      }
    },
    'a restore of a checkpoint with memory',
  ],
  [
    'a restore without memory that goes on',
    provider => ({ restore: (id, name) => provider.restore(id, name) }),
    'a restore without memory',
  ],
  [
    'a restore that leaves every machine running',
    provider => ({
      restore: async (id, name, options) => {
        await provider.restore(id, name, options)
        if (options?.cold !== true) await provider.startVm(id)
      },
    }),
    'a checkpoint of a stopped machine',
  ],
  ['a restore that does nothing', () => ({ restore: async () => {} }), 'a checkpoint restores the disk'],
  ['a checkpoint that stays', () => ({ deleteCheckpoint: async () => {} }), 'a checkpoint can be deleted'],
  [
    'forks of another moment',
    provider => ({
      fork: async (id, name, targets) => {
        await provider.runInGuest?.(id, 'echo another > "$HOME/state"')
        await provider.fork?.(id, name, targets)
      },
    }),
    'forks have the state',
  ],
  [
    'forks of the present state where a checkpoint was asked for',
    provider => ({
      fork: async (id, name, targets) => provider.fork?.(id, name === 'another' ? null : name, targets),
    }),
    'forks have the state',
  ],
  [
    'forks without their ticket',
    provider => ({
      fork: async (id, name, targets) =>
        provider.fork?.(
          id,
          name,
          targets.map(target => ({ ...target, ticket: null })),
        ),
    }),
    'forks have the state',
  ],
  [
    'a fork that stops the machine',
    provider => ({
      fork: async (id, name, targets) => {
        await provider.fork?.(id, name, targets)
        await provider.stopVm(id)
      },
    }),
    'forks have the state',
  ],
  [
    'a fork that fails and leaves machines',
    provider => ({
      fork: async (id, name, targets) => {
        if (name === 'nowhere') await provider.fork?.(id, null, targets)
        return provider.fork?.(id, name, targets)
      },
    }),
    'forks have the state',
  ],
  ['a stop that does nothing', () => ({ stopVm: async () => {} }), 'stopping keeps everything'],
  ['a save that does nothing', () => ({ save: async () => {} }), 'a machine whose memory is saved is off'],
  ['usage of nothing', () => ({ usage: async () => new Map() }), 'the usage of machines'],
  [
    'more available than there is',
    () => ({
      capacity: async () => ({
        cpus: 1,
        memoryBytes: { total: 1, available: 2 },
        diskBytes: { total: 1, available: 1 },
      }),
    }),
    'the capacity of their host',
  ],
  ['a console that moves the cursor', () => ({ consoleTail: async () => ['\x1b[2J'] }), 'the console of a stopped'],
  ['an endless console', () => ({ consoleTail: async () => Array(21).fill('x') }), 'the console of a stopped'],
  [
    'any name is deleted',
    provider => ({ deleteVm: id => provider.deleteVm(id).catch(() => {}) }),
    'a name that is not',
  ],
  ['a delete that does nothing', () => ({ deleteVm: async () => {} }), 'deleting removes everything'],
  [
    'a disk that stays',
    provider => ({
      leftovers: async () => {
        const left = await provider.leftovers?.()
        return [...(left ?? []), { vmId: 'as-selftest-1-00000001', hasDisk: true, bytes: 1 }]
      },
    }),
    'a deleted machine leaves',
  ],
])('%s', async ([, breakIt, promise]) => {
  expect((await brokenBy(breakIt)).filter(name => name.startsWith(promise))).toHaveLength(1)
})

test('a restore that boots in place of the memory is found out', async () => {
  let boots = 0
  const broken = await brokenBy(
    provider => ({
      memoryCheckpoints: true,
      restore: async (id, name, options) => {
        boots += 1
        await provider.restore(id, name, options)
      },
    }),
    script => async (id, text) => (text.includes('boot_id') ? String(boots) : script(id, text)),
  )
  expect(broken).toEqual(['a restore of a checkpoint with memory goes on with it, and boots nothing'])
})

test('a provider that takes every machine for its own touches those of another home', async () => {
  const home = { of: null as Provider | null }
  const broken = await brokenBy(provider => {
    home.of ??= provider
    return home.of === provider ? {} : home.of
  })
  expect(broken).toContain('a machine of another home is not listed, and never touched')
})
