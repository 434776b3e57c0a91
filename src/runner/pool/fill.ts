/**
 * Makes one machine of a pool. It is journalled, and locked by this process, before its first outside command: when the process
 * dies, whoever recovers deletes it.
 */
import { randomBytes } from 'node:crypto'
import type { Provider } from '../../../providers/provider.ts'
import { type FailureKind, newVmId, poolName } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import { lockNewMachine, withRoomLock } from '../../registry/lock.ts'
import type { MadeOf, PoolMachine } from '../../registry/registry.ts'
import { amountOf, needOf } from '../../room.ts'
import type { Pool } from '../../schema/pool.ts'
import { check } from '../after-restore.ts'
import type { RunnerContext } from '../context.ts'
import type { Caller } from '../operation.ts'
import type { ProjectAccess } from '../project/access.ts'
import type { Preparing } from '../project/project.ts'
import { fitsBeside } from '../room.ts'
import { putGuestFiles, runInGuest, waitForGuest } from '../ssh/guest.ts'
import { forgetHostKey, loginKey, pinnedHostKey } from '../ssh/keys.ts'
import { giveUp } from './give-up.ts'
import { isOfUse } from './pools.ts'

/** A memory that comes up elsewhere answers within seconds, and under emulation on a busy host within a minute. */
const FORK_DEADLINE_MS = 3 * 60_000
/** The rest of the guest's own boot goes on after its first answer. */
const SETTLE_DEADLINE_MS = 10 * 60_000
const SETTLE = 'cloud-init status --wait >/dev/null 2>&1 </dev/null\nsync\n'
const TEMPLATE_CHECKPOINT = 'pool'
/** Kinds of failure that another try with the same template does not mend. */
const USELESS: ReadonlySet<FailureKind> = new Set(['damaged', 'no-such-checkpoint', 'no-such-vm'])
const by = { via: 'clock', who: null } as const

export type Filling = {
  context: RunnerContext
  provider: Provider
  pool: Pool
  madeOf: MadeOf
  /** Gives `work` the way to a repository, for a machine that has no ticket. */
  withAccess: <T>(
    machine: { vmId: string; provider: string; repo: string; signal: AbortSignal },
    work: (access: ProjectAccess) => Promise<T>,
  ) => Promise<T>
  /** How many fills of the pool failed in a row before this one. */
  failures: number
  caller: Pick<Caller, 'signal' | 'onPhase'>
  /** Called with the machine that is begun: from then on it can be given up. */
  onBegun: (vmId: string) => void
  /** Called when that machine has booted. */
  onBooted: () => void
}
type Made = { vmId: string; path: string | null; machineId: string | null }

const now = ({ context }: Filling) => context.clock().toISOString()

/** Journals the machine, where it fits beside all others. */
const begin = async (filling: Filling): Promise<{ vmId: string; unlock: () => void }> => {
  const { context, provider, pool, madeOf, caller } = filling
  const { home, registry } = context
  const vmId = newVmId('pool', randomBytes(4).toString('hex'))
  const unlock = lockNewMachine(home, vmId)
  try {
    await withRoomLock(home, caller.signal, async () => {
      const need = needOf(madeOf)
      if (!(await fitsBeside(context, provider, need)))
        throw fail(
          'capacity',
          `making a machine of the pool ${poolName(pool)}: the host has no room for ${amountOf('memoryMiB', need.memoryMiB)} more`,
          'Stop machines, or keep fewer ready.',
        )
      const machine = { vmId, provider: provider.name, pool: poolName(pool), hold: pool.hold, madeOf }
      registry.beginPoolMachine(machine, { by, at: now(filling) })
    })
    filling.onBegun(vmId)
    return { vmId, unlock }
  } catch (error) {
    unlock()
    throw error
  }
}

/** What a failure leaves in the journal is deleted by the recovery. */
const make = async (filling: Filling, to: 'ready' | 'template', work: (vmId: string) => Promise<Made>) => {
  const { context, provider, caller } = filling
  const { home, registry } = context
  const { vmId, unlock } = await begin(filling)
  try {
    const made = await work(vmId)
    caller.signal.throwIfAborted()
    if (!registry.endFilling(vmId, to, made, now(filling))) throw fail('cancelled', `making ${vmId}: it was given up`)
    return made
  } catch (error) {
    await provider.deleteVm(vmId)
    forgetHostKey(home, vmId)
    registry.endMachine(vmId, now(filling), 'failed')
    throw error
  } finally {
    unlock()
  }
}

/** A step that cannot be cancelled does not begin any more when the machine is given up. */
const begins = ({ signal, onPhase }: Filling['caller'], phase: string): void => {
  signal.throwIfAborted()
  onPhase(phase)
}

const keysOf = async ({ context }: Filling, vmId: string) => {
  const [publicKey, hostKey] = await Promise.all([
    loginKey(context.run, context.home),
    pinnedHostKey(context.run, context.home, vmId),
  ])
  return { vmId, publicKey, hostKey }
}

/** Waits until it answers under its pinned host key. */
const answer = async (filling: Filling, vmId: string, deadline: number): Promise<Preparing> => {
  const { context, provider, caller } = filling
  const { signal } = caller
  caller.onPhase('ssh')
  const answered = await waitForGuest(context, provider, vmId, { signal, deadline })
  filling.onBooted()
  if (answered?.hasOurFiles === false) await putGuestFiles(context, provider, vmId, signal)
  const full = { actionId: null, correlation: null, ...caller }
  return { context, provider, caller: full, row: { vmId, ssh: answered?.ssh ?? null } }
}

/** That its identity is its own, and its clock right. Returns its machine-id. */
const prove = async ({ context }: Filling, machine: Preparing): Promise<string | null> => {
  const { faults, machineId } = await check(machine)
  if (faults.length > 0) throw fail('refused', `making ${machine.row.vmId}: ${faults.join('. ')}`)
  const twin = context.registry.poolMachines().find(other => machineId !== null && other.machineId === machineId)
  if (twin !== undefined)
    throw fail('refused', `making ${machine.row.vmId}: it has the machine-id of ${twin.vmId}, another ready machine`)
  return machineId
}

/** A machine that boots, with its project. */
const fresh = async (filling: Filling, vmId: string): Promise<Made> => {
  const { context, provider, madeOf, caller } = filling
  const { image, repository, cpus, memoryMiB, diskGiB } = madeOf
  const options = { ...(await keysOf(filling, vmId)), cpus, memoryMiB, diskGiB }
  caller.signal.throwIfAborted()
  await provider.createVm(null, image, options, caller.onPhase)
  begins(caller, 'start')
  await provider.startVm(vmId)
  const machine = await answer(filling, vmId, context.config.bootMinutes * 60_000)
  let path: string | null = null
  if (repository !== null) {
    const { preparePooled } = await import('./project.ts')
    const access = { vmId, provider: provider.name, repo: repository, signal: caller.signal }
    path = await filling.withAccess(access, given => preparePooled(machine, repository, given))
  }
  begins(caller, 'the end of its boot')
  if (provider.ownSystem !== true)
    await runInGuest(context, provider, vmId, SETTLE, { deadline: SETTLE_DEADLINE_MS, signal: caller.signal })
  return { vmId, path, machineId: await prove(filling, machine) }
}

const hold = async ({ provider, pool, caller }: Filling, vmId: string): Promise<void> => {
  begins(caller, pool.hold === 'memory' ? 'suspend' : 'save')
  await (pool.hold === 'memory' ? provider.suspend?.(vmId) : provider.save?.(vmId))
}

/** Whether others are forked from one, which takes a place of the pool. */
export const isForked = ({ provider, pool }: Pick<Filling, 'provider' | 'pool'>): boolean =>
  provider.fork !== undefined &&
  provider.memoryForks === true &&
  provider.memoryCheckpoints === true &&
  pool.most > pool.ready

/** One of a former commit is there until the filler finds it time for another one. */
const templateOf = ({ context, provider, pool, madeOf }: Filling): PoolMachine | undefined =>
  context.registry
    .poolMachines()
    .find(
      machine =>
        machine.state === 'template' &&
        machine.provider === provider.name &&
        machine.pool === poolName(pool) &&
        isOfUse(machine.madeOf, madeOf),
    )

const makeTemplate = (filling: Filling): Promise<Made> =>
  make(filling, 'template', async vmId => {
    const { provider, caller } = filling
    const made = await fresh(filling, vmId)
    begins(caller, 'checkpoint')
    await provider.checkpoint(vmId, TEMPLATE_CHECKPOINT)
    begins(caller, 'stop')
    await provider.stopVm(vmId)
    return made
  })

/**
 * For `.catch()`: a template that no machine can be forked from is given up, and the next round makes another. What nobody foresaw
 * may pass, and a template takes a whole setup, so it gets a second try.
 */
const unlessUseless =
  ({ context, failures, caller }: Filling, { vmId }: Made) =>
  async (error: unknown): Promise<never> => {
    const template = context.registry.poolMachine(vmId)
    const { kind } = failureOf(error, 'forking it')
    if (template !== null && (USELESS.has(kind) || (kind === 'unknown' && failures > 0)))
      await giveUp(context, template, caller.signal)
    throw error
  }

/** Makes one that is ready; where it is forked and there is no template yet, makes that first. Throws why it cannot. */
export const fillOne = async (filling: Filling): Promise<Made> => {
  const { provider, caller } = filling
  if (!isForked(filling))
    return make(filling, 'ready', async vmId => {
      const made = await fresh(filling, vmId)
      await hold(filling, vmId)
      return made
    })
  const template = templateOf(filling) ?? { ...(await makeTemplate(filling)), madeOf: filling.madeOf }
  return make({ ...filling, madeOf: template.madeOf }, 'ready', async vmId => {
    const target = { ...(await keysOf(filling, vmId)), ticket: null }
    begins(caller, 'fork')
    await provider.fork?.(template.vmId, TEMPLATE_CHECKPOINT, [target]).catch(unlessUseless(filling, template))
    const machine = await answer(filling, vmId, FORK_DEADLINE_MS)
    const machineId = await prove(filling, machine)
    await hold(filling, vmId)
    return { vmId, path: template.path, machineId }
  })
}
