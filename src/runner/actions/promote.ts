/**
 * Makes an attempt the machine of its ticket. That is decided in one commit; what follows is done again by another try, and by
 * recovery and the reconciler after a crash: the marks, and the deletes of the former machine and the other attempts.
 */
import { attemptKey, type EnvironmentKey, type Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { withLocks } from '../../registry/lock.ts'
import { noSuchAttempt, requireEnvironment } from '../context.ts'
import { runPart } from '../journal.ts'
import { type ActionRunner, earlierTries, type Operation, type Result, throwIfCancelled } from '../operation.ts'
import { deleteEnvironment } from './delete.ts'
import { markAll } from './move.ts'

/** The attempt, which is one that can be worked with. */
export const requireAttempt = (
  { context }: Pick<Operation, 'context'>,
  ticket: string,
  attempt: number,
): EnvironmentKey => {
  const key = attemptKey(ticket, attempt)
  const row = context.registry.environment(key)
  if (row === null) throw noSuchAttempt(context, key)
  if (row.status !== 'running' && row.status !== 'stopped')
    throw fail('refused', `promoting ${key}: it is ${row.status}`, `See: agent-swarm status ${key}`)
  return key
}

/** `name`: for people, to whom the key that the former machine got says nothing. */
type Leaving = { key: EnvironmentKey; ticket: EnvironmentKey; name: string }
/** `left`: why it is still there, a sentence. */
type Dismissed = Leaving & { vmId: string | null } & ({ left: string } | { left: null; rescued: string | null })

const leavingOf = (ticket: Ticket, { others, former }: Going): Leaving[] =>
  [...(former === null ? [] : [former]), ...others.filter(key => key !== former)].map(key =>
    key === former ? { key, ticket, name: `the former machine of ${ticket}` } : { key, ticket: key, name: key },
  )

/** By the rules of every delete: its unsaved work is saved first, or it is kept. Null: somebody goes on with it. */
const dismiss = async (operation: Operation, leaving: Leaving): Promise<Dismissed | null> => {
  const { context, caller, by } = operation
  const { key, name } = leaving
  const row = context.registry.environment(key)
  if (row === null) {
    // Recovery finished what an earlier try had begun, or somebody deleted it meanwhile.
    const last = context.registry.operations(key, 1)[0]
    if (last?.kind !== 'delete' || last.outcome?.result !== 'done') return null
    return { ...leaving, vmId: last.vmId, left: null, rescued: last.outcome.rescued ?? null }
  }
  // Since an earlier try, somebody has gone on with it.
  if (row.dismissed !== true) return null
  const { vmId } = row
  const named = { ...operation, caller: { ...caller, onPhase: (phase: string) => caller.onPhase(`${name}: ${phase}`) } }
  const outcome = await runPart(named, { kind: 'delete', ticket: key }, part =>
    deleteEnvironment(part, { kind: 'delete', ticket: key, by, replyTo: null, force: false }),
  )
  if (outcome.result !== 'failed')
    return { ...leaving, vmId, left: null, rescued: outcome.result === 'done' ? (outcome.rescued ?? null) : null }
  // Cancelled, in whatever way its delete failed then: the reconciler goes on.
  if (caller.signal.aborted || outcome.failure.kind === 'cancelled')
    throw fail('cancelled', outcome.failure.message, outcome.failure.remedy)
  const { kind, message } = outcome.failure
  const isFormer = leaving.ticket !== key
  // Anything else may pass: the reconciler tries again.
  if (kind !== 'unsaved-work')
    return {
      ...leaving,
      vmId,
      left: `${isFormer ? `The former machine of ${leaving.ticket}, now ${key},` : key} is still there: ${message}. Its delete is tried again, and it is kept if its unsaved work cannot be saved`,
    }
  context.registry.keep(key)
  return {
    ...leaving,
    vmId,
    left: isFormer ? `The former machine of ${leaving.ticket} is now ${key}. ${message}` : message,
  }
}

/** `former`: the key of the former machine, which is one of `others`; null when there was none. */
type Going = { others: readonly EnvironmentKey[]; former: EnvironmentKey | null }

/** Decides it, unless an earlier try has. Returns the keys of those that go. */
const decide = async (operation: Operation, ticket: string, attempt: number): Promise<Going> => {
  const { context, id } = operation
  const { registry } = context
  const earlier = earlierTries(operation).findLast(({ detail }) => detail.reached === 'decided')?.detail
  if (earlier !== undefined) {
    registry.setDetail(id, earlier)
    return { others: earlier.attempts ?? [], former: earlier.former ?? null }
  }
  const key = requireAttempt(operation, ticket, attempt)
  await throwIfCancelled(operation)
  return registry.exclusively(() => {
    const going = registry.promote(key)
    const { others, former } = going
    const promoted = { attempt, vmId: requireEnvironment(context, ticket).vmId }
    registry.setDetail(id, { reached: 'decided', attempts: others, promoted, ...(former === null ? {} : { former }) })
    const agent = registry.agent(ticket)
    // A restore of the former machine is none of this one.
    if (agent !== null) registry.setAgent(ticket, { ...agent, progress: { ...agent.progress, operation: id } })
    return going
  })
}

const promoteLocked = async (
  operation: Operation,
  { ticket, attempt }: { ticket: Ticket; attempt: number },
): Promise<Result> => {
  const going = await decide(operation, ticket, attempt)
  operation.caller.onPhase('promote')
  await markAll(operation, [ticket, ...going.others])
  const dismissed: Dismissed[] = []
  for (const leaving of leavingOf(ticket, going)) {
    const gone = await dismiss(operation, leaving)
    if (gone !== null) dismissed.push(gone)
  }
  const deleted = dismissed.filter(each => each.left === null)
  const rescued = deleted.flatMap(({ name, rescued }) => (rescued === null ? [] : [`${name}: ${rescued}`])).join('; ')
  const isStopped = operation.context.registry.environment(ticket)?.status === 'stopped'
  const summary = [
    `${attemptKey(ticket, attempt)} is now the machine of ${ticket}`,
    ...(deleted.length === 0 ? [] : [`Deleted: ${deleted.map(({ name }) => name).join(', ')}`]),
    ...dismissed.flatMap(each => each.left ?? []),
    ...(rescued === '' ? [] : [`Rescued: ${rescued}`]),
    ...(isStopped ? [`It is stopped. Start it: agent-swarm start ${ticket}`] : []),
  ].join('. ')
  return {
    summary,
    ...(rescued === '' ? {} : { rescued }),
    deleted: deleted.flatMap(({ ticket, vmId }) => (vmId === null ? [] : { ticket, vmId })),
  }
}

export const promote: ActionRunner<'promote'> = (operation, action) => {
  const { context, caller } = operation
  // The key that the former machine gets. The executor holds the locks of the others.
  const key = [context.registry.freeAttempt(action.ticket)]
  return withLocks(context.home, key, { signal: caller.signal, onWait: () => {} }, () =>
    promoteLocked(operation, action),
  )
}
