import { afterEach, beforeEach, expect, test } from 'vitest'
import type { BaseManifest, BuildBase, Provider } from '../../providers/provider.ts'
import { fail } from '../../src/errors.ts'
import { buildBaseImage } from '../../src/runner/base-build.ts'
import { openRunnerContext } from '../../src/runner/context.ts'
import { recoverAll } from '../../src/runner/recovery.ts'
import { configFor, openTestContext, type TestContext, wrapProviders } from '../support/context.ts'

const manifest: BaseManifest = {
  ...{
    name: 'node-24',
    provider: 'synthetic',
    sha256: '',
    source: 'a file',
    contents: [],
    createdAt: '',
    sizeBytes: 1,
  },
}
const request: Parameters<typeof buildBaseImage>[2] = {
  name: 'node-24',
  from: { kind: 'file', path: '/image' },
  signal: new AbortController().signal,
  onPhase: () => {},
  by: { via: 'cli', who: 'tester' },
}

let it: TestContext
/** Runs in the middle of a build, whose machine exists by then. */
let inBuild: (vmId: string) => Promise<void>
const building = (provider: Provider): Provider => ({
  ...provider,
  buildBase: async ({ newMachine }: BuildBase) => {
    const vmId = newMachine()
    await provider.createVm(null, 'none', {
      ...{ vmId, cpus: 1, memoryMiB: 256, diskGiB: 2, publicKey: '', hostKey: { privateKey: '', publicKey: '' } },
    })
    await inBuild(vmId)
    return manifest
  },
})
beforeEach(async () => {
  it = await openTestContext()
  wrapProviders(it.context, building)
})
afterEach(() => it.close())

const build = async () => buildBaseImage(it.context, await it.provider(), request)

test('its machine is journalled and locked while the build runs, and gone afterwards', async () => {
  inBuild = async vmId => {
    expect(vmId).toMatch(/^as-base-[0-9a-f]{8}$/)
    expect(it.context.registry.machines()).toEqual([{ vmId, provider: 'synthetic', purpose: 'base' }])
    expect(await it.markedTicket(vmId)).toBeNull()
    // The recovery of another process leaves a build alone that is running.
    expect(await recoverAll(it.context)).toEqual([])
    expect(it.machines()).toEqual([vmId])
  }
  expect(await build()).toEqual(manifest)
  expect(it.context.registry.machines()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('a failed build leaves no machine', async () => {
  inBuild = async () => {
    throw fail('disk-full', 'no space')
  }
  await expect(build()).rejects.toThrow('no space')
  expect(it.context.registry.machines()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('the machine of a build that was killed is removed by the next start', async () => {
  const other = openRunnerContext(await configFor(it.home))
  wrapProviders(other, building)
  other.run = it.context.run
  // Dies in the build: nothing is cleaned up, and its locks are free.
  inBuild = async () => other.registry.close()
  const provider = await other.provider('synthetic')
  await expect(
    buildBaseImage(other, { ...provider, deleteVm: async () => Promise.reject(new Error('dead')) }, request),
  ).rejects.toThrow()
  expect(it.machines()).toHaveLength(1)
  expect(await recoverAll(it.context)).toEqual([])
  expect(it.machines()).toEqual([])
  expect(it.context.registry.machines()).toEqual([])
})

test('a machine that cannot be removed is reported, and removed at a later start', async () => {
  const [vmId, at] = ['as-base-00000001', '2026-11-24T10:00:00.000Z']
  it.context.registry.beginMachine(
    { vmId, provider: 'synthetic', purpose: 'base' },
    { kind: 'build-base', by: request.by, at },
  )
  const { provider } = it.context
  it.context.provider = async () => {
    throw fail('hypervisor-unreachable', 'no answer')
  }
  expect(await recoverAll(it.context)).toMatchObject([{ ticket: null, failure: { kind: 'hypervisor-unreachable' } }])
  it.context.provider = provider
  expect(await recoverAll(it.context)).toEqual([])
  expect(it.context.registry.machines()).toEqual([])
})

test('a machine of the pool is never removed by the recovery', async () => {
  const machine = { vmId: 'as-pool-00000001', provider: 'synthetic', purpose: 'pool' } as const
  it.context.registry.beginMachine(machine, { kind: 'build-base', by: request.by, at: '' })
  await recoverAll(it.context)
  expect(it.context.registry.machines()).toEqual([machine])
})
