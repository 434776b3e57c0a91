/**
 * What machines left that do not exist any more. A disk is read first: the machine is made again from it, with the ticket that the
 * journal has, and deleted like any other. What is not of this home is listed, and never touched.
 */
import type { Leftover, Provider } from '../../../providers/provider.ts'
import type { EnvironmentKey } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { ifUnlocked } from '../../registry/lock.ts'
import type { PruneItem } from '../../schema/prune.ts'
import { type RunnerContext, resolveTicket } from '../context.ts'
import { executeLocked } from '../executor.ts'
import { makeAgain } from '../lost.ts'
import { adoptMachine } from '../reconciler/adopt.ts'
import { forgetHostKey, hasHostKey } from '../ssh/keys.ts'
import type { Prunable, Removing, Sorted } from './items.ts'

type Left = { context: RunnerContext; provider: Provider; leftover: Leftover }

const busy = (name: string) =>
  fail('busy', `pruning what is left of ${name}: somebody works on it now`, 'Try again later: agent-swarm prune')

/** Operations whose machine nobody has worked in. */
const BEFORE_A_TICKET: readonly string[] = ['build-base', 'selftest', 'fill-pool']

/** Fails unless the machine is still gone, and nobody has it. The caller holds its lock. */
const requireLeft = async ({ context, provider, leftover: { vmId, hasDisk } }: Left): Promise<void> => {
  const doing = `pruning what is left of ${vmId}`
  const exists = (await provider.listVms()).some(vm => vm.vmId === vmId)
  if (exists || context.registry.knowsMachine(vmId)) throw fail('refused', `${doing}: it exists again`)
  if (!hasDisk && (await provider.hasLeftDisk?.(vmId)) === true)
    throw fail('refused', `${doing}: it has a disk now`, 'Try again: agent-swarm prune')
}

/** Nothing of it can hold work. */
const removeFiles = async (left: Left, lock: string): Promise<null> => {
  const { context, provider, leftover } = left
  const { vmId } = leftover
  const isDone = await ifUnlocked(context.home, lock, async () => {
    await requireLeft(left)
    await provider.deleteVm(vmId)
    forgetHostKey(context.home, vmId)
    return true
  })
  if (isDone === null) throw busy(lock)
  return null
}

const deleteDisk = async (
  left: Left,
  ticket: EnvironmentKey,
  { by, signal, onPhase }: Removing,
): Promise<string | null> => {
  const { context, provider, leftover } = left
  const { vmId } = leftover
  const rescued = await ifUnlocked(context.home, ticket, async () => {
    await requireLeft(left)
    requireFree(context, ticket, vmId)
    signal.throwIfAborted()
    onPhase(`${ticket}: making the machine again from its disk`)
    await makeAgain(context, provider, vmId, ticket)
    // From here on it is the machine of its ticket: what ends now leaves it so, stopped, with all that it holds.
    await adoptMachine(context, provider, { vmId, status: 'stopped' }, ticket)
    const outcome = await executeLocked(
      context,
      { kind: 'delete', ticket, force: false, by, replyTo: null },
      { actionId: null, correlation: null, signal, onPhase: phase => onPhase(`${ticket}: ${phase}`) },
    )
    if (outcome.result === 'failed') {
      const { kind, message, remedy } = outcome.failure
      throw fail(kind, message, remedy)
    }
    return outcome.result === 'done' ? (outcome.rescued ?? '') : ''
  })
  if (rescued === null) throw busy(ticket)
  return rescued === '' ? null : rescued
}

const holderOf = (context: RunnerContext, ticket: EnvironmentKey): string | null =>
  context.registry.environment(resolveTicket(context, ticket))?.vmId ?? null
const heldReason = (ticket: EnvironmentKey, holder: string) =>
  `${ticket} has another machine, ${holder}: prune again when that is deleted`
const requireFree = (context: RunnerContext, ticket: EnvironmentKey, vmId: string): void => {
  const holder = holderOf(context, ticket)
  if (holder !== null) throw fail('refused', `pruning the disk of ${vmId}: ${heldReason(ticket, holder)}`)
}

/** Why it stays; null when it may go. */
const whyKept = (
  { context, provider, leftover: { vmId, hasDisk } }: Left,
  made: ReturnType<RunnerContext['registry']['madeFor']>,
): string | null => {
  const { registry, home } = context
  const row = registry.environmentOfMachine(vmId)
  if (row !== null) return `it is the lost machine of ${row.ticket}: agent-swarm create or delete ${row.ticket}`
  if (registry.knowsMachine(vmId)) return 'it is being built'
  if (made === null && !hasHostKey(home, vmId)) return 'another home has it, or nobody knows whose it is'
  if (!hasDisk || BEFORE_A_TICKET.includes(made?.kind ?? '')) return null
  const ticket = made?.ticket ?? null
  if (ticket === null) return 'it may hold work, and the journal does not have its ticket any more'
  if (provider.recoverVm === undefined) return `it may hold work, and ${provider.name} cannot read it`
  const holder = holderOf(context, ticket)
  return holder === null ? null : heldReason(ticket, holder)
}

export const sortLeftovers = (context: RunnerContext, provider: Provider, leftovers: readonly Leftover[]): Sorted => {
  const prunable: Prunable[] = []
  const kept: PruneItem[] = []
  for (const leftover of leftovers) {
    const { vmId, hasDisk, bytes } = leftover
    const left = { context, provider, leftover }
    const made = context.registry.madeFor(vmId)
    const item = { kind: hasDisk ? ('disk' as const) : ('machine files' as const), name: vmId, bytes }
    const reason = whyKept(left, made)
    const ticket = made?.ticket ?? null
    if (reason !== null) kept.push({ ...item, reason })
    else if (!hasDisk || ticket === null)
      prunable.push({
        ...item,
        reason: hasDisk
          ? `${made?.kind === 'fill-pool' ? 'a ready machine' : 'a build of an image'} left it`
          : 'its machine does not exist, and it has no disk',
        remove: () => removeFiles(left, ticket ?? vmId),
      })
    else
      prunable.push({
        ...item,
        reason: `the machine of ${ticket} does not exist; its unsaved work is saved first`,
        remove: removing => deleteDisk(left, ticket, removing),
      })
  }
  return { prunable, kept }
}
