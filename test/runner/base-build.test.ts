import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
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
    profile: 'minimal',
    contents: [],
    proven: [],
    unproven: [],
    homeId: null,
    createdAt: '',
    sizeBytes: 1,
  },
}
const request: Parameters<typeof buildBaseImage>[2] = {
  name: 'node-24',
  setup: { profile: 'minimal', extra: [] },
  wanted: { kind: 'file', path: '/image', sha256: null },
  signal: new AbortController().signal,
  onPhase: () => {},
  onBytes: () => {},
  onNote: () => {},
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

test('the machine that proves the image has a host key of its own, and neither key stays', async () => {
  const run = it.context.run
  let count = 0
  it.context.run = async (program, argv, options) => {
    const ran = await run(program, argv, options)
    if (program === 'ssh-keygen') writeFileSync(`${argv.at(-1)}.pub`, `ssh-ed25519 AAAA${++count} agent-swarm\n`)
    return ran
  }
  const keys: string[] = []
  const provider = await it.provider()
  const buildBase: Provider['buildBase'] = async request => {
    keys.push(request.guest.hostKey.publicKey, request.proofGuest.hostKey.publicKey)
    return manifest
  }
  await buildBaseImage(it.context, { ...provider, buildBase }, request)
  expect(new Set(keys).size).toBe(2)
  expect(readdirSync(join(it.home, 'ssh')).filter(name => name.startsWith('build-'))).toEqual([])
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

describe('an image that is downloaded', () => {
  const image = 'an image'
  const sha256 = createHash('sha256').update(image).digest('hex')
  const downloads = () => readdirSync(join(it.home, 'downloads'))
  const buildFrom = async (provider: (from: BuildBase['from']) => Promise<void>) => {
    const server = createServer((_, response) => void response.end(image))
    await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
    onTestFinished(() => void server.close())
    const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/noble.img`)
    wrapProviders(it.context, opened => ({
      ...opened,
      buildBase: async ({ from }: BuildBase) => {
        await provider(from)
        return manifest
      },
    }))
    return buildBaseImage(it.context, await it.provider(), { ...request, wanted: { kind: 'download', url, sha256 } })
  }
  const open = async (from: BuildBase['from']) => (from.kind === 'file' ? await from.open() : { path: '', source: '' })

  test('is there while the provider reads it, and removed once it is built', async () => {
    await buildFrom(async from => {
      const { path, source } = await open(from)
      expect(readFileSync(path, 'utf8')).toBe(image)
      expect(source).toMatch(/noble\.img \(sha256 [0-9a-f]{64}\)$/)
    })
    expect(downloads()).toEqual([])
  })

  test('is kept when the build fails, for the next one', async () => {
    const failing = buildFrom(async from => {
      await open(from)
      throw fail('disk-full', 'no space')
    })
    await expect(failing).rejects.toThrow('no space')
    expect(downloads()).toContain(`${sha256}.part`)
  })

  test('is not downloaded for a build that cannot begin', async () => {
    const failing = buildFrom(async () => {
      throw fail('already-exists', 'it exists')
    })
    await expect(failing).rejects.toThrow('it exists')
    expect(existsSync(join(it.home, 'downloads'))).toBe(false)
  })
})
