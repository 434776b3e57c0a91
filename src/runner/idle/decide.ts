/** When a machine that nobody uses is warned of, and put to sleep. Pure: time is what was seen, and no clock is asked. */
import type { IdleRule } from '../../schema/workspace.ts'
import type { Activity } from '../link/types.ts'

const MINUTE = 60_000
/** Between the warning and what it warns of. */
export const WARNING_MS = 15 * MINUTE
/**
 * A longer time between two looks counts for nothing: the host or this process slept, or the machine's link was away, and nobody
 * saw what happened.
 */
export const MAX_GAP_MS = 4 * MINUTE
/** A machine at rest is below this, on average over a minute. */
const LOAD = 0.3

/** What the host knows of a machine, besides what its guest says. */
export type HostSide = { hasAgent: boolean; hasOperation: boolean }

/** Whether somebody or something uses the machine. */
export const isUsed = ({ sessions, connections, load }: Activity, { hasAgent, hasOperation }: HostSide): boolean =>
  hasAgent || hasOperation || sessions > 0 || connections > 0 || load >= LOAD

/** `warnedMs`: how long it had been idle when it was warned; null before. */
export type Idle = { idleMs: number; warnedMs: number | null }
export type Verdict = {
  /** Null: it is used. */
  idle: Idle | null
  does: 'nothing' | 'warn' | 'withdraw' | 'sleep'
}

/** How long it must have been idle before it is warned. */
const warnAfter = ({ minutes }: IdleRule): number => Math.max(0, minutes * MINUTE - WARNING_MS)

/**
 * `passedMs`: since it was looked at before; null: it was not. `withdrawnMs`: since a warning was withdrawn; null: none was. A
 * machine that is used now and then, or pretends to be, is warned no more often than every WARNING_MS: each warning is a comment.
 */
export const decide = (
  before: Idle | null,
  { used, passedMs, withdrawnMs = null }: { used: boolean; passedMs: number | null; withdrawnMs?: number | null },
  rule: IdleRule,
): Verdict => {
  const warnedMs = before?.warnedMs ?? null
  if (used) return { idle: null, does: warnedMs === null ? 'nothing' : 'withdraw' }
  const isSeen = before !== null && passedMs !== null && passedMs >= 0 && passedMs <= MAX_GAP_MS
  const idleMs = (before?.idleMs ?? 0) + (isSeen ? passedMs : 0)
  if (warnedMs !== null)
    return { idle: { idleMs, warnedMs }, does: idleMs - warnedMs >= WARNING_MS ? 'sleep' : 'nothing' }
  const isWarnedEnough = withdrawnMs !== null && withdrawnMs < WARNING_MS
  return idleMs >= warnAfter(rule) && !isWarnedEnough
    ? { idle: { idleMs, warnedMs: idleMs }, does: 'warn' }
    : { idle: { idleMs, warnedMs: null }, does: 'nothing' }
}
