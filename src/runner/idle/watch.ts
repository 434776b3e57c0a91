/**
 * Puts machines to sleep that nobody uses. What a guest says of itself comes with the conversation on its link, once a minute: there
 * is no timer here, and the hypervisor is asked nothing.
 */
import type { EnvironmentKey } from '../../domain.ts'
import { failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import { ifUnlocked } from '../../registry/lock.ts'
import type { EnvironmentRow, Idleness } from '../../registry/registry.ts'
import type { IdleReport } from '../../schema/environment.ts'
import type { IdleRule } from '../../schema/workspace.ts'
import { isOwnSystem } from '../agent/own-system.ts'
import type { RunnerContext } from '../context.ts'
import { executeLocked } from '../executor.ts'
import type { Activity, OnActivity } from '../link/types.ts'
import { decide, isUsed, type Verdict, WARNING_MS } from './decide.ts'

/** Idle time that a kill -9 may forget. */
const KEPT_EVERY_MS = 5 * 60_000
const MOST_LOOKS = 20_000

/**
 * In memory, of one machine: its state at the last look, which is newer than the registry. `withdrawnAt`: when a warning was
 * withdrawn last.
 */
type Look = {
  at: number
  idleness: Idleness | null
  warnedMs: number | null
  keptMs: number
  withdrawnAt: number | null
}

const by = { via: 'clock', who: null } as const

/** What becomes of the machine after the warning. */
const warningOf = async (
  context: Pick<RunnerContext, 'provider' | 'clock'>,
  { provider: name }: Pick<EnvironmentRow, 'provider'>,
  idleMs: number,
  { stop = false }: IdleRule,
): Promise<IdleReport> => {
  const now = context.clock().getTime()
  const since = new Date(now - idleMs).toISOString()
  const provider = await context.provider(name)
  const at = new Date(now + WARNING_MS).toISOString()
  if (provider.save !== undefined) return { state: 'warned', since, becomes: 'saved', at, reason: null }
  if (stop) return { state: 'warned', since, becomes: 'stopped', at, reason: null }
  const reason = `${name} cannot save the memory of a machine, and the setting idle.stop is not on`
  return { state: 'warned', since, becomes: 'left running', at: null, reason }
}

type Watching = {
  context: RunnerContext
  log: Log
  rule: IdleRule
  /** Something on the ticket's pages is new. */
  onChange: (ticket: EnvironmentKey) => void
  signal: AbortSignal
  /** Milliseconds, of a clock that nobody sets. */
  now: () => number
}

/** It stays as it is, until it was used and is idle again. */
const giveUp = ({ context, onChange }: Watching, ticket: EnvironmentKey, reason: string): void => {
  const idleness = context.registry.idleness(ticket)
  if (idleness?.report?.state !== 'warned') return
  const report: IdleReport = { ...idleness.report, becomes: 'left running', at: null, reason: reason.slice(0, 1_000) }
  // The operation that failed was no use of it.
  const operation = context.registry.lastOperation(ticket)
  context.registry.setIdleness(ticket, { ...idleness, operation, report })
  onChange(ticket)
}

/** Saves or stops the machine, unless somebody works on it. */
const putToSleep = async (watching: Watching, ticket: EnvironmentKey): Promise<void> => {
  const { context, log, onChange, signal } = watching
  const { registry, home } = context
  const report = registry.idleness(ticket)?.report
  if (report?.state !== 'warned' || report.becomes === 'left running') return
  const action = { kind: 'stop', ticket, by, replyTo: null, idle: true } as const
  const outcome = await ifUnlocked(home, ticket, () =>
    executeLocked(context, action, { actionId: null, correlation: null, signal, onPhase: () => {} }),
  )
  if (outcome === null || signal.aborted) return
  if (outcome.result === 'failed') giveUp(watching, ticket, outcome.failure.message)
  log.info({ ticket, result: outcome.result }, outcome.result === 'done' ? outcome.summary : 'an idle machine')
  onChange(ticket)
}

const hostSide = ({ registry }: RunnerContext, ticket: EnvironmentKey, before: Idleness | null) => ({
  hasAgent: (registry.agent(ticket)?.state ?? 'ended') !== 'ended' || registry.waitingMessages(ticket).length > 0,
  hasOperation:
    registry.openOperations(ticket).length > 0 ||
    (before !== null && registry.lastOperation(ticket) !== before.operation),
})

/** What the registry keeps of a verdict. */
const idlenessOf = (
  { registry }: RunnerContext,
  ticket: EnvironmentKey,
  before: Idleness | null,
  { idle }: Verdict,
): Idleness | null =>
  idle === null
    ? null
    : {
        idleMs: Math.round(idle.idleMs),
        operation: before?.operation ?? registry.lastOperation(ticket),
        report: before?.report ?? null,
        ssh: null,
      }

/** Of a machine that this process has not seen before, what an earlier one kept. */
const firstLook = ({ registry }: RunnerContext, ticket: EnvironmentKey): Omit<Look, 'at'> => {
  const idleness = registry.idleness(ticket)
  const { idleMs, report } = idleness ?? { idleMs: 0, report: null }
  // The machine answers on its link: whatever put it to sleep is over.
  if (report !== null && report.state !== 'warned')
    return { idleness: null, warnedMs: null, keptMs: 0, withdrawnAt: null }
  return { idleness, warnedMs: report === null ? null : idleMs, keptMs: idleMs, withdrawnAt: null }
}

export const openIdleWatch = (options: Omit<Watching, 'rule'> & { rule: IdleRule | null }): OnActivity | null => {
  const { context, log, rule, onChange, now } = options
  if (rule === null) return null
  const { registry } = context
  const watching: Watching = { ...options, rule }
  const looks = new Map<string, Look>()

  const look = async (row: EnvironmentRow, activity: Activity): Promise<void> => {
    const { ticket, vmId } = row
    // A wake or a stop between two looks is an operation, and so it counts as use.
    const last = looks.get(vmId)
    const known = last ?? { ...firstLook(context, ticket), at: null }
    const at = now()
    const before = known.idleness
    const verdict = decide(
      before === null ? null : { idleMs: before.idleMs, warnedMs: known.warnedMs },
      {
        used: isUsed(activity, hostSide(context, ticket, before)),
        passedMs: last === undefined ? null : at - last.at,
        withdrawnMs: known.withdrawnAt === null ? null : at - known.withdrawnAt,
      },
      rule,
    )
    const idleness = idlenessOf(context, ticket, before, verdict)
    if (idleness !== null && verdict.does === 'warn')
      idleness.report = await warningOf(context, row, idleness.idleMs, rule)
    const isNews = verdict.does === 'warn' || (idleness === null) !== (before === null)
    const isDue = idleness !== null && idleness.idleMs - known.keptMs >= KEPT_EVERY_MS
    if (isNews || isDue) registry.setIdleness(ticket, idleness)
    const keptMs = isNews || isDue ? (idleness?.idleMs ?? 0) : known.keptMs
    const withdrawnAt = verdict.does === 'withdraw' ? at : known.withdrawnAt
    looks.set(vmId, { at, idleness, warnedMs: verdict.idle?.warnedMs ?? null, keptMs, withdrawnAt })
    if (verdict.does === 'warn') log.info({ ticket, report: idleness?.report }, 'nobody uses this machine')
    if (verdict.does === 'warn' || verdict.does === 'withdraw') onChange(ticket)
    if (verdict.does !== 'sleep') return
    // A machine that wakes begins anew.
    looks.delete(vmId)
    await putToSleep(watching, ticket)
  }

  return {
    ports: vmId => {
      const ticket = registry.environmentOfMachine(vmId)?.ticket
      return ticket === undefined ? [] : (registry.project(ticket)?.ports ?? [])
    },
    report: async (vmId, activity) => {
      try {
        // What this forgets, the registry has, but for minutes.
        if (looks.size > MOST_LOOKS) looks.clear()
        const row = registry.environmentOfMachine(vmId)
        // What runs in a folder runs on the owner's own system, which is not idle because of it.
        if (row?.status !== 'running' || isOwnSystem(await context.provider(row.provider))) return
        await look(row, activity)
      } catch (error) {
        log.warn({ vmId, err: error }, failureOf(error, 'looking whether a machine is used').message)
      }
    },
  }
}
