/** Forks that go on with the memory of their source: each becomes a machine of its own before its network is turned on. */
import { randomBytes } from 'node:crypto'
import { identityScript } from '../../base-image/identity.ts'
import { addressText } from '../ipv4.ts'
import type { ForkTarget } from '../provider.ts'
import { volumesOf } from './definition.ts'
import { forkDefinition } from './fork-definition.ts'
import { copyNvram, type Forking, forkSeed, uploadVolume } from './fork-volumes.ts'
import { runByAgent, waitForAgent } from './guest-agent.ts'
import { freshMac, withFile } from './host.ts'
import { isolationOf } from './isolation.ts'
import { type MemoryImage, readMemoryImage, restoreMemory } from './memory-image.ts'
import { makeOverlay } from './pool-layers.ts'

/** Under emulation, with other forks that do the same. */
const IDENTITY_DEADLINE_MS = 3 * 60_000
/** What the kernel's pool holds. */
const FRESH_BYTES = 256

const makeVolumes = async (forking: Forking, vmId: string, layer: string, seed: Buffer, hasNvram: boolean) => {
  const { context, pool, doing } = forking
  const volumes = volumesOf(vmId)
  await makeOverlay(context, { volume: volumes.disk, on: layer, folder: pool.folder, doing })
  await withFile(context, seed, file => uploadVolume(forking, volumes.seed, file))
  await withFile(context, '', file => uploadVolume(forking, volumes.console, file))
  if (hasNvram) await copyNvram(forking, vmId)
}

/**
 * The stream turns the network on again, whatever the definition says, so it is turned off before the guest runs. It goes on
 * once the guest has another MAC, address, name and host key.
 */
const forkOne = async (forking: Forking, layer: string, image: MemoryImage, target: ForkTarget): Promise<void> => {
  const { context, machine, isolator, pool, doing } = forking
  const { virsh, settings, homeId } = context
  const { vmId, ticket, hostKey, publicKey } = target
  const mac = freshMac()
  const machineId = randomBytes(16).toString('hex')
  const isolation = isolator === null ? null : await isolationOf(context, isolator, { vmId, mac })
  await makeVolumes(forking, vmId, layer, forkSeed(target, mac, machineId), /<nvram[\s>]/.test(image.xml))
  const definition = forkDefinition(image.xml, machine.mark.vmId, {
    mark: { vmId, ticket, home: homeId, mac, port: null, ip: isolation?.ip ?? null, checkpoints: 'external' },
    network: settings.kvmNetwork,
    isolation,
    folder: pool.folder,
  })
  await restoreMemory(context, { image, vmId, doing }, definition)
  const setLink = (state: 'up' | 'down') => ['domif-setlink', vmId, mac, state]
  await virsh.run(setLink('down'), { doing })
  // A definition that stays: what libvirt restored is gone when it ends.
  await withFile(context, definition, file => virsh.run(['define', file], { doing }))
  await virsh.run(['resume', vmId], { doing })
  await waitForAgent(context, vmId)
  const address =
    isolator === null || isolation === null
      ? null
      : {
          ip: isolation.ip,
          prefix: isolator.network.subnet.bits,
          gateway: addressText(isolator.network.gateway),
        }
  const fresh = randomBytes(FRESH_BYTES)
  const identity = {
    name: vmId,
    machineId,
    hostKey,
    publicKey,
    now: new Date(),
    fresh,
    mac,
    oldMac: machine.mark.mac,
    address,
  }
  await runByAgent(context, vmId, identityScript(identity), {
    doing: `giving ${vmId} an identity of its own`,
    deadline: IDENTITY_DEADLINE_MS,
  })
  await virsh.run(setLink('up'), { doing })
}

/** All of them at once. Returns when all have ended, also when one fails. */
export const forkMemory = async (
  forking: Forking,
  { layer, memory }: { layer: string; memory: string },
  targets: readonly ForkTarget[],
): Promise<void> => {
  const image = await readMemoryImage(forking.context, memory)
  const results = await Promise.allSettled(targets.map(target => forkOne(forking, layer, image, target)))
  for (const result of results) if (result.status === 'rejected') throw result.reason
}
