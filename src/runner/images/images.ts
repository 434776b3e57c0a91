/** The base images of a provider: which environments use them, and their deletion. */
import type { BaseImage, Provider } from '../../../providers/provider.ts'
import type { Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import type { RunnerContext } from '../context.ts'

/** `tickets`: the environments of this home that use it, in any state. `machines`: whatever else depends on it. */
export type UsedImage = BaseImage & { tickets: Ticket[] }

/** An environment whose machine is lost uses its image, too: the disk may still be there. */
export const listImages = async ({ registry }: RunnerContext, provider: Provider): Promise<UsedImage[]> => {
  const images = (await provider.describeBaseImages?.()) ?? []
  const rows = registry.environments().filter(row => row.provider === provider.name)
  return images.map(image => {
    const own = rows.filter(({ baseImage, vmId }) => baseImage === image.name || image.machines.includes(vmId))
    const known = new Set(own.map(({ vmId }) => vmId))
    return {
      ...image,
      machines: image.machines.filter(vmId => !known.has(vmId)),
      tickets: own.map(({ ticket }) => ticket),
    }
  })
}

const MOST_SHOWN = 10
const enumerate = (names: readonly string[]): string =>
  names.length > MOST_SHOWN
    ? `${names.slice(0, MOST_SHOWN).join(', ')} and ${names.length - MOST_SHOWN} more`
    : names.join(', ')

/** Fails unless the image can be deleted now. */
export const checkDelete = async (context: RunnerContext, provider: Provider, name: string): Promise<void> => {
  if (provider.deleteBaseImage === undefined) throw fail('unsupported', `${provider.name} needs no base image`)
  const images = await listImages(context, provider)
  const image = images.find(each => each.name === name)
  const doing = `deleting the base image ${name}`
  if (image === undefined)
    throw fail(
      'no-such-image',
      `${doing}: it does not exist`,
      images.length === 0 ? 'There is none.' : `There are: ${enumerate(images.map(each => each.name))}`,
    )
  const { tickets, machines } = image
  if (tickets.length > 0)
    throw fail(
      'refused',
      `${doing}: ${tickets.length === 1 ? 'the machine' : 'the machines'} of ${enumerate(tickets)} and ${tickets.length === 1 ? 'its' : 'their'} checkpoints depend on it`,
      `Delete them first, if they are no longer needed: agent-swarm delete ${tickets.slice(0, MOST_SHOWN).join(' ')}`,
    )
  if (machines.length > 0)
    throw fail(
      'refused',
      `${doing}: disks that are not of an environment of this home depend on it: ${enumerate(machines)}`,
      "They are another home's, or left of a machine that somebody removed by hand. Whoever they belong to deletes them first.",
    )
}

export const deleteImage = async (context: RunnerContext, provider: Provider, name: string): Promise<void> => {
  await checkDelete(context, provider, name)
  await provider.deleteBaseImage?.(name)
}
