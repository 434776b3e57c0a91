/** What the host must have for our machines: a pool, a network, and a domain type that boots. Each is made or found once. */
import { randomBytes, randomInt } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { allow, fail, isFailure } from '../../src/errors.ts'
import { isSession, type KvmSettings } from './settings.ts'
import { parsePool, type Virsh } from './virsh.ts'
import { networkXml, probeXml } from './xml.ts'

/** Milliseconds for a guest without a disk to come to its end. A processor that works needs a tenth of it. */
const PROBE_MS = 10_000
/** An image that is copied into the pool takes a minute or two. */
const REFRESH_MS = 5 * 60_000

/** Gives `work` the path of a file with `text`: virsh reads definitions from files alone. */
export const withFile = async <T>(
  home: string,
  text: string | Buffer,
  work: (path: string) => Promise<T>,
): Promise<T> => {
  const root = join(home, 'kvm')
  mkdirSync(root, { recursive: true, mode: 0o700 })
  const folder = mkdtempSync(join(root, 'tmp-'))
  try {
    const path = join(folder, 'file')
    writeFileSync(path, text, { mode: 0o600 })
    return await work(path)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Makes the pool where it is not there, starts it where it is not running, and tells of it as it is now. */
export const ensurePool = async (virsh: Virsh, home: string, settings: KvmSettings) => {
  const { pool } = settings
  const found = await virsh.one(['pool-info', pool]).catch(allow('not-configured'))
  if (found === undefined) {
    const target = isSession(settings) ? join(home, 'kvm', 'pool') : `/var/lib/libvirt/${pool}`
    await virsh.one(['pool-define-as', pool, 'dir', '--target', target]).catch(ignoreExisting)
    await virsh.one(['pool-build', pool])
  }
  if (!/^State:\s+running/m.test(found ?? '')) {
    await virsh.one(['pool-start', pool]).catch(ignoreActive)
    await virsh.one(['pool-autostart', pool])
  }
  await refreshPool(virsh, pool)
  const there = parsePool(await virsh.one(['pool-dumpxml', pool]))
  if (there === null)
    throw fail('unsupported', `the pool ${pool} is no folder`, 'Name one of type dir: AGENT_SWARM_KVM_POOL.')
  return there
}

/** libvirt knows a pool's volumes and bytes as they were when it was read last, and reads none that is being written to. */
export const refreshPool = async (virsh: Virsh, pool: string): Promise<void> => {
  for (const until = performance.now() + REFRESH_MS; ; await delay(250)) {
    try {
      await virsh.one(['pool-refresh', pool])
      return
    } catch (error) {
      if (!isFailure(error) || error.failure.kind !== 'busy' || performance.now() > until) throw error
    }
  }
}

const ignoreExisting = (error: unknown) => {
  // Another process of ours made it in the meantime.
  if (!isFailure(error) || !/already exists|is already defined/.test(error.failure.message)) throw error
}
const ignoreActive = (error: unknown) => {
  if (!isFailure(error) || !/already active|network is already active/.test(error.failure.message)) throw error
}

/** Private ranges that are tried in turn: one that the host uses already is refused by libvirt. */
const SUBNETS = ['192.168.177', '192.168.178', '10.177.0', '172.27.77']

/** In what `net-info` said. */
export const isActive = (text: string): boolean => /^Active:\s+yes/m.test(text)

/** Nothing where machines bring their own, in a session. */
export const ensureNetwork = async (virsh: Virsh, home: string, settings: KvmSettings): Promise<void> => {
  if (isSession(settings)) return
  const { network } = settings
  const found = await virsh.one(['net-info', network]).catch(allow('not-configured'))
  if (found !== undefined) {
    if (!isActive(found)) await virsh.one(['net-start', network]).catch(ignoreActive)
    return
  }
  let last: unknown
  for (const [at, subnet] of SUBNETS.entries()) {
    // At most 15 characters for the kernel.
    const bridge = `as${randomBytes(3).toString('hex')}`
    try {
      await withFile(home, networkXml(network, bridge, subnet), path => virsh.one(['net-define', path])).catch(
        ignoreExisting,
      )
      await virsh.one(['net-start', network]).catch(ignoreActive)
      await virsh.one(['net-autostart', network])
      return
    } catch (error) {
      last = error
      if (at < SUBNETS.length - 1) await virsh.one(['net-undefine', network]).catch(() => {})
    }
  }
  throw last
}

/** `kvm` when a guest really boots with it; remembered until the host boots or what `version` says of libvirt and QEMU changes. */
export const domainTypeHere = async (
  virsh: Virsh,
  home: string,
  settings: KvmSettings,
  version: string,
): Promise<'kvm' | 'qemu'> => {
  if (settings.domainType !== 'auto') return settings.domainType
  const boot = existsSync('/proc/sys/kernel/random/boot_id')
    ? readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    : ''
  const file = join(home, 'kvm', 'domain-type.json')
  const known = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null
  // The version is known already; asking for capabilities is not cheap.
  const key = `${settings.uri} ${boot} ${version}`
  if (known?.key === key) return known.type
  const type = (await bootsWithKvm(virsh, home)) ? 'kvm' : 'qemu'
  mkdirSync(join(home, 'kvm'), { recursive: true, mode: 0o700 })
  writeFileSync(file, JSON.stringify({ key, type }))
  return type
}

const bootsWithKvm = async (virsh: Virsh, home: string): Promise<boolean> => {
  const answers = await virsh.one(['domcapabilities', '--virttype', 'kvm'], { deadline: 180_000 }).catch(() => null)
  if (answers === null) return false
  const name = `as-probe-${randomBytes(4).toString('hex')}`
  try {
    await withFile(home, probeXml(name), path => virsh.one(['create', path], { deadline: 180_000 }))
    for (const until = performance.now() + PROBE_MS; performance.now() < until; await delay(100)) {
      if ((await virsh.one(['domstate', name]).catch(() => null)) === null) return true
    }
    return false
  } catch {
    return false
  } finally {
    await virsh.one(['destroy', name]).catch(() => {})
  }
}

/** Below those that systems give out by themselves. */
const PORTS = { from: 20_000, to: 29_999 }

export const isFreePort = (port: number): Promise<boolean> =>
  new Promise(done => {
    const server = createServer()
    server.once('error', () => done(false))
    server.listen(port, '127.0.0.1', () => server.close(() => done(true)))
  })

/** A port of this host's loopback that nobody listens on now. At random: machines that are made at once do not meet. */
export const freePort = async (): Promise<number> => {
  for (let tries = 0; tries < 100; tries += 1) {
    const port = randomInt(PORTS.from, PORTS.to + 1)
    if (await isFreePort(port)) return port
  }
  throw fail('busy', `no port of 127.0.0.1 between ${PORTS.from} and ${PORTS.to} is free`)
}

/** In QEMU's own range. Fresh for every machine: a used one finds the dead guest's lease. */
export const freshMac = () => ['52', '54', '00', ...(randomBytes(3).toString('hex').match(/../g) ?? [])].join(':')
