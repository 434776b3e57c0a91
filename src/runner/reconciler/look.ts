/** Registry and hypervisors at one time, with a number of commands that does not grow with the machines. */
import type { Leftover } from '../../../providers/provider.ts'
import type { ProviderName, Ticket } from '../../domain.ts'
import { failureOf } from '../../errors.ts'
import { isProcessAlive } from '../../exec.ts'
import type { EnvironmentRow } from '../../registry/registry.ts'
import type { OperationRow } from '../../schema/operation.ts'
import { listWithEndings, type RunnerContext, resolveTicket } from '../context.ts'
import { type Before, beforeLook } from '../known-environments.ts'
import { isLeftToQueue } from '../recovery.ts'
import { pinnedMachines } from '../ssh/keys.ts'
import {
  type Found,
  findingOfKey,
  findingOfLeftover,
  findingOfMachine,
  findingOfWaiting,
  findingsOfPooled,
  findingsOfTemporary,
  findingsOfTicket,
  findingsWithoutRow,
  type Interrupted,
} from './findings.ts'

/** What one hypervisor has. */
type Listing = Awaited<ReturnType<typeof listWithEndings>> & {
  leftovers: readonly Leftover[]
  canAssign: boolean
}
export type Unread = { provider: ProviderName; message: string }
/** `before`: the registry then. `listings`: by provider, of those that answered. */
export type Listings = { before: Before; listings: ReadonlyMap<ProviderName, Listing>; unread: Unread[] }

/** Those that have our machines according to the registry, and the one that would get the next machine. */
export const usedProviders = async ({ config, registry, chosenProvider }: RunnerContext): Promise<ProviderName[]> => {
  const known = [...registry.environments(), ...registry.machines()].map(({ provider }) => provider)
  const chosen = config.provider ?? (await chosenProvider().catch(() => null))?.name ?? null
  return [...new Set([...known, ...(chosen === null ? [] : [chosen])])]
}

const readListing = async (context: RunnerContext, name: ProviderName): Promise<Listing> => {
  const provider = await context.provider(name)
  const [listed, leftovers = []] = await Promise.all([listWithEndings(provider), provider.leftovers?.()])
  return { ...listed, leftovers, canAssign: provider.assign !== undefined }
}

export const readListings = async (context: RunnerContext): Promise<Listings> => {
  const unread: Unread[] = []
  const listings = new Map<ProviderName, Listing>()
  const before = beforeLook(context)
  await Promise.all(
    (await usedProviders(context)).map(async name => {
      try {
        listings.set(name, await readListing(context, name))
      } catch (error) {
        unread.push({ provider: name, message: failureOf(error, `listing the machines of ${name}`).message })
      }
    }),
  )
  return { before, listings, unread }
}

/** Open operations. One whose process lives has its ticket's lock. */
export const interruptedOf = (
  { registry, clock }: RunnerContext,
  ticket?: Ticket,
): Map<Ticket, (OperationRow & Interrupted)[]> =>
  Map.groupBy(
    registry
      .openOperations(ticket)
      .map(operation => ({ ...operation, isLeftToQueue: isLeftToQueue(operation, clock()) })),
    operation => operation.ticket,
  )

const ticketFindings = (context: RunnerContext, rows: readonly EnvironmentRow[], { listings }: Listings): Found[] => {
  const interrupted = interruptedOf(context)
  const vmsOf = new Map([...listings].map(([name, { vms }]) => [name, new Map(vms.map(vm => [vm.vmId, vm]))]))
  const withRow = new Set(rows.map(({ ticket }) => ticket))
  const withoutRow = [...interrupted].flatMap(([ticket, operations]) =>
    withRow.has(ticket) ? [] : findingsWithoutRow(ticket, operations),
  )
  const withRows = rows.flatMap(row => {
    const listing = listings.get(row.provider)
    if (listing === undefined) return []
    return findingsOfTicket({
      ...{ row, vm: vmsOf.get(row.provider)?.get(row.vmId), interrupted: interrupted.get(row.ticket) ?? [] },
      hasDisk: listing.leftovers.some(({ vmId, hasDisk }) => hasDisk && vmId === row.vmId),
      canAssign: listing.canAssign,
      ending: listing.endings.get(row.vmId),
    })
  })
  return [...withRows, ...withoutRow]
}

/** What differs. The listings are older than the registry is now: each step looks again. */
export const findingsIn = (context: RunnerContext, all: Listings): Found[] => {
  const { registry, home } = context
  const rows = registry.environments()
  const machines = registry.machines()
  const known = new Set([...rows, ...machines].map(({ vmId }) => vmId))
  const exists = new Set([
    ...known,
    ...[...all.listings.values()].flatMap(({ vms, leftovers }) => [...vms, ...leftovers].map(({ vmId }) => vmId)),
  ])
  const holderOf = (ticket: Ticket | null) =>
    ticket === null ? null : (registry.environment(resolveTicket(context, ticket))?.vmId ?? null)
  const unknown = <T extends { vmId: string }>(items: readonly T[]) => items.filter(({ vmId }) => !known.has(vmId))
  return [
    ...ticketFindings(context, rows, all),
    ...[...all.listings].flatMap(([name, { vms, leftovers }]) => [
      ...unknown(vms).map(vm => findingOfMachine(name, vm, holderOf(vm.ticket))),
      ...unknown(leftovers).map(leftover => findingOfLeftover(name, leftover)),
    ]),
    ...machines.flatMap(findingsOfTemporary),
    ...registry.poolMachines().flatMap(machine => {
      const vms = all.listings.get(machine.provider)?.vms
      return findingsOfPooled(machine, vms === undefined ? null : vms.some(({ vmId }) => vmId === machine.vmId))
    }),
    // Of a hypervisor that does not answer, the machines are not known.
    ...(all.unread.length > 0 || all.listings.size === 0
      ? []
      : pinnedMachines(home)
          .filter(vmId => !exists.has(vmId))
          .map(findingOfKey)),
    ...registry
      .waiting()
      .filter(({ pid }) => !isProcessAlive(pid))
      .map(({ ticket, kind }) => findingOfWaiting(ticket, kind)),
  ]
}
