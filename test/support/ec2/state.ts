/**
 * An EC2 of one account and one region, as AWS describes it and as it surprises: states that take some looks, new things that are
 * not shown at first, tags that go where AWS puts them. Disks are folders. It shares nothing with the provider.
 */
import { cpSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

export type Tag = { Key: string; Value: string }
/** A change that shows after some looks. */
type Change = { looks: number; apply: () => void }
type Thing = { tags: Tag[] /** Looks in which AWS does not show it yet. */; hidden: number; changes: Change[] }
export type Volume = Thing & {
  id: string
  size: number
  state: 'available' | 'in-use'
  /** Snapshots of one lineage may replace each other's volumes. */
  lineage: string
}
export type Snapshot = Thing & {
  id: string
  volume: string
  size: number
  state: 'pending' | 'completed' | 'error'
  lineage: string
  startedAt: string
}
export type Mapping = { device: string; volume: string; goesAlong: boolean }
export type Instance = Thing & {
  id: string
  type: string
  image: string
  state: 'pending' | 'running' | 'stopping' | 'stopped' | 'shutting-down' | 'terminated'
  reason: { Code: string; Message: string } | null
  publicIp: string | null
  privateIp: string
  rootDevice: string
  mappings: Mapping[]
  interface: Thing & { id: string }
  request: string | null
  userData: string
  metadata: Record<string, unknown>
  groups: string[]
  profile: unknown
  kind: ImageKind
  /** How a type that earns CPU credits spends more than it has: not at all, or for money. Null: its type earns none. */
  credits: 'standard' | 'unlimited' | null
}
/** What an image says of the machines that are made of it. */
export type ImageKind = {
  architecture: string
  virtualization: 'hvm' | 'paravirtual'
  ena: boolean
  bootMode: string | null
  /** Whose licence they have. */
  platform: string
}
export type Image = Thing & {
  id: string
  name: string
  state: 'pending' | 'available'
  rootDevice: string
  snapshot: string
  size: number
  kind: ImageKind
  /** Of a snapshot of this account. */
  isRegistered: boolean
}
export type SpotRequest = Thing & {
  id: string
  instance: string
  state: 'active' | 'disabled' | 'cancelled'
  persistent: boolean
  status: { Code: string; Message: string }
  launch: Record<string, unknown>
}
export type Task = Thing & { id: string; instance: string; snapshot: string; state: string }
type Token = { input: string; id: string }

export type Ec2Options = {
  /** Where the disks are. */
  folder: string
  /** Looks until a state changes, and until something new is shown. */
  looks?: { change: number; shown: number }
}

export const openState = ({ folder, looks = { change: 2, shown: 1 } }: Ec2Options) => {
  let count = 0
  const state = {
    folder,
    looks,
    instances: new Map<string, Instance>(),
    volumes: new Map<string, Volume>(),
    snapshots: new Map<string, Snapshot>(),
    images: new Map<string, Image>(),
    requests: new Map<string, SpotRequest>(),
    tasks: new Map<string, Task>(),
    tokens: new Map<string, Token>(),
    /** Tasks that fail from now on. */
    failingTasks: 0,
    /** Requests between two snapshots of one volume. */
    snapshotEvery: 0,
    lastSnapshot: new Map<string, number>(),
    requestsMade: 0,
    newId: (kind: string) => {
      count += 1
      return `${kind}-0${count.toString(16).padStart(16, '0')}`
    },
    /** Times differ, as they do between two requests. */
    now: () => {
      count += 1
      return new Date(Date.UTC(2026, 10, 28, 9) + count * 1000).toISOString()
    },
    address: (network: string) => {
      count += 1
      return `${network}.${Math.floor(count / 250) % 250}.${(count % 250) + 1}`
    },
    thing: (tags: readonly Tag[] = []): Thing => ({ tags: [...tags], hidden: looks.shown, changes: [] }),
    disk: (id: string) => join(folder, id),
  }
  return state
}
export type State = ReturnType<typeof openState>

export const copyDisk = (state: State, from: string | null, to: string): void => {
  if (from === null) mkdirSync(state.disk(to), { recursive: true })
  else cpSync(state.disk(from), state.disk(to), { recursive: true, preserveTimestamps: true })
}
export const removeDisk = (state: State, id: string): void => rmSync(state.disk(id), { recursive: true, force: true })

/** Plans a change that shows after the usual number of looks. */
export const later = ({ looks }: State, thing: Thing, apply: () => void): void => {
  if (looks.change === 0) apply()
  else thing.changes.push({ looks: looks.change, apply })
}

/** One look at a thing: true when AWS shows it. What was planned may happen afterwards. */
export const lookAt = (thing: Thing): boolean => {
  if (thing.hidden > 0) {
    thing.hidden -= 1
    return false
  }
  return true
}
/** After the answer was made. */
export const passTime = (things: Iterable<Thing>): void => {
  for (const thing of things) {
    const [change] = thing.changes
    if (change === undefined) continue
    change.looks -= 1
    if (change.looks > 0) continue
    thing.changes.shift()
    change.apply()
  }
}

export type Ec2Error = Error & { code: string }
/** What AWS answers instead. */
export const refuse = (code: string, message: string): Ec2Error => Object.assign(new Error(message), { code })
