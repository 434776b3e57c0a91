/** Gives a machine a ticket, on everything that it has. */
import type { Ticket } from '../../src/domain.ts'
import { type Context, look, rootVolumeOf, tagResources, tagsOf } from './context.ts'
import { whileUnderWay } from './replacements.ts'

/**
 * Also of its disk: a restore that was killed left one without a mark. AWS may still be at it, so the disk of before would get the
 * mark.
 */
export const assignTicket = async (context: Context, id: string, ticket: Ticket): Promise<void> => {
  const doing = `assigning ${ticket} to ${id}`
  await whileUnderWay({ context, doing }, (await look(context, id)).instance)
  const { mark, instance } = await look(context, id)
  const { InstanceId, NetworkInterfaces, SpotInstanceRequestId } = instance
  const resources = [
    InstanceId,
    rootVolumeOf(instance),
    ...NetworkInterfaces.map(({ NetworkInterfaceId }) => NetworkInterfaceId),
    SpotInstanceRequestId,
  ].filter(each => each !== null && each !== undefined)
  await tagResources(context, resources, tagsOf(context, { ...mark, ticket }), doing)
}
