/** Machines whose memory is saved, and those that were stopped because nobody used them: whoever needs one wakes it. */
import type { Provider } from '../../providers/provider.ts'
import type { Ticket } from '../domain.ts'
import { fail, failureOf } from '../errors.ts'
import type { EnvironmentRow } from '../registry/registry.ts'
import type { Action } from '../schema/action.ts'
import { type RunnerContext, requireEnvironment } from './context.ts'
import { waitAndTell } from './isolation-note.ts'
import { converge } from './machine.ts'
import { earlierTries, type Target } from './operation.ts'

/** A memory that comes back answers within seconds, and under emulation on a busy host within a minute. */
export const MEMORY_DEADLINE_MS = 3 * 60_000

/** Whether the hypervisor has the memory of the machine, which is off: a start goes on with it. */
export const isSaved = async (provider: Provider, { vmId }: Pick<EnvironmentRow, 'vmId'>): Promise<boolean> =>
  provider.save !== undefined && (await provider.listVms()).find(vm => vm.vmId === vmId)?.saved === true

export const requireSave = (provider: Provider, ticket: Ticket): void => {
  if (provider.save !== undefined) return
  throw fail(
    'unsupported',
    `saving the memory of ${ticket}: ${provider.name} cannot save the memory of a machine`,
    `Stop it without its memory: agent-swarm stop ${ticket}`,
  )
}

/** Whether a machine that is off was put to sleep: nobody is asked before it is started. */
export const isAsleep = async (
  { registry }: Pick<RunnerContext, 'registry'>,
  provider: Provider,
  row: Pick<EnvironmentRow, 'ticket' | 'vmId'>,
): Promise<boolean> => {
  const state = registry.idleness(row.ticket)?.report?.state
  return state === 'saved' || state === 'stopped' || (await isSaved(provider, row))
}

/** What an action does to its machine needs it awake. A delete looks for itself, and a push comes from a machine that runs. */
export const needsWake = (action: Action): boolean => {
  switch (action.kind) {
    case 'checkpoint':
      return action.why !== 'push'
    case 'fork':
      return action.from === null
    case 'restore':
    case 'tell':
      return true
    case 'agent':
      return action.what === 'start'
    case 'status':
      return action.about === 'logs'
    default:
      return false
  }
}

/** Waits until a machine answers to whose guest no time has passed since, and sets it right. Returns what `waitAndTell` does, and more. */
export const waitAndSetRight = async (target: Target, deadline?: number): Promise<string> => {
  const note = await waitAndTell(target, deadline)
  const { setRight } = await import('./after-restore.ts')
  // With the address that it answered at.
  const row = requireEnvironment(target.context, target.row.ticket)
  return [note, ...(await setRight({ ...target, row })).map(text => `. ${text}`)].join('')
}

/** Starts a machine that is off, and waits until it answers. Returns sentences about it, with a space before each, or nothing. */
export const startMachine = async (target: Target): Promise<{ wasSaved: boolean; note: string }> => {
  const { context, caller, provider, row, id } = target
  // An earlier try may have begun to bring it back.
  const wasSaved = (await isSaved(provider, row)) || earlierTries(target).some(({ detail }) => detail.wakes === true)
  if (wasSaved) context.registry.setDetail(id, { wakes: true })
  await converge(target, 'running')
  if (!wasSaved) return { wasSaved, note: await waitAndTell(target) }
  try {
    return { wasSaved, note: await waitAndSetRight(target, MEMORY_DEADLINE_MS) }
  } catch (error) {
    if (caller.signal.aborted) throw error
    const { kind, message } = failureOf(error, `waiting for ${row.ticket}`)
    throw fail(
      kind,
      `${row.ticket}: its saved memory is back, and the machine does not answer: ${message}`,
      `Boot it: agent-swarm restart ${row.ticket}`,
      error,
    )
  }
}
