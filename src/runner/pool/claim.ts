/**
 * A create takes a ready machine. It becomes the environment's in one transaction, so that nobody else gets it; what follows may be
 * done again after a crash, or is undone like any create that never answered.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Provider } from '../../../providers/provider.ts'
import { newVmId, poolName, type Ticket } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import type { PoolMachine } from '../../registry/registry.ts'
import { needOf } from '../../room.ts'
import type { MachineSize } from '../../schema/basics.ts'
import { check } from '../after-restore.ts'
import type { RunnerContext } from '../context.ts'
import { isolationNote } from '../isolation-note.ts'
import type { Operation, Target } from '../operation.ts'
import { reserveRoom } from '../room.ts'
import { putGuestFiles, waitForGuest } from '../ssh/guest.ts'
import { putPeopleKeys } from '../ssh/people-keys.ts'
import { isDoubtful, isHeld, isOfUse, isSame, isTooOld } from './pools.ts'

/** A memory that comes back answers within seconds, and under emulation on a busy host within a minute. */
const DEADLINE_MS = 3 * 60_000
const NAME = readFileSync(join(import.meta.dirname, 'name.sh'), 'utf8')

type Wanted = { ticket: Ticket; baseImage: string; size: MachineSize; repo: string | null }

/** Those that would do, by the registry: first with the repository's project, then of the present commit, then the one that has been there longest. */
export const readyFor = (
  { registry, config, clock }: RunnerContext,
  provider: Provider,
  { baseImage, size, repo }: Omit<Wanted, 'ticket'>,
): PoolMachine[] => {
  const { cpus, memoryMiB, diskGiB } = size
  const pools = new Set(config.pool.map(poolName))
  const suits = ({ madeOf }: PoolMachine) =>
    isSame(madeOf, { ...madeOf, image: baseImage, cpus, memoryMiB, diskGiB }) &&
    (madeOf.repository === null || madeOf.repository === repo?.toLowerCase())
  const isOfNow = (machine: PoolMachine) => {
    const { pool, madeOf } = machine
    const look = registry.poolLook(pool)
    const current = look?.madeOf ?? null
    const failed = look?.failedClaims ?? null
    return (
      pools.has(pool) && current !== null && isOfUse(madeOf, current) && !isDoubtful(machine, { failed, now: clock() })
    )
  }
  const rank = ({ pool, madeOf: { repository, commit } }: PoolMachine): number =>
    repository === null ? 2 : Number(commit !== registry.poolLook(pool)?.madeOf?.commit)
  return registry
    .poolMachines()
    .filter(
      machine =>
        machine.state === 'ready' &&
        machine.provider === provider.name &&
        suits(machine) &&
        isOfNow(machine) &&
        !isTooOld(machine, clock()),
    )
    .sort((one, other) => rank(one) - rank(other))
}

/** Makes a ready machine the ticket's, by the registry. Null: there is none. */
export const claimReady = async (
  operation: Operation,
  provider: Provider,
  wanted: Wanted,
): Promise<PoolMachine | null> => {
  const found = readyFor(operation.context, provider, wanted)
  if (found.length === 0) return null
  const { context, id, by } = operation
  const { ticket, baseImage, size } = wanted
  const vms = new Map((await provider.listVms()).map(vm => [vm.vmId, vm]))
  for (const machine of found) {
    const { vmId, hold } = machine
    if (!isHeld(machine, vms.get(vmId))) continue
    // What is in memory has its room already.
    const isGoingOn = hold === 'memory'
    await reserveRoom(operation, provider, { kind: 'create', ticket, vmId, need: needOf(size), isGoingOn })
    const environment = { ticket, provider: provider.name, vmId, baseImage, by, operation: id }
    if (context.registry.claimMachine(environment, context.clock().toISOString())) return machine
  }
  return null
}

/** Its host name is that of a machine that was made for the ticket. */
const nameOf = ({ ticket, vmId }: Target['row']): string => newVmId(ticket, vmId.slice(-8))

/** Throws when the guest is not the machine that was made ready, or its clock is wrong. Returns what else to tell people. */
const setRight = async (target: Target, ssh: Target['row']['ssh'], machine: PoolMachine): Promise<string[]> => {
  const { row } = target
  const named = `name=${nameOf(row)}\n${NAME}`
  const { faults, notes, machineId } = await check({ ...target, row: { vmId: row.vmId, ssh } }, named)
  const isOther = machineId !== machine.machineId
  const all = isOther ? [...faults, 'Its machine-id is not the one that it had when it was made ready'] : faults
  if (all.length > 0) throw fail('refused', all.join('. '))
  return notes
}

/** Brings a claimed machine up. Throws when it is not to be handed out. Returns what follows its name in the answer. */
export const bringUp = async (target: Target, machine: PoolMachine): Promise<string> => {
  const { context, caller, provider, row } = target
  const { registry, home } = context
  const { signal } = caller
  caller.onPhase('claim')
  await provider.assign?.(row.vmId, row.ticket)
  caller.onPhase('start')
  await provider.startVm(row.vmId)
  caller.onPhase('address')
  const told = isolationNote(home, provider).catch(() => null)
  const answered = await waitForGuest(context, provider, row.vmId, {
    ...{ signal, deadline: DEADLINE_MS, onAddress: () => caller.onPhase('ssh') },
  })
  if (answered?.hasOurFiles === false) await putGuestFiles(context, provider, row.vmId, signal)
  const notes = await setRight(target, answered?.ssh ?? null, machine)
  await putPeopleKeys(context, provider, row.vmId, signal).catch(error => {
    if (signal.aborted) throw error
    notes.push(`The keys of people are not in it: ${failureOf(error, 'putting them in').message}`)
  })
  signal.throwIfAborted()
  // From here on people may work in it: the create is no longer undone.
  registry.setAddress(row.ticket, answered?.ssh ?? null)
  registry.setStatus(row.ticket, 'running')
  registry.endClaims()
  registry.claimSucceeded(machine.pool)
  const note = await told
  const sentences = [...notes, ...(note === null ? [] : [note])].map(text => `. ${text}`)
  return [`, a ready machine of the pool ${machine.pool}`, ...sentences].join('')
}
