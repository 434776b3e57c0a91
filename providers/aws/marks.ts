/** The marks of machines, and of all that belongs to them: tags. Whoever may tag in the account can write any. */
import { CHECKPOINT_NAME, IMAGE_NAME, isEnvironmentKey, type Ticket, VM_ID } from '../../src/domain.ts'
import type { Tag } from './parse.ts'

export const TAG = {
  vm: 'agent-swarm:vm',
  ticket: 'agent-swarm:ticket',
  home: 'agent-swarm:home',
  /** Instance type, CPUs, MiB of memory and GiB of disk at the launch. */
  size: 'agent-swarm:size',
  /** Of an instance: which keys its user data has, and of a fork which machine-id. */
  seed: 'agent-swarm:seed',
  checkpoint: 'agent-swarm:checkpoint',
  /** Whether the machine ran at the checkpoint. */
  captured: 'agent-swarm:captured',
  /** Of a task that replaces a root volume: the volume that it replaces. */
  former: 'agent-swarm:former',
  image: 'agent-swarm:image',
  /** Of an image: its profile, once it is proven. */
  proven: 'agent-swarm:proven',
  source: 'agent-swarm:source',
  /** Of an image and a snapshot that a fork needs while it launches its machines: the machine that is forked. */
  fork: 'agent-swarm:fork',
} as const

export type Mark = {
  vmId: string
  ticket: Ticket | null
  /** The id of the AGENT_SWARM_HOME that made it. Null: none is named. */
  home: string | null
}
export type Size = { type: string; cpus: number; memoryMiB: number; diskGiB: number }

const HOME_ID = /^[0-9a-f]{16}$/
const SIZE = /^([a-z0-9.-]{3,40}) (\d{1,4}) (\d{1,9}) (\d{1,6})$/

export const tagOf = (tags: readonly Tag[], key: string): string | null =>
  tags.find(tag => tag.Key === key)?.Value ?? null

const valid = (text: string | null, is: (text: string) => boolean): string | null =>
  text !== null && is(text) ? text : null

/** Null: it names no machine of agent-swarm. */
export const parseMark = (tags: readonly Tag[]): Mark | null => {
  const vmId = valid(tagOf(tags, TAG.vm), text => VM_ID.test(text))
  if (vmId === null) return null
  return {
    vmId,
    ticket: valid(tagOf(tags, TAG.ticket), isEnvironmentKey),
    home: valid(tagOf(tags, TAG.home), text => HOME_ID.test(text)),
  }
}

/** `Name` is what the console of AWS shows. */
export const markTags = ({ vmId, ticket, home }: Mark): Tag[] => [
  { Key: 'Name', Value: vmId },
  { Key: TAG.vm, Value: vmId },
  ...(home === null ? [] : [{ Key: TAG.home, Value: home }]),
  ...(ticket === null ? [] : [{ Key: TAG.ticket, Value: ticket }]),
]

export const sizeTag = ({ type, cpus, memoryMiB, diskGiB }: Size): Tag => ({
  Key: TAG.size,
  Value: [type, cpus, memoryMiB, diskGiB].join(' '),
})
export const parseSize = (tags: readonly Tag[]): Size | null => {
  const [, type, cpus, memoryMiB, diskGiB] = tagOf(tags, TAG.size)?.match(SIZE) ?? []
  return type === undefined
    ? null
    : { type, cpus: Number(cpus), memoryMiB: Number(memoryMiB), diskGiB: Number(diskGiB) }
}

export const checkpointOf = (tags: readonly Tag[]): string | null =>
  valid(tagOf(tags, TAG.checkpoint), text => CHECKPOINT_NAME.test(text))
export const imageOf = (tags: readonly Tag[]): string | null =>
  valid(tagOf(tags, TAG.image), text => IMAGE_NAME.test(text))

/**
 * The image that machines are forked from, until they run. Version 2.9.19 of the program registers no image with tags, so its name
 * is its mark as well: the home, and the first of the forks. At most 128 characters, and unique in account and region.
 */
export const forkImageName = (home: string, vmId: string): string => `agent-swarm/${home}/${vmId}`

export const specifications = (types: readonly string[], tags: readonly Tag[]) =>
  types.map(ResourceType => ({ ResourceType, Tags: tags }))
