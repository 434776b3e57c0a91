/** Decides whether a machine may begin to run on this host: the one place for creates and starts, of the bot and of the CLI. */
import type { Provider, VmUsage } from '../../providers/provider.ts'
import type { EnvironmentKey } from '../domain.ts'
import { type FailureError, fail, failureOf } from '../errors.ts'
import { withRoomLock } from '../registry/lock.ts'
import type { EnvironmentRow, PoolMachine } from '../registry/registry.ts'
import { amountOf, behindWhat, lackOf, needOf, type Room, type Running, roomOf } from '../room.ts'
import type { MachineSize } from '../schema/basics.ts'
import type { Failure } from '../schema/failure.ts'
import type { RunnerContext } from './context.ts'
import type { Operation, Target } from './operation.ts'
import { removeLeaving } from './pool/give-up.ts'

const MIB = 1024 ** 2

/** One that boots for the first time has its memory already. */
export const TAKES_ROOM: readonly EnvironmentRow['status'][] = ['creating', 'running', 'deleting']

export type HostReading = {
  capacity: Awaited<ReturnType<NonNullable<Provider['capacity']>>>
  usage: ReadonlyMap<string, VmUsage>
}

/** A constant number of outside commands. Null when the provider has no limits, or the host could not tell. */
export const readHost = async (provider: Provider): Promise<HostReading | null> => {
  const [capacity, usage] = await Promise.all([provider.capacity?.(), provider.capacity && provider.usage?.()])
  // Without the host's memory, every create would be rejected.
  if (capacity === undefined || capacity.memoryBytes.total === 0) return null
  return { capacity, usage: usage ?? new Map() }
}

const sizeOf = ({ config }: RunnerContext, usage: VmUsage | undefined) =>
  usage === undefined
    ? config.size
    : { cpus: usage.cpus, memoryMiB: Math.ceil((usage.memoryBytes ?? 0) / MIB), diskGiB: config.size.diskGiB }

/** Whether it has its memory on the host, or is getting it. One that leaves has it until it is gone. */
const holdsMemory = ({ state, hold }: PoolMachine): boolean =>
  state === 'filling' || ((state === 'ready' || state === 'leaving') && hold === 'memory')
/** Those that are kept ready, are being made for it, or leave, and have their memory on the host. The oldest first. */
const poolMachines = ({ registry }: RunnerContext, provider: string, { usage }: HostReading): PoolMachine[] =>
  registry.poolMachines().filter(
    machine =>
      machine.provider === provider &&
      // One that leaves before it was saved has its memory where the host says so.
      (holdsMemory(machine) || (machine.state === 'leaving' && (usage.get(machine.vmId)?.memoryUsedBytes ?? 0) > 0)),
  )
const readyMachines = (machines: readonly PoolMachine[], { usage }: HostReading): Running[] =>
  machines.map(({ vmId, madeOf: { cpus, memoryMiB } }) => ({
    ...{ ticket: null, cpus, memoryBytes: memoryMiB * MIB, usedBytes: usage.get(vmId)?.memoryUsedBytes ?? null },
  }))

type ForTicket = Running & { ticket: EnvironmentKey }
const runningMachines = (context: RunnerContext, provider: string, { usage }: HostReading): ForTicket[] =>
  context.registry.environments().flatMap(({ ticket, vmId, status, provider: its }) => {
    const known = usage.get(vmId)
    // One that the host does not know yet is reserved by its operation.
    if (its !== provider || !TAKES_ROOM.includes(status) || (known === undefined && status === 'creating')) return []
    const { cpus, memoryMiB } = sizeOf(context, known)
    return [{ ticket, cpus, memoryBytes: memoryMiB * MIB, usedBytes: known?.memoryUsedBytes ?? null }]
  })

type Need = MachineSize & { ticket: EnvironmentKey }
/** What open operations have reserved for machines that are not running yet. */
const reservations = ({ registry }: RunnerContext, running: readonly Running[], except: number | null): Need[] =>
  registry.openOperations().flatMap(({ id, ticket, detail }) => {
    const reserved = detail?.reserves
    if (id === except || reserved === undefined || running.some(each => each.ticket === ticket)) return []
    return [{ ticket, cpus: reserved.cpus, memoryMiB: reserved.memoryMiB, diskGiB: reserved.diskGiB }]
  })

type Assumed = { expected?: readonly Need[]; except?: number | null; emptied?: boolean | readonly PoolMachine[] }
/**
 * `expected`: machines that will be reserved soon. `except`: an operation whose own reservation does not count. `emptied`: as if the
 * ready machines, or these of them, were gone, which give way to people.
 */
export const roomNow = (
  context: RunnerContext,
  provider: string,
  reading: HostReading,
  { expected = [], except = null, emptied = false }: Assumed = {},
): Room => {
  const running = runningMachines(context, provider, reading)
  const reserved = reservations(context, running, except)
  const known = new Set([...running, ...reserved].map(({ ticket }) => ticket))
  const needs = [...reserved, ...expected.filter(({ ticket }) => !known.has(ticket))]
  const pooled = poolMachines(context, provider, reading)
  const isGone = ({ vmId }: PoolMachine) =>
    typeof emptied === 'boolean' ? emptied : emptied.some(machine => machine.vmId === vmId)
  const kept = readyMachines(
    pooled.filter(machine => !isGone(machine)),
    reading,
  )
  const gone = readyMachines(pooled.filter(isGone), reading)
  const { memoryBytes } = reading.capacity
  const given = gone.reduce((sum, { usedBytes }) => sum + (usedBytes ?? 0), 0)
  const available = Math.min(memoryBytes.total, memoryBytes.available + given)
  return roomOf({ ...reading.capacity, memoryBytes: { ...memoryBytes, available } }, [...running, ...kept], needs)
}

/** Machines whose stop makes enough room: the largest first, of equal ones those to which nothing happened for longest. */
const toStop = (context: RunnerContext, provider: string, reading: HostReading, missing: number): EnvironmentKey[] => {
  const last = (ticket: EnvironmentKey) => context.registry.operations(ticket, 1)[0]?.id ?? 0
  const candidates = runningMachines(context, provider, reading)
    .map(each => ({ ...each, last: last(each.ticket) }))
    .sort((one, other) => other.memoryBytes - one.memoryBytes || one.last - other.last)
  const chosen: EnvironmentKey[] = []
  let left = missing
  for (const { ticket, memoryBytes } of candidates) {
    if (left <= 0) break
    chosen.push(ticket)
    left -= memoryBytes / MIB
  }
  return chosen
}

const remedyFor = (
  context: RunnerContext,
  provider: string,
  reading: HostReading,
  { kind, ticket, lack, missing }: { kind: string; ticket: EnvironmentKey; lack: keyof MachineSize; missing: number },
): string => {
  const wait = kind === 'create' ? `. Or wait for room: agent-swarm create ${ticket} --wait` : ''
  if (lack === 'diskGiB')
    return `Free disk space: delete checkpoints (agent-swarm checkpoint TICKET NAME --delete) or a machine (agent-swarm delete TICKET)${wait}`
  const running = runningMachines(context, provider, reading).length
  const stops = toStop(context, provider, reading, lack === 'cpus' ? 1 : missing)
  if (running === 0) return `Other programs use it: end some of them, or ask for less memory${wait}`
  return `Stop: agent-swarm stop ${stops.join(' ')}${wait}`
}

const doings: Readonly<Record<string, string>> = { create: 'creating', fork: 'forking' }
const doingOf = (kind: string, ticket: EnvironmentKey) => `${doings[kind] ?? 'starting'} ${ticket}`
/** What such a failure says of the host, for a text that names the ticket already. */
export const reasonOf = ({ message }: Pick<Failure, 'message'>, kind: string, ticket: EnvironmentKey): string => {
  const doing = `${doingOf(kind, ticket)}: `
  return message.startsWith(doing) ? message.slice(doing.length) : message
}

type Wanted = { kind: string; ticket: EnvironmentKey; need: MachineSize; except?: number | null }

/** The action waits for it. */
const noRoom = (need: MachineSize, message: string, remedy: string): FailureError => {
  const error = fail('capacity', message, remedy)
  error.failure.needs = need
  return error
}

/** The failure of an action whose machine does not fit, even without ready machines; null when it does. */
const lackOfRoom = (
  context: RunnerContext,
  provider: string,
  reading: HostReading,
  { kind, ticket, need, except = null }: Wanted,
): FailureError | null => {
  const room = roomNow(context, provider, reading, { except, emptied: true })
  const doing = doingOf(kind, ticket)
  const never = lackOf(need, room.empty)
  if (never !== null)
    return fail(
      'capacity',
      `${doing}: it needs ${amountOf(never, need[never])}, and the host has ${amountOf(never, room.empty[never])} for machines in all`,
      'Ask for a smaller machine: agent-swarm status shows what the host has.',
    )
  const lack = lackOf(need, room.free)
  if (lack === null) return null
  const missing = need[lack] - room.free[lack]
  return noRoom(
    need,
    `${doing}: it needs ${amountOf(lack, need[lack])}, and ${amountOf(lack, room.free[lack])} ${lack === 'cpus' ? 'are' : 'is'} free; ${behindWhat(lack, room)}`,
    remedyFor(context, provider, reading, { kind, ticket, lack, missing }),
  )
}

/** The failure of an action whose machine does not fit now; null when it does, or when the host cannot tell. */
export const whyNoRoom = async (
  context: RunnerContext,
  provider: Provider,
  wanted: Wanted,
): Promise<FailureError | null> => {
  const reading = await readHost(provider).catch(() => null)
  return reading === null ? null : lackOfRoom(context, provider.name, reading, wanted)
}

/** Whether it fits beside the machines that are kept ready, or beside all but these. True when the host cannot tell. */
export const fitsBeside = async (
  context: RunnerContext,
  provider: Provider,
  need: MachineSize,
  emptied: readonly PoolMachine[] = [],
): Promise<boolean> => {
  const reading = await readHost(provider).catch(() => null)
  return reading === null || lackOf(need, roomNow(context, provider.name, reading, { emptied }).free) === null
}

/**
 * Ready machines give way to people, the oldest first: makes as many leave as it takes. Returns those that must be gone before it
 * fits; null when it fits now.
 */
const makeWay = (
  context: RunnerContext,
  provider: string,
  reading: HostReading,
  { need, except }: Pick<Wanted, 'need' | 'except'>,
): PoolMachine[] | null => {
  const { registry, clock } = context
  const going: PoolMachine[] = []
  const fits = () =>
    lackOf(need, roomNow(context, provider, reading, { except: except ?? null, emptied: going }).free) === null
  if (fits()) return null
  const machines = poolMachines(context, provider, reading)
  const isLeaving = ({ state }: PoolMachine) => state === 'leaving'
  for (const machine of [...machines.filter(isLeaving), ...machines.filter(each => !isLeaving(each))]) {
    if (!isLeaving(machine) && !registry.leavePool(machine.vmId, clock().toISOString())) continue
    going.push(machine)
    if (fits()) break
  }
  return going
}

/** Waits until they are gone. Until then they have their room, and the action waits for it. */
const untilGone = async (
  { context, caller }: Operation,
  { kind, ticket, need }: Wanted,
  leaving: readonly PoolMachine[],
): Promise<void> => {
  caller.onPhase('room: giving up a ready machine')
  for (const machine of leaving)
    await removeLeaving(context, machine, caller.signal).catch(error => {
      if (caller.signal.aborted) throw error
      const { message } = failureOf(error, `giving up ${machine.vmId}`)
      throw noRoom(
        need,
        `${doingOf(kind, ticket)}: a ready machine gives way to it, and is not gone yet: ${message}`,
        'Try again in a minute. If it stays so, see: agent-swarm reconcile --dry-run',
      )
    })
}

/** What a machine of this size, or this machine, needs to begin with. */
export const needOfMachine = async (context: RunnerContext, provider: Provider, vmId: string): Promise<MachineSize> =>
  needOf(sizeOf(context, (await provider.usage?.().catch(() => null))?.get(vmId)))

/**
 * `reserve` writes reservations down one caller at a time. Ready machines give way; nobody else waits until they are gone. Fails with
 * `capacity` where there is no room.
 */
export const withRoomFor = async (
  operation: Operation,
  provider: Provider,
  wanted: Omit<Wanted, 'except'>,
  reserve: () => void,
): Promise<void> => {
  const { context, caller, id } = operation
  if (provider.capacity === undefined) return reserve()
  while (true) {
    const leaving = await withRoomLock(context.home, caller.signal, async () => {
      const reading = await readHost(provider).catch(() => null)
      // Nothing is awaited from here on: what is found out still holds when it is written down.
      const own = { ...wanted, except: id }
      const failure = reading && lackOfRoom(context, provider.name, reading, own)
      if (failure !== null) throw failure
      const machines = reading && makeWay(context, provider.name, reading, own)
      if (machines === null) reserve()
      return machines
    })
    if (leaving === null) return
    await untilGone(operation, wanted, leaving)
  }
}

/**
 * Reserves room until the operation ends. Fails with `capacity` where there is none; `isGoingOn`: the machine has its room
 * already.
 */
export const reserveRoom = async (
  operation: Operation,
  provider: Provider,
  { vmId, isGoingOn = false, ...wanted }: Omit<Wanted, 'except'> & { vmId: string; isGoingOn?: boolean },
): Promise<void> => {
  const { context, id } = operation
  const reserve = () => context.registry.setDetail(id, { reserves: { vmId, ...wanted.need } })
  if (provider.capacity === undefined) return
  if (isGoingOn) reserve()
  else await withRoomFor(operation, provider, wanted, reserve)
}

const reserveStopped = async (target: Target, needOfSize: (size: MachineSize) => MachineSize): Promise<void> => {
  const { context, provider, row } = target
  if (provider.capacity === undefined) return
  const need = needOfSize(await needOfMachine(context, provider, row.vmId))
  await reserveRoom(target, provider, { kind: 'start', ticket: row.ticket, vmId: row.vmId, need })
}
/** The same for a machine that is stopped and is about to run. */
export const reserveToStart = (target: Target): Promise<void> => reserveStopped(target, size => size)
/** For one that is started to be asked before it is deleted: it makes no checkpoint, and what it has of the disk becomes free. */
export const reserveToAsk = (target: Target): Promise<void> => reserveStopped(target, size => ({ ...size, diskGiB: 0 }))
