/** What our machines need on the host: a storage pool, created if missing, and ports. The network is in network.ts. */
import { randomBytes, randomInt } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fail, isFailure, unless } from '../../src/errors.ts'
import type { Provider } from '../provider.ts'
import type { Context } from './context.ts'
import { USE_BIOS, whyNoUefi } from './explain.ts'
import { type Pool, parseNames, parsePool, parsePoolList, parsePools, parseVersions } from './parse.ts'
import { isSession } from './settings.ts'
import type { Command } from './virsh.ts'

/** Copying an image into the pool takes a minute or two; the pool cannot be refreshed meanwhile. */
const REFRESH_DEADLINE_MS = 5 * 60_000
const POLL_MS = 250

/** What a process that was killed left: no command reads its file for so long. It may hold a seed. Milliseconds. */
const LEFT_MS = 24 * 60 * 60_000
const removeLeft = (root: string): void => {
  for (const name of readdirSync(root).filter(each => each.startsWith('tmp-'))) {
    const folder = join(root, name)
    const { mtimeMs = Date.now() } = statSync(folder, { throwIfNoEntry: false }) ?? {}
    if (Date.now() - mtimeMs > LEFT_MS) rmSync(folder, { recursive: true, force: true })
  }
}

/** Calls `use` with the path of a temporary file: virsh reads definitions only from files. */
export const withFile = async <T>(
  { home }: Pick<Context, 'home'>,
  content: string | Buffer,
  use: (path: string) => Promise<T>,
): Promise<T> => {
  const root = join(home, 'kvm')
  mkdirSync(root, { recursive: true, mode: 0o700 })
  removeLeft(root)
  const folder = mkdtempSync(join(root, 'tmp-'))
  try {
    const path = join(folder, 'file')
    writeFileSync(path, content, { mode: 0o600 })
    return await use(path)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

// ── Whether it works here ──

/** The last command fails without a pool; these are virsh's own words. */
const NO_POOL = /^error: failed to get pool /m

/** One process. Each command asks another part of libvirt, which may have a daemon of its own. */
const checkHost = async ({ virsh, settings }: Context): Promise<void> => {
  const { kvmPool, kvmFirmware } = settings
  const doing = 'connecting to libvirt'
  const network: Command[] = isSession(settings) ? [] : [['net-list', '--all']]
  const { stdout, stderr } = await virsh.ask(
    [['version', '--daemon'], ...network, ['pool-list', '--all'], ['pool-dumpxml', kvmPool]],
    { deadline: 10_000, doing },
  )
  const errors = parsePoolList(stdout).has(kvmPool) ? stderr : (stderr.split(NO_POOL)[0] ?? '')
  if (/^error: /m.test(errors)) throw virsh.failed(doing, errors)
  requireFolder(parsePools(stdout).find(({ name }) => name === kvmPool))
  const noUefi = kvmFirmware === 'uefi' ? whyNoUefi(parseVersions(stdout).libvirt) : null
  if (noUefi !== null) throw fail('unsupported', noUefi, USE_BIOS)
}

/**
 * Whether a machine could be made, apart from its base image. A pool or a network that does not exist is made with the first one;
 * what is in the way of that, `checkPool` finds then, and `diagnose` before.
 */
export const available = async (context: Context): ReturnType<Provider['available']> => {
  const { platform, arch } = process
  if (platform !== 'linux' || arch !== 'x64')
    return {
      available: false,
      reason: `it makes x86-64 machines on Linux, and this is ${platform} on ${arch}.`,
      remedy: 'Run the runner on a host with Linux on x86-64.',
    }
  try {
    await checkHost(context)
    return { available: true }
  } catch (error) {
    if (!isFailure(error)) throw error
    const { message, remedy } = error.failure
    return { available: false, reason: `${message}.`, remedy }
  }
}

// ── Pool ──

/** What `parsePool` reads. */
const showPool = ({ kvmPool }: Context['settings']): Command[] => [
  ['pool-dumpxml', kvmPool],
  ['pool-list', '--all'],
]
/** libvirt's figures of a pool are as old as its last refresh. */
export const poolCommands = (settings: Context['settings']): Command[] => [
  ['pool-refresh', settings.kvmPool],
  ...showPool(settings),
]

/** Whether each pool of this libvirt is active. */
export const listPools = async ({ virsh }: Context) => parsePoolList(await virsh.run(['pool-list', '--all']))

/** The names of the pool's volumes; none without a pool. A pool that cannot be read is not an empty pool. */
export const listVolumes = async (context: Context): Promise<string[]> => {
  const { kvmPool } = context.settings
  const names = await context.virsh
    .run(['vol-list', kvmPool])
    .catch(unless(async () => !(await listPools(context)).has(kvmPool)))
  return parseNames(names ?? '')
}

export const poolFolder = ({ home, settings }: Context): string =>
  isSession(settings) ? join(home, 'kvm', 'pool') : `/var/lib/libvirt/${settings.kvmPool}`

const requireFolder = (pool: { name: string; folder: string | null } | undefined): void => {
  if (pool !== undefined && pool.folder === null)
    throw fail('unsupported', `the pool ${pool.name} is not a folder`, 'Name a pool of type dir: AGENT_SWARM_KVM_POOL.')
}

/** Fails when the pool cannot be used, or cannot be made. Changes nothing. */
export const checkPool = async (context: Context): Promise<void> => {
  const { virsh, settings } = context
  const { kvmPool } = settings
  const { stdout } = await virsh.ask([...(await listPools(context)).keys()].map(name => ['pool-dumpxml', name]))
  const pools = parsePools(stdout)
  const own = pools.find(({ name }) => name === kvmPool)
  requireFolder(own)
  const folder = poolFolder(context)
  const inTheWay = pools.find(pool => pool.folder === folder)
  if (own === undefined && inTheWay !== undefined)
    throw fail(
      'not-configured',
      `making the pool ${kvmPool}: the pool ${inTheWay.name} already has its folder ${folder}`,
      `Use that pool: AGENT_SWARM_KVM_POOL=${inTheWay.name}. Or remove it, which keeps its files: virsh -c ${settings.kvmUri} pool-destroy ${inTheWay.name}, then pool-undefine ${inTheWay.name}.`,
    )
}

const startPool = async (context: Context): Promise<void> => {
  const { virsh, settings } = context
  const { kvmPool } = settings
  const isActive = async () => (await listPools(context)).get(kvmPool) === 'active'
  const start = () => virsh.run(['pool-start', kvmPool]).catch(unless(isActive))
  await start().catch(async error => {
    // Its folder may be gone; if it is there, this changes nothing.
    await virsh.run(['pool-build', kvmPool]).catch(() => Promise.reject(error))
    await start()
  })
  await virsh.run(['pool-autostart', kvmPool])
}

/** Creates the pool if it is missing, starts it if it is inactive, and returns its present figures. */
export const ensurePool = async (context: Context): Promise<Pool> => {
  const { virsh, settings } = context
  const { kvmPool } = settings
  const pools = await listPools(context)
  if (!pools.has(kvmPool)) {
    await checkPool(context)
    // Another agent-swarm process may do the same at this moment.
    await virsh
      .run(['pool-define-as', kvmPool, 'dir', '--target', poolFolder(context)])
      .catch(unless(async () => (await listPools(context)).has(kvmPool)))
    await virsh
      .run(['pool-build', kvmPool])
      .catch(unless(async () => (await listPools(context)).get(kvmPool) === 'active'))
  }
  if (pools.get(kvmPool) !== 'active') await startPool(context)
  await refreshPool(context).catch(async error => {
    // libvirt stops a pool whose folder it cannot read any more.
    if ((await listPools(context)).get(kvmPool) === 'active') throw error
    await startPool(context)
  })
  const pool = parsePool(await virsh.all(showPool(settings)))
  if (pool === null) {
    await checkPool(context)
    throw fail(
      'unknown',
      `the pool ${kvmPool} does not start`,
      `See why: virsh -c ${settings.kvmUri} pool-info ${kvmPool}`,
    )
  }
  return pool
}

/** Makes libvirt read the pool's volumes again. Waits while one of them is being written. */
export const refreshPool = async ({ virsh, settings }: Context): Promise<void> => {
  const end = performance.now() + REFRESH_DEADLINE_MS
  while (true) {
    try {
      await virsh.run(['pool-refresh', settings.kvmPool])
      return
    } catch (error) {
      if (!isFailure(error) || error.failure.kind !== 'busy' || performance.now() > end) throw error
    }
    await delay(POLL_MS)
  }
}

// ── Ports and addresses ──

/** Below the ports that systems assign by themselves. */
const PORTS = { from: 20_000, to: 29_999 }
const MAX_TRIES = 100

export const isFreePort = (port: number): Promise<boolean> =>
  new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })

/** A port of 127.0.0.1 that is free now. Random, so that machines that are made at the same time get different ones. */
export const freePort = async (): Promise<number> => {
  for (let tries = 0; tries < MAX_TRIES; tries += 1) {
    const port = randomInt(PORTS.from, PORTS.to + 1)
    if (await isFreePort(port)) return port
  }
  throw fail('busy', `no port of 127.0.0.1 between ${PORTS.from} and ${PORTS.to} is free`)
}

/** In QEMU's own range. New for every machine: a reused MAC finds the lease of the machine that had it before. */
export const freshMac = () => ['52', '54', '00', ...(randomBytes(3).toString('hex').match(/../g) ?? [])].join(':')
