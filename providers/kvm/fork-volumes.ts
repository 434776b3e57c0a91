import { seedImage } from '../../base-image/seed.ts'
import type { ForkTarget } from '../provider.ts'
import type { Context, Machine } from './context.ts'
import { volumesOf } from './definition.ts'
import { withFile } from './host.ts'
import type { Isolator } from './isolation.ts'
import type { Pool } from './parse.ts'
import { uploadAs } from './volumes.ts'

/** What the forks of one call have in common. `doing`: for failures. */
export type Forking = {
  context: Context
  /** Their source. */
  machine: Machine
  isolator: Isolator | null
  pool: Pool
  doing: string
}

/** The seed of a fork: cloud-init takes it for a new machine at its next boot. */
export const forkSeed = ({ vmId, publicKey, hostKey }: ForkTarget, mac: string, machineId: string): Buffer =>
  seedImage({ hostname: vmId, machineId, network: { by: 'mac', mac }, publicKey, hostKey })

/** A new volume with the bytes of this file. */
export const uploadVolume = async ({ context, doing }: Forking, volume: string, file: string): Promise<void> => {
  await context.virsh.all(uploadAs(context, volume, file), { doing, deadline: 5 * 60_000 })
}

/** The variables of the firmware, where the source has some. */
export const copyNvram = async (forking: Forking, vmId: string): Promise<void> => {
  const { context, machine } = forking
  const { virsh, settings } = context
  const { nvram } = volumesOf(machine.mark.vmId)
  await withFile(context, '', async file => {
    await virsh.run(['vol-download', '--pool', settings.kvmPool, nvram, file], { doing: forking.doing })
    await uploadVolume(forking, volumesOf(vmId).nvram, file)
  })
}
