/** What one machine consists of in libvirt, and how it is put together around its disk. */

import { freePort, freshMac, withFile } from './host.ts'
import { isSession, type KvmSettings } from './settings.ts'
import type { Virsh } from './virsh.ts'
import { domainXml } from './xml.ts'

/** Our machines' volumes in the pool. The console is a log that libvirt writes; what it rotates is `….console.log.0` and so on. */
export const volumesOf = (vmId: string) => ({
  disk: `${vmId}.qcow2`,
  seed: `${vmId}.seed.iso`,
  console: `${vmId}.console.log`,
})
const VOLUME = /\.(?:qcow2|seed\.iso|console\.log(?:\.\d+)?)$/
/** The machine that a volume's name belongs to, whether or not it is one of ours; null for a base image's manifest and the like. */
export const machineOf = (volume: string): string | null => (VOLUME.test(volume) ? volume.replace(VOLUME, '') : null)

type Definition = {
  vmId: string
  ticket: string
  domainType: 'kvm' | 'qemu'
  cpus: number
  memoryMiB: number
  /** The seed's bytes. */
  seed: Buffer
  /** Where the pool's volumes lie. */
  folder: string
}

/** Makes what goes with the disk, which is there already, and defines the machine. In one process. */
export const defineMachine = async (
  virsh: Virsh,
  home: string,
  settings: KvmSettings,
  { seed, folder, ...machine }: Definition,
): Promise<void> => {
  const { pool, network, firmware } = settings
  const volumes = volumesOf(machine.vmId)
  const path = (volume: string) => `${folder}/${volume}`
  const text = domainXml({
    ...machine,
    firmware,
    mac: freshMac(),
    diskPath: path(volumes.disk),
    seedPath: path(volumes.seed),
    consolePath: path(volumes.console),
    reach: isSession(settings) ? { port: await freePort() } : { network },
  })
  await withFile(home, seed, seedFile =>
    withFile(home, text, textFile =>
      virsh.all([
        ['vol-create-as', pool, volumes.seed, `${seed.length}B`, '--format', 'raw'],
        // Made as a volume, so that it goes as one.
        ['vol-create-as', pool, volumes.console, '0B', '--format', 'raw'],
        ['vol-upload', '--pool', pool, volumes.seed, seedFile],
        ['define', textFile],
      ]),
    ),
  )
}
