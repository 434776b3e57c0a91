/** Whether machines use hardware virtualization (`kvm`) or emulation (`qemu`). A device node proves nothing; a boot does. */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { writeFileAtomic } from '../../src/files.ts'
import type { Context } from './context.ts'
import { withFile } from './host.ts'
import { probeXml } from './libvirt-xml.ts'
import { parseVersions } from './parse.ts'

export type DomainType = 'kvm' | 'qemu'

/** The test guest ends within a tenth of this on a processor that works. */
const PROBE_DEADLINE_MS = 10_000
/** libvirt's own first look at a /dev/kvm that does not work stalls for 95 s. */
const CAPABILITIES_DEADLINE_MS = 180_000
const POLL_MS = 100
const BOOT_ID = '/proc/sys/kernel/random/boot_id'

/** `versions`: of libvirt and QEMU. A result is remembered until they change or the host boots. */
export const findDomainType = async (context: Context, versions: string): Promise<DomainType> => {
  const { home, settings } = context
  if (settings.kvmDomainType !== 'auto') return settings.kvmDomainType
  const boot = existsSync(BOOT_ID) ? readFileSync(BOOT_ID, 'utf8').trim() : ''
  const key = `${settings.kvmUri} ${boot} ${versions}`
  const file = join(home, 'kvm', 'domain-type.json')
  const known = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null
  if (known?.key === key) return known.type
  const type = (await bootsWithKvm(context)) ? 'kvm' : 'qemu'
  writeFileAtomic(file, JSON.stringify({ key, type }))
  return type
}

/** Whether machines run without the help of the host's processors. */
export const isEmulated = async (context: Context): Promise<boolean> => {
  const { all } = parseVersions(await context.virsh.run(['version', '--daemon']))
  return (await findDomainType(context, all)) === 'qemu'
}

const bootsWithKvm = async (context: Context): Promise<boolean> => {
  const { virsh } = context
  const deadline = CAPABILITIES_DEADLINE_MS
  const capabilities = await virsh.run(['domcapabilities', '--virttype', 'kvm'], { deadline }).catch(() => null)
  if (capabilities === null) return false
  const name = `as-probe-${randomBytes(4).toString('hex')}`
  try {
    await withFile(context, probeXml(name), path => virsh.run(['create', path], { deadline }))
    const end = performance.now() + PROBE_DEADLINE_MS
    while (performance.now() < end) {
      if ((await virsh.run(['domstate', name]).catch(() => null)) === null) return true
      await delay(POLL_MS)
    }
    return false
  } catch {
    return false
  } finally {
    await virsh.run(['destroy', name]).catch(() => {})
  }
}
