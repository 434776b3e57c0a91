/** Which runner can take which create. Only room is waited for: everything else fails with its remedy. */
import type { Action } from '../schema/action.ts'
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
  if (room !== null && size.memoryMiB > room.empty.memoryMiB)
    return {
      reason: `the machine needs ${size.memoryMiB} MiB of memory, and the host has ${room.empty.memoryMiB} MiB in all`,
      remedy: 'Ask for less memory.',
    }
  return null
}

/** Whether the runner has room for it now. */
export const hasRoom = (action: Create, offer: Offer): boolean => {
  const { size } = machineOf(action, offer)
  return offer.room === null || size.memoryMiB <= offer.room.free.memoryMiB
}

/** Whether a runner with this offer may take the action now. Actions on an existing machine fit the runner that has it. */
export const fits = (action: Action, offer: Offer): boolean =>
  action.kind !== 'create' || (whyNever(action, offer) === null && hasRoom(action, offer))
