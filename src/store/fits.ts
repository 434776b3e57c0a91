/** Which runner can take which create. Only room is waited for: everything else fails with its remedy. */
import { amountOf, behindWhat, lackOf, needOf } from '../room.ts'
import type { Action } from '../schema/action.ts'
import type { MachineSize } from '../schema/basics.ts'
import type { Offer } from '../schema/runner-protocol.ts'

type Create = Pick<Extract<Action, { kind: 'create' }>, 'machine'>

/** The machine that this create would get from that runner. */
const machineOf = ({ machine = {} }: Create, { defaults }: Offer) => ({
  image: machine.baseImage ?? defaults.baseImage,
  size: {
    cpus: machine.cpus ?? defaults.size.cpus,
    memoryMiB: machine.memoryMiB ?? defaults.size.memoryMiB,
    diskGiB: machine.diskGiB ?? defaults.size.diskGiB,
  },
})

/** Why the runner could not take it even with an empty host, and what to do there; null when it could. */
export const whyNever = (action: Create, offer: Offer): { reason: string; remedy: string } | null => {
  const { image, size } = machineOf(action, offer)
  const { defaults, limits, room } = offer
  const provider = offer.providers.find(({ name }) => name === defaults.provider)
  if (provider === undefined)
    return { reason: 'no hypervisor is available there', remedy: 'Run there: agent-swarm providers' }
  if (provider.images !== null && !provider.images.includes(image))
    return {
      reason: `it has no base image ${image}${provider.images.length === 0 ? '' : ` (it has ${provider.images.join(', ')})`}`,
      remedy: `Make it there: agent-swarm init-base ${image}`,
    }
  const over = (['cpus', 'memoryMiB', 'diskGiB'] as const).find(
    name => action.machine?.[name] !== undefined && size[name] > limits[name],
  )
  if (over !== undefined)
    return {
      reason: `${over} ${size[over]} is above its limit of ${limits[over]}`,
      remedy: 'Ask for less in .github/agent-swarm.yml, or raise the limit in the configuration of that runner.',
    }
  const need = needOf(size)
  const lack = room === null ? null : lackOf(need, room.empty)
  return room === null || lack === null
    ? null
    : {
        reason: `the machine needs ${amountOf(lack, need[lack])}, and the host has ${amountOf(lack, room.empty[lack])} in all`,
        remedy: `Ask for less ${lack === 'diskGiB' ? 'memory, which a checkpoint takes on the disk' : lack === 'cpus' ? 'CPUs' : 'memory'}.`,
      }
}

/** What has the room that is missing there; null when nothing is missing. */
export const roomTakenBy = (need: MachineSize, { room }: Offer): string | null => {
  const lack = room === null ? null : lackOf(need, room.free)
  return room === null || lack === null ? null : behindWhat(lack, room)
}
/**
 * Whether it would fit there if all machines stopped. What other programs use, and a full disk, may stay so for ever; nobody else
 * is kept waiting for that.
 */
export const fitsOnceStopped = (need: MachineSize, { free, empty, held }: NonNullable<Offer['room']>): boolean => {
  const { cpus, memoryMiB } = held ?? {}
  if (cpus === undefined || memoryMiB === undefined) return lackOf(need, empty) === null
  return lackOf(need, { ...free, cpus: free.cpus + cpus, memoryMiB: free.memoryMiB + memoryMiB }) === null
}
/** What the machine of this create needs there. */
export const needAt = (action: Create, offer: Offer): MachineSize => needOf(machineOf(action, offer).size)

/** Whether the runner has room for it now. */
export const hasRoom = (action: Create, offer: Offer): boolean => roomTakenBy(needAt(action, offer), offer) === null

/** Whether a runner with this offer may take the action now. Actions on an existing machine fit the runner that has it. */
export const fits = (action: Action, offer: Offer): boolean =>
  action.kind !== 'create' || (whyNever(action, offer) === null && hasRoom(action, offer))
