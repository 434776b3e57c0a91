/** What AWS does with Spot machines by itself, and how machines ended that are not there any more. */
import type { Interruption } from '../provider.ts'
import { byTag, type Context, isPresent, listMarked, type Machine, machinesIn } from './context.ts'
import { describeSpotRequests } from './delete.ts'
import { TAG } from './marks.ts'
import type { SpotRequest } from './parse.ts'

const MOST_TEXT = 200
const KEEPS_DISK = 'AWS keeps the disk of a machine that it stops, and starts it again when it has room'
const STARTS_AGAIN =
  'AWS alone starts it again, when it has room: a start on the ticket is tried again for a day, and one of the command line fails until then. Machines that AWS does not interrupt are made with awsMarket: on-demand'

/** AWS says so on their request. What we asked for ourselves is no interruption. */
export const isInterrupted = ({ Status }: SpotRequest): boolean =>
  /^(?:marked-for-|instance-(?:stopped|terminated)-(?!by-user))/.test(Status?.Code ?? '')

/** `instance-stopped-no-capacity: There is no Spot capacity available that matches your request.` */
export const wordsOf = ({ Status }: Pick<SpotRequest, 'Status'>): string => {
  const { Code = '', Message = '' } = Status ?? {}
  return (Message === '' ? Code : `${Code}: ${Message.replace(/\.$/, '')}`).slice(0, MOST_TEXT)
}

/** The Spot requests of this home. */
export const ownSpotRequests = (context: Context): Promise<SpotRequest[]> =>
  describeSpotRequests(context, [byTag(TAG.home, context.homeId)], 'looking for interruptions of Spot machines')

/** Of one machine, by its request. AWS shows a machine that it has started again before its request says so. */
const interruptionOf = (machine: Machine, request: SpotRequest): Interruption | null => {
  if (!isInterrupted(request)) return null
  const state = machine.instance.State.Name
  const told = { by: 'AWS', cause: wordsOf(request) }
  if (state === 'stopped') return { ...told, state, next: STARTS_AGAIN }
  const isEnding = state === 'stopping' || request.Status?.Code.startsWith('marked-for-') === true
  return isEnding ? { ...told, state: 'announced', next: KEEPS_DISK } : null
}

/** By vmId. One command where there are Spot machines, and none elsewhere. */
export const interruptionsOf = async (
  context: Context,
  machines: readonly Machine[],
): Promise<Map<string, Interruption>> => {
  if (machines.every(({ instance }) => instance.SpotInstanceRequestId === undefined)) return new Map()
  const requests = new Map((await ownSpotRequests(context)).map(request => [request.SpotInstanceRequestId, request]))
  return new Map(
    machines.flatMap(machine => {
      const request = requests.get(machine.instance.SpotInstanceRequestId ?? '')
      const interruption = request === undefined ? null : interruptionOf(machine, request)
      return interruption === null ? [] : [[machine.mark.vmId, interruption] as const]
    }),
  )
}

/** AWS shows a machine that was terminated for about an hour. */
export const endingsOfMachines = async (context: Context): Promise<Map<string, string>> => {
  const ended = (await listMarked(context)).filter(instance => !isPresent(instance))
  return new Map(
    machinesIn(ended).flatMap(({ mark, instance }) => {
      const { Code = '', Message = '' } = instance.StateReason ?? {}
      const text = (Message || Code).slice(0, MOST_TEXT)
      return text === '' ? [] : [[mark.vmId, `AWS says: ${text}`] as const]
    }),
  )
}
