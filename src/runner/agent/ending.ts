/** How a run ended, and whether its work is started again. */

import { randomBytes } from 'node:crypto'
import type { EnvironmentKey } from '../../domain.ts'
import type { AgentEnding, AgentMessage, AgentRow, AgentUse, Registry } from '../../registry/registry.ts'
import { counted } from '../../words.ts'
import { overBudget } from '../model-gateway/gateway.ts'
import type { UnitState } from './guest.ts'
import { plainLine } from './readable.ts'
import { blockedReason, type RunReading } from './reading.ts'

const MAX_REASON = 1_000
/** Restarts of one work that nobody asked for: a machine that always restarts would go on for ever. */
const MAX_RESTARTS = 10
/** GNU timeout, shells: the program is not there. */
const NOT_FOUND = 127

/** Of a unit that does not run any more. */
export const judge = (row: AgentRow, use: AgentUse, unit: UnitState, reading: RunReading): AgentEnding => {
  const over = overBudget(use, row.progress.limits)
  // The gateway's numbers, whatever the run says of itself.
  if (over !== null) return { result: 'out of budget', reason: over }
  if (unit.result === 'timeout') return outOfTime(row)
  if (unit.exit === null)
    return { result: 'crashed', reason: `its unit ended without an exit status (${plainLine(unit.result, 100)})` }
  const { result, words } = reading
  const errors = plainLine(unit.errors.trim().split('\n').slice(-5).join(' '), MAX_REASON)
  if (unit.exit === 0 && result?.isError !== true) {
    const blocked = blockedReason(words === '' ? (result?.text ?? '') : words)
    return blocked === null
      ? { result: 'done', reason: null }
      : { result: 'blocked', reason: plainLine(blocked, MAX_REASON) }
  }
  if (unit.exit === NOT_FOUND)
    return {
      result: 'crashed',
      reason: `its program is not in the machine: ${errors}. Install it in the base image or in setup: docs/agents.md`,
    }
  const said = result === null || result.text === '' ? errors : plainLine(result.text, MAX_REASON)
  return { result: 'crashed', reason: `${said === '' ? '' : `${said} `}(exit status ${unit.exit})` }
}

export const outOfTime = ({ progress }: AgentRow): AgentEnding => {
  const minutes = progress.limits?.minutes ?? 0
  return { result: 'out of time', reason: `it worked for ${counted(minutes, 'minute')}` }
}

const CLOCK = { via: 'clock', who: null } as const

/** The next run of this agent, in its conversation. */
export const nextRunOf = (row: AgentRow, more: Partial<AgentRow> = {}): AgentRow => ({
  ...row,
  ...{ run: randomBytes(4).toString('hex'), state: 'wanted', startedAt: null, endedAt: null },
  ...{ result: null, reason: null, summary: null, workedMs: 0 },
  progress: { ...row.progress, turnsBefore: row.turns, boot: null, ending: null, restarts: 0 },
  ...more,
})

/**
 * Starts the work of a run again that something else than its program ended. Its messages are given again: the conversation may
 * be from before them. False when it was started again too often.
 */
export const startAgain = (
  registry: Registry,
  ticket: EnvironmentKey,
  row: AgentRow,
  what: string,
  at: Date,
): boolean => {
  if (row.progress.restarts >= MAX_RESTARTS) return false
  const note = registry.note(ticket)
  const text = [
    `${what} Your connections and the programs that you started are gone, and files may be as they were before. Look at what is there (git status, git log, git fetch) before you go on.`,
    ...(note === null || note === undefined ? [] : [`Before this, somebody or you noted (${note.at}): ${note.text}`]),
  ].join('\n\n')
  const next = nextRunOf(row, { workedMs: row.workedMs })
  registry.exclusively(() => {
    const message: Omit<AgentMessage, 'id'> = { text, by: CLOCK, at: at.toISOString(), round: null }
    const id = registry.addMessage(ticket, message)
    registry.nextRun(
      ticket,
      {
        ...next,
        progress: {
          ...next.progress,
          operation: registry.lastOperation(ticket),
          restarts: row.progress.restarts + 1,
        },
      },
      [...registry.messagesOf(ticket, row.run), { ...message, id }],
    )
  })
  return true
}
