/** A machine that somebody else removed from the hypervisor, and the disk that it may have left: it may hold somebody's work. */
import type { Provider } from '../../providers/provider.ts'
import type { Ticket } from '../domain.ts'
import { type FailureError, fail, failureOf } from '../errors.ts'
import type { EnvironmentRow } from '../registry/registry.ts'
import type { RunnerContext } from './context.ts'
import type { Target } from './operation.ts'
import { isNothingUnsaved } from './rescue/unsaved-work.ts'
import { hostKeyOfDisk, loginKey } from './ssh/keys.ts'

/** Whether a search found nothing unsaved when the machine stopped: a delete needs no look. Its checkpoints are there all the same. */
export const wasChecked = ({ unsavedWork }: EnvironmentRow): boolean =>
  unsavedWork !== null && isNothingUnsaved(unsavedWork)

const keptDisk = ({ ticket, vmId }: EnvironmentRow, reason: string, cause?: unknown): FailureError =>
  fail(
    'no-such-vm',
    `${ticket}: its machine ${vmId} no longer exists, and agent-swarm did not delete it. Its disk is kept: it may hold unsaved work${reason}`,
    `Save what you need from the disk. Then delete it: agent-swarm delete ${ticket} --force`,
    cause,
  )

/** Whether the machine, which is gone, left a disk. Fails where the provider cannot make a machine of it. */
export const requireRecoverable = async ({ provider, row }: Pick<Target, 'provider' | 'row'>): Promise<boolean> => {
  if ((await provider.hasLeftDisk?.(row.vmId)) !== true) return false
  if (provider.recoverVm === undefined) throw keptDisk(row, '')
  return true
}

/** Makes a machine again, stopped, from the disk that it left. Returns what is gone of it. The caller holds the lock of its ticket. */
export const makeAgain = async (
  { config, home, run }: RunnerContext,
  provider: Provider,
  vmId: string,
  ticket: Ticket,
): Promise<string | null> => {
  const [publicKey, hostKey] = await Promise.all([loginKey(run, home), hostKeyOfDisk(run, home, vmId)])
  return (await provider.recoverVm?.(vmId, ticket, { vmId, ...config.size, publicKey, hostKey })) ?? null
}

/**
 * Makes the machine again, stopped, from the disk that it left. Returns what is gone of it, a sentence with a full stop and a space
 * before it, or nothing; null when it left no disk. Fails where the provider cannot.
 */
export const recoverLost = async (target: Target): Promise<string | null> => {
  const { context, caller, provider, row } = target
  if (!(await requireRecoverable(target))) return null
  caller.onPhase('making the machine again from its disk')
  const { ticket, vmId } = row
  let gone: string | null
  try {
    gone = await makeAgain(context, provider, vmId, ticket)
  } catch (error) {
    throw keptDisk(row, `. Making the machine again from it: ${failureOf(error, 'recovering it').message}`, error)
  }
  context.registry.setUnsavedWork(ticket, null)
  context.registry.setStatus(ticket, 'stopped')
  return gone === null ? '' : `. ${gone}`
}
