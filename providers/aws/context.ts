/** What the functions of this provider work with, and the one way to look at a machine before it is used. */
import { setTimeout as delay } from 'node:timers/promises'
import { VM_ID } from '../../src/domain.ts'
import { allow, fail } from '../../src/errors.ts'
import type { Tools, VmStatus } from '../provider.ts'
import type { Aws } from './aws.ts'
import { type Mark, markTags, parseMark, TAG } from './marks.ts'
import { type Instance, instances, type Tag } from './parse.ts'
import type { AwsSettings } from './settings.ts'

export type Context = Tools<AwsSettings> & { aws: Aws; shared: Shared }
/** Looks at all machines that begin at the same moment are one command. */
type Shared = { list: Promise<Instance[]> | null }

export type Machine = { mark: Mark; instance: Instance }

/** A machine that is terminated is shown for about an hour. */
const PRESENT = ['pending', 'running', 'stopping', 'stopped']
export const isPresent = ({ State }: Pick<Instance, 'State'>): boolean => PRESENT.includes(State.Name)

type Filter = { Name: string; Values: readonly string[] }
export const byTag = (key: string, value: string): Filter => ({ Name: `tag:${key}`, Values: [value] })
/** Everything that belongs to a machine of any home. */
export const MARKED: Filter = { Name: 'tag-key', Values: [TAG.vm] }
const IN_USE: Filter = { Name: 'instance-state-name', Values: PRESENT }

/** Milliseconds. The program itself takes a second or two for each look. */
const FIRST_PAUSE = 100
const LONGEST_PAUSE = 2_000
/** `between` waits from one look to the next. Tests replace it: their EC2 counts looks, not seconds. */
export const pauses = { between: (milliseconds: number): Promise<void> => delay(milliseconds) }

/** Looks until there is something, at most `looks` times. */
export const poll = async <T>(looks: number, look: () => Promise<T | undefined>): Promise<T | undefined> => {
  for (let n = 0, pause = FIRST_PAUSE; n < looks; n += 1, pause = Math.min(pause * 1.5, LONGEST_PAUSE)) {
    if (n > 0) await pauses.between(pause)
    const seen = await look()
    if (seen !== undefined) return seen
  }
  return undefined
}
/** Of a change of state, which takes minutes at most: half an hour and more. */
export const MOST_LOOKS = 600
/** AWS may not know for some seconds what it has just made. */
export const LOOKS_FOR_NEW = 15

export const isOurs = ({ homeId, knows }: Pick<Context, 'homeId' | 'knows'>, { home, vmId }: Mark): boolean =>
  home === null ? knows(vmId) : home === homeId

export const checkId = (id: string): string => {
  if (!VM_ID.test(id)) throw fail('not-ours', `"${id}" is not a machine of agent-swarm`)
  return id
}

export const describeInstances = ({ aws }: Pick<Context, 'aws'>, filters: readonly Filter[], doing: string) =>
  aws.ask('ec2 describe-instances', { Filters: filters }, instances, { doing })

/** Of all homes: every instance that has a mark, also those that are terminated. */
export const listMarked = (context: Context): Promise<Instance[]> => {
  context.shared.list ??= Promise.resolve().then(() => {
    context.shared.list = null
    return describeInstances(context, [MARKED], 'listing the machines')
  })
  return context.shared.list
}

/** One machine for each vmId: whoever may tag can give two instances one mark, and the first made counts here. */
export const machinesIn = (found: readonly Instance[]): Machine[] => {
  const machines = new Map<string, Machine>()
  for (const instance of found) {
    const mark = parseMark(instance.Tags)
    if (mark !== null && !machines.has(mark.vmId)) machines.set(mark.vmId, { mark, instance })
  }
  return [...machines.values()]
}

export const tagResources = ({ aws }: Context, resources: readonly string[], tags: readonly Tag[], doing: string) =>
  aws.tell('ec2 create-tags', { Resources: resources, Tags: tags }, { doing })

/** Adds this home's id to the marks of machines that name none, and that our registry knows. */
const completeMarks = async (context: Context, machines: readonly Machine[]): Promise<void> => {
  const incomplete = machines.filter(({ mark }) => mark.home === null)
  if (incomplete.length === 0) return
  const ids = incomplete.map(({ instance }) => instance.InstanceId)
  await tagResources(context, ids, [{ Key: TAG.home, Value: context.homeId }], 'marking the machines of this home')
}

export const ownMachines = async (context: Context): Promise<Machine[]> => {
  const own = machinesIn((await listMarked(context)).filter(isPresent)).filter(({ mark }) => isOurs(context, mark))
  await completeMarks(context, own)
  return own
}

export const severalOf = (id: string, found: readonly Instance[]) =>
  fail(
    'refused',
    `${found.map(({ InstanceId }) => InstanceId).join(' and ')} have the mark of ${id}: agent-swarm gave it to one of them`,
    `Find out which one is not it, and remove its tag ${TAG.vm}.`,
  )

/** The machine now. Precedes every change: it may not be ours. Fails with `no-such-vm` or `not-ours`. */
export const look = async (context: Context, id: string): Promise<Machine> => {
  const doing = `looking for ${checkId(id)}`
  const found = await describeInstances(context, [byTag(TAG.vm, id), IN_USE], doing)
  const [machine] = machinesIn(found)
  if (machine === undefined) throw fail('no-such-vm', `${doing}: AWS has no such machine`)
  if (!found.some(({ Tags }) => isOurs(context, parseMark(Tags) ?? machine.mark)))
    throw fail(
      'not-ours',
      `${id} belongs to another AGENT_SWARM_HOME`,
      'Use agent-swarm with that home. It is left alone here.',
    )
  if (found.length > 1) throw severalOf(id, found)
  await completeMarks(context, [machine])
  return { ...machine, mark: { ...machine.mark, home: context.homeId } }
}

/** Undefined when there is no such machine. */
export const lookIfExists = (context: Context, id: string): Promise<Machine | undefined> =>
  look(context, id).catch(allow('no-such-vm'))

/** One that is between two states is not yet what it was asked for. */
export const statusOf = ({ State }: Pick<Instance, 'State'>): VmStatus =>
  State.Name === 'running' || State.Name === 'stopped' ? State.Name : 'creating'

export const addressOf = ({ PublicIpAddress, PrivateIpAddress, State }: Instance): string | null =>
  State.Name === 'running' ? (PublicIpAddress ?? PrivateIpAddress ?? null) : null

export const rootVolumeOf = ({ RootDeviceName, BlockDeviceMappings }: Instance): string | null =>
  BlockDeviceMappings.find(({ DeviceName }) => DeviceName === RootDeviceName)?.Ebs?.VolumeId ?? null

export const tagsOf = (context: Context, mark: Mark): Tag[] => markTags({ ...mark, home: context.homeId })
