/** What our machines need on the host: a storage pool, created if missing, and ports. The network is in network.ts. */
import { randomBytes, randomInt } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { allow, fail, isFailure } from '../../src/errors.ts'
import type { Context } from './context.ts'
import { isActive, type Pool, parsePool } from './parse.ts'
import { isSession } from './settings.ts'
import type { Command } from './virsh.ts'

/** Copying an image into the pool takes a minute or two; the pool cannot be refreshed meanwhile. */
const REFRESH_DEADLINE_MS = 5 * 60_000
const POLL_MS = 250

/** Calls `use` with the path of a temporary file: virsh reads definitions only from files. */
export const withFile = async <T>(
  { home }: Pick<Context, 'home'>,
  content: string | Buffer,
  use: (path: string) => Promise<T>,
): Promise<T> => {
  const root = join(home, 'kvm')
  mkdirSync(root, { recursive: true, mode: 0o700 })
  const folder = mkdtempSync(join(root, 'tmp-'))
  try {
    const path = join(folder, 'file')
    writeFileSync(path, content, { mode: 0o600 })
    return await use(path)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

// ── Pool ──

/** libvirt's figures of a pool are as old as its last refresh. */
export const poolCommands = ({ kvmPool }: Context['settings']): Command[] => [
  ['pool-refresh', kvmPool],
  ['pool-dumpxml', kvmPool],
]

/** Creates the pool if it is missing, starts it if it is inactive, and returns its present figures. */
export const ensurePool = async (context: Context): Promise<Pool> => {
  const { virsh, home, settings } = context
  const { kvmPool } = settings
  const info = await virsh.run(['pool-info', kvmPool]).catch(allow('not-configured'))
  // Another agent-swarm process may do the same at this moment.
  if (info === undefined) {
    const target = isSession(settings) ? join(home, 'kvm', 'pool') : `/var/lib/libvirt/${kvmPool}`
    await virsh.run(['pool-define-as', kvmPool, 'dir', '--target', target]).catch(allow('already-exists'))
    await virsh.run(['pool-build', kvmPool])
  }
  if (!isActive(info ?? '')) {
    await virsh.run(['pool-start', kvmPool]).catch(allow('already-running'))
    await virsh.run(['pool-autostart', kvmPool])
  }
  await refreshPool(context)
  const pool = parsePool(await virsh.run(['pool-dumpxml', kvmPool]))
  if (pool === null)
    throw fail('unsupported', `the pool ${kvmPool} is not a folder`, 'Name a pool of type dir: AGENT_SWARM_KVM_POOL.')
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
