import type { Ticket } from '../../src/domain.ts'
import type { Context } from './context.ts'
import type { DomainType } from './domain-type.ts'
import { freePort, listVolumes, withFile } from './host.ts'
import { type Isolator, isolationOf } from './isolation.ts'
import { domainXml, nvramTemplate, withNvram } from './libvirt-xml.ts'
import type { Mark } from './marks.ts'
import { isSession } from './settings.ts'
import { makeVolume, uploadAs } from './volumes.ts'

/** libvirt writes the console's log, and rotates it to `….console.log.0` and so on. Only a machine with UEFI has an nvram. */
export const volumesOf = (vmId: string) => ({
  disk: `${vmId}.qcow2`,
  nvram: `${vmId}.nvram`,
  seed: `${vmId}.seed.iso`,
  console: `${vmId}.console.log`,
})
/** With the layers of its disk and what goes with them (layers.ts). */
const VOLUME =
  /\.(?:qcow2|nvram|seed\.iso|console\.log(?:\.\d+)?|\d+\.(?:qcow2|memory|[a-z0-9][a-z0-9-]{0,40}\.checkpoint)|kept)$/
/** The machine whose name the volume's begins with, ours or not; null for an image's manifest and the like. */
export const machineOf = (volume: string): string | null => (VOLUME.test(volume) ? volume.replace(VOLUME, '') : null)

export type Definition = {
  vmId: string
  ticket: Ticket | null
  mac: string
  domainType: DomainType
  cpus: number
  memoryMiB: number
  /** The bytes of the cloud-init seed. Null: its volume is there. */
  seed: Buffer | null
  /** The folder of the pool's volumes. */
  folder: string
  isolator: Isolator | null
  checkpoints?: Mark['checkpoints']
  /** The volume of its disk; its own first layer by default. */
  disk?: string
}

/** Defines a machine whose disk exists, and makes its other volumes. In one process. */
export const defineMachine = async (context: Context, definition: Definition): Promise<void> => {
  const { virsh, settings, homeId } = context
  const { vmId, ticket, mac, seed, folder, domainType, cpus, memoryMiB, isolator, checkpoints } = definition
  const volumes = volumesOf(vmId)
  const isolation = isolator === null ? null : await isolationOf(context, isolator, { vmId, mac })
  const port = isSession(settings) ? await freePort() : null
  const text = domainXml({
    mark: {
      ...{ vmId, ticket, home: homeId, mac, port, ip: isolation?.ip ?? null },
      ...(checkpoints === undefined ? {} : { checkpoints }),
    },
    isolation,
    closed: settings.kvmSessionNet === 'closed',
    ...{ domainType, cpus, memoryMiB },
    firmware: settings.kvmFirmware,
    network: settings.kvmNetwork,
    diskPath: `${folder}/${definition.disk ?? volumes.disk}`,
    seedPath: `${folder}/${volumes.seed}`,
    consolePath: `${folder}/${volumes.console}`,
  })
  await withFile(context, seed ?? '', seedFile =>
    withFile(context, text, textFile =>
      virsh.all([
        ...(seed === null ? [] : [makeVolume(context, volumes.seed, seed.length)]),
        // A volume, so that it is deleted like the others.
        makeVolume(context, volumes.console),
        ...(seed === null ? [] : [['vol-upload', '--pool', settings.kvmPool, volumes.seed, seedFile]]),
        ['define', textFile],
      ]),
    ),
  )
  if (settings.kvmFirmware === 'uefi') await convertNvram(context, vmId, `${folder}/${volumes.nvram}`)
}

/**
 * libvirt chooses the firmware at the definition, and keeps its variables in the format of their template. Checkpoints need
 * qcow2, and libvirt 11.3 does not convert them, so this does.
 */
const convertNvram = async (context: Context, vmId: string, path: string): Promise<void> => {
  const { run, virsh } = context
  const defined = await virsh.run(['dumpxml', vmId, '--inactive'])
  const template = nvramTemplate(defined)
  if (template === null) return
  const { nvram } = volumesOf(vmId)
  // A machine that is made again from its disk keeps its variables, and the checkpoints in them.
  if (!(await listVolumes(context)).includes(nvram))
    await withFile(context, '', async file => {
      await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', template, file])
      await virsh.all(uploadAs(context, nvram, file))
    })
  await withFile(context, withNvram(defined, path), file => virsh.run(['define', file]))
}
