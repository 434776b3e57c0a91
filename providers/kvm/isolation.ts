/**
 * Isolates machines: they reach the internet and what the operator opened, and neither each other nor the host. libvirt does it,
 * without root: isolated ports of the bridge, and a filter (filter.ts) with the address that the network keeps for the machine.
 */
import { randomBytes } from 'node:crypto'
import { parseRange } from '../ipv4.ts'
import { ephemeralPorts, localAddresses } from './addresses.ts'
import type { Context, Machine } from './context.ts'
import { filterName, filterXml, isFilterOf, type Surroundings } from './filter.ts'
import { withFile } from './host.ts'
import { type Isolation, interfaceXml, isIsolated } from './libvirt-xml.ts'
import { writeMark } from './marks.ts'
import { type Network, parseNetwork, reserveAddress } from './network.ts'
import { isSavedIn, parseLeases } from './parse.ts'
import { isSession } from './settings.ts'
import type { Answer, Command } from './virsh.ts'

/** A filter that changes is written again for each running machine, in about 2 s. */
const FILTER_DEADLINE_MS = 5 * 60_000
const BIND_DEADLINE_MS = 120_000

/** What isolates machines here: our network, and our filter in its present form. */
export type Isolator = { network: Network; filter: string; surroundings: Surroundings; leases: string }

/** The commands whose answer `readIsolator` reads. */
export const isolatorCommands = ({ settings, homeId }: Pick<Context, 'settings' | 'homeId'>): Command[] =>
  isSession(settings)
    ? []
    : [
        ['net-dumpxml', settings.kvmNetwork],
        ['net-dhcp-leases', settings.kvmNetwork],
        ['nwfilter-dumpxml', filterName(homeId)],
      ]

/** Whether this libvirt has no filters: names that stand in its messages in every language. Each part of a modular libvirt has a daemon and a socket of its own. */
export const hasNoFilters = (stderr: string): boolean => /virNWFilter|virtnwfilterd/.test(stderr)

/** Null where nothing can isolate machines: isolated.ts says why. `isCurrent`: whether the filter is what it must be. */
export const readIsolator = (
  { settings, homeId }: Pick<Context, 'settings' | 'homeId'>,
  { stdout, stderr }: Answer,
): (Isolator & { isCurrent: boolean }) | null => {
  const network = isSession(settings) || hasNoFilters(stderr) ? null : parseNetwork(stdout)
  if (network === null) return null
  const { gateway, subnet } = network
  const allowed = settings.kvmAllow.flatMap(text => parseRange(text) ?? [])
  const surroundings = { gateway, subnet, own: localAddresses(), allowed, ephemeral: ephemeralPorts() }
  const filter = filterName(homeId)
  return { network, filter, surroundings, leases: stdout, isCurrent: isFilterOf(stdout, filter, surroundings) }
}

/** Writes the filter, and with it the rules of every running machine. */
export const writeFilter = async (context: Context, { filter, surroundings }: Isolator): Promise<void> => {
  const text = filterXml(filter, surroundings, randomBytes(4).toString('hex'))
  await withFile(context, text, path =>
    context.virsh.run(['nwfilter-define', path], {
      deadline: FILTER_DEADLINE_MS,
      doing: 'writing the filter that isolates machines',
    }),
  )
}

/** What isolates machines here, ready for one that is created, started or restored. */
export const prepareIsolator = async (context: Context, answer: Answer): Promise<Isolator | null> => {
  const isolator = readIsolator(context, answer)
  if (isolator !== null && !isolator.isCurrent) await writeFilter(context, isolator)
  return isolator
}

export const openIsolator = async (context: Context): Promise<Isolator | null> =>
  prepareIsolator(context, await context.virsh.ask(isolatorCommands(context)))

/** The machine's isolation. Its address is kept in the network from now on: the one that it has, or a free one. */
export const isolationOf = async (
  context: Context,
  { network, filter, leases }: Isolator,
  machine: { vmId: string; mac: string },
): Promise<Isolation> => {
  const leased = parseLeases(leases).get(machine.mac) ?? null
  return { filter, ip: await reserveAddress(context, network, machine, leases, leased) }
}

/** Isolates a machine that exists: a running one (also a paused one) at once, any other from its next start. */
export const isolateMachine = async (
  context: Context,
  isolator: Isolator,
  { mark, status }: Machine,
  known?: Isolation,
): Promise<Isolation> => {
  const isolation = known ?? (await isolationOf(context, isolator, mark))
  const scope = status === 'running' ? ['--live', '--config'] : ['--config']
  const text = interfaceXml(mark.mac, isolator.network.name, isolation).piece
  await withFile(context, text, path =>
    context.virsh.run(['update-device', mark.vmId, path, ...scope], {
      deadline: BIND_DEADLINE_MS,
      doing: `isolating ${mark.vmId}`,
    }),
  )
  if (mark.ip !== isolation.ip) await context.virsh.run(writeMark({ ...mark, ip: isolation.ip }, status))
  return isolation
}

/** As `isolateMachine`, for a paused machine that mostly is isolated: then it takes no second. */
export const isolateUnlessIsolated = async (context: Context, isolator: Isolator, machine: Machine): Promise<void> => {
  const { vmId, ip } = machine.mark
  if (ip !== null && isIsolated(await context.virsh.run(['dumpxml', vmId]), { filter: isolator.filter, ip })) return
  await isolateMachine(context, isolator, machine)
}

/** The commands whose answer tells `isolateStopped` whether anything is missing. */
export const definitionCommands = (id: string): Command[] => [
  ['dumpxml', id, '--inactive'],
  ['dominfo', id],
]

/**
 * Isolates a stopped machine. Returns whether its next start must not run it before that is done again: a memory that libvirt
 * saved at the host's shutdown (managed save) brings the definition of that time back.
 */
export const isolateStopped = async (
  context: Context,
  isolator: Isolator,
  machine: Machine,
  definition: string,
): Promise<boolean> => {
  const isolation = await isolationOf(context, isolator, machine.mark)
  if (!isIsolated(definition, isolation) || machine.mark.ip !== isolation.ip)
    await isolateMachine(context, isolator, machine, isolation)
  return isSavedIn(definition)
}

/**
 * Isolates a machine that `start --paused` or `snapshot-revert --paused` just made of a definition of another time. One that
 * cannot be isolated is powered off, and never runs.
 */
export const isolatePaused = async (context: Context, isolator: Isolator, machine: Machine): Promise<Isolation> => {
  const { virsh } = context
  const { vmId } = machine.mark
  try {
    return await isolateMachine(context, isolator, { ...machine, status: 'running' })
  } catch (error) {
    await virsh.ask([['destroy', vmId]])
    throw error
  }
}
