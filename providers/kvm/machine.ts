/** What one machine consists of in libvirt, and how it is put together around its disk. */
import { statSync } from 'node:fs'
import type { Run } from '../../src/exec.ts'
import { freePort, freshMac, withFile } from './host.ts'
import { isSession, type KvmSettings } from './settings.ts'
import type { Virsh } from './virsh.ts'
import { domainXml, nvramTemplate, withNvram } from './xml.ts'

/**
 * Our machines' volumes in the pool. The console is a log that libvirt writes; what it rotates is `….console.log.0` and so on.
 * Only a machine with UEFI has an nvram: the firmware's variables.
 */
export const volumesOf = (vmId: string) => ({
  disk: `${vmId}.qcow2`,
  nvram: `${vmId}.nvram`,
  seed: `${vmId}.seed.iso`,
  console: `${vmId}.console.log`,
})
const VOLUME = /\.(?:qcow2|nvram|seed\.iso|console\.log(?:\.\d+)?)$/
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
  run: Run,
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
  if (firmware === 'uefi') await bringNvram(run, virsh, home, settings, machine.vmId, path(volumes.nvram))
}

/**
 * libvirt chooses the firmware when a machine is defined, and would keep its variables in the format of their template.
 * Where that is not qcow2, which a checkpoint needs, they are made here: libvirt 11.3 does not convert them.
 */
const bringNvram = async (
  run: Run,
  virsh: Virsh,
  home: string,
  { pool }: KvmSettings,
  vmId: string,
  path: string,
): Promise<void> => {
  const chosen = await virsh.one(['dumpxml', vmId, '--inactive'])
  const template = nvramTemplate(chosen)
  if (template === null) return
  const { nvram } = volumesOf(vmId)
  await withFile(home, '', async file => {
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', template, file])
    await virsh.all([
      ['vol-create-as', pool, nvram, `${statSync(file).size}B`, '--format', 'raw'],
      ['vol-upload', '--pool', pool, nvram, file],
    ])
  })
  await withFile(home, withNvram(chosen, path), file => virsh.one(['define', file]))
}
