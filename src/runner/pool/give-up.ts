/** Gives up a machine of a pool that was not handed out. Whoever begins: nothing else happens to it afterwards. */
import { fail } from '../../errors.ts'
import { forgetLock, withLock } from '../../registry/lock.ts'
import type { PoolMachine } from '../../registry/registry.ts'
import type { RunnerContext } from '../context.ts'
import { forgetHostKey } from '../ssh/keys.ts'

/** How long a machine that is being made may take until it is gone. */
const WAIT_MS = 2 * 60_000

/** Removes one that leaves its pool, or whose process died. The caller holds its lock. A machine with a ticket is not the pool's any more. */
export const removePoolMachine = async (
  { home, registry, clock, provider: open }: RunnerContext,
  { vmId, provider: name }: Pick<PoolMachine, 'vmId' | 'provider'>,
): Promise<void> => {
  const provider = await open(name)
  const isHandedOut =
    registry.environmentOfMachine(vmId) !== null ||
    ((await provider.listVms()).find(vm => vm.vmId === vmId)?.ticket ?? null) !== null
  if (!isHandedOut) {
    await provider.deleteVm(vmId)
    forgetHostKey(home, vmId)
  }
  registry.endMachine(vmId, clock().toISOString(), 'interrupted')
  if (!isHandedOut) forgetLock(home, vmId)
}

/** Deletes one that leaves its pool. One that is being made is cancelled first, by the process that makes it. */
export const removeLeaving = async (
  context: RunnerContext,
  machine: PoolMachine,
  signal: AbortSignal,
): Promise<void> => {
  const { home, registry } = context
  const { vmId, pool } = machine
  const until = AbortSignal.any([signal, AbortSignal.timeout(WAIT_MS)])
  await withLock(home, vmId, { signal: until, onWait: () => {} }, async () => {
    if (registry.poolMachine(vmId)?.state === 'leaving') await removePoolMachine(context, machine)
  }).catch(error => {
    if (!until.aborted || signal.aborted) throw error
    throw fail('timeout', `giving up ${vmId}, a machine of the pool ${pool}: it is still being made`, null, error)
  })
}

/** False: somebody else has it. */
export const giveUp = async (context: RunnerContext, machine: PoolMachine, signal: AbortSignal): Promise<boolean> => {
  if (!context.registry.leavePool(machine.vmId, context.clock().toISOString())) return false
  await removeLeaving(context, machine, signal)
  return true
}
