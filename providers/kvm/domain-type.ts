/** Whether machines use hardware virtualization (`kvm`) or emulation (`qemu`). A device node proves nothing; a boot does. */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { allow, failureOf } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files.ts'
import type { Context } from './context.ts'
import { withFile } from './host.ts'
import { probeXml } from './libvirt-xml.ts'
import { parseMemoryInUse, parseVersions } from './parse.ts'

export type DomainType = 'kvm' | 'qemu'

/** The test guest ends within a tenth of this on a processor that works. */
const PROBE_DEADLINE_MS = 10_000
/** libvirt's own first look at a /dev/kvm that does not work stalls for 95 s. */
const CAPABILITIES_DEADLINE_MS = 180_000
const POLL_MS = 100
const BOOT_ID = '/proc/sys/kernel/random/boot_id'

const cacheFile = ({ home }: Context) => join(home, 'kvm', 'domain-type.json')
const cacheKey = ({ settings }: Context, versions: string): string => {
  const boot = existsSync(BOOT_ID) ? readFileSync(BOOT_ID, 'utf8').trim() : ''
  return `${settings.kvmUri} ${boot} ${versions}`
}

/** What was found before, with its file; null when nothing is remembered for these versions since the host booted. */
export const rememberedType = (context: Context, versions: string): { type: DomainType; file: string } | null => {
  const file = cacheFile(context)
  const known = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null
  return known?.key === cacheKey(context, versions) ? { type: known.type, file } : null
}

/** `versions`: of libvirt and QEMU. A result is remembered until they change or the host boots. */
export const findDomainType = async (context: Context, versions: string): Promise<DomainType> => {
  const { settings } = context
  if (settings.kvmDomainType !== 'auto') return settings.kvmDomainType
  const known = rememberedType(context, versions)
  if (known !== null) return known.type
  const type = (await proveKvm(context)).boots ? 'kvm' : 'qemu'
  writeFileAtomic(cacheFile(context), JSON.stringify({ key: cacheKey(context, versions), type }))
  return type
}

/** Whether machines run without the help of the host's processors. */
export const isEmulated = async (context: Context): Promise<boolean> => {
  const { all } = parseVersions(await context.virsh.run(['version', '--daemon']))
  return (await findDomainType(context, all)) === 'qemu'
}

/** How much memory of the running machine a checkpoint writes, of an answer with `domstats --balloon`. Asks nobody. */
export const memoryInUse = (context: Context, text: string, id: string): number | null => {
  const { kvmDomainType } = context.settings
  const file = cacheFile(context)
  // The type of the machines that were made last.
  const found =
    kvmDomainType === 'auto' && existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).type : kvmDomainType
  return parseMemoryInUse(text, id, found === 'qemu' ? Date.now() / 1000 : null)
}

/** `why`: a sentence without a full stop. */
export type BootProof = { boots: true } | { boots: false; why: string }

const not = (error: unknown, doing: string): BootProof => ({ boots: false, why: failureOf(error, doing).message })

/** Boots a test guest with the help of the processors, now. `cleanUp` removes it, also when the commands of `context` are cancelled. */
export const proveKvm = async (context: Context, cleanUp: Context = context): Promise<BootProof> => {
  const { virsh } = context
  const deadline = CAPABILITIES_DEADLINE_MS
  const name = `as-probe-${randomBytes(4).toString('hex')}`
  const doing = 'starting a test guest'
  try {
    await virsh.run(['domcapabilities', '--virttype', 'kvm'], { deadline, doing: 'asking libvirt for KVM' })
  } catch (error) {
    return not(error, doing)
  }
  try {
    await withFile(context, probeXml(name), path => virsh.run(['create', path], { deadline, doing }))
    const end = performance.now() + PROBE_DEADLINE_MS
    while (performance.now() < end) {
      if ((await virsh.run(['domstate', name]).catch(allow('no-such-vm'))) === undefined) return { boots: true }
      await delay(POLL_MS)
    }
    return {
      boots: false,
      why: `the BIOS of a test guest did not come to its end within ${PROBE_DEADLINE_MS / 1000} s`,
    }
  } catch (error) {
    return not(error, doing)
  } finally {
    await cleanUp.virsh.run(['destroy', name]).catch(() => {})
  }
}
