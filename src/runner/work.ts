/** Works on one lease: renews it, executes its action, and reports the outcome. */
import { setTimeout as delay } from 'node:timers/promises'
import { isRetryable } from '../errors.ts'
import type { Log } from '../log.ts'
import { type RunningCommand, withRunningCommands } from '../running-commands.ts'
import type { AttemptProgress, Progress } from '../schema/action.ts'
import type { Outcome } from '../schema/outcome.ts'
import {
  type CompleteRequest,
  type FailRequest,
  type Lease,
  type LeaseResponse,
  leaseResponse,
  RENEW_MS,
  type RenewRequest,
} from '../schema/runner-protocol.ts'
import type { BotClient } from './bot-client.ts'
import { withCommandLog } from './command-log.ts'
import type { RunnerContext } from './context.ts'
import { execute, WAITING_PHASE } from './executor.ts'

/** Work that has lasted longer is reported where people look. Milliseconds. */
const LONG_MS = 30_000

/** The phase, with the command that it has waited for too long, or the lock. */
export const progressNow = (
  { clock }: Pick<RunnerContext, 'clock'>,
  progress: Progress | null,
  commands: ReadonlySet<RunningCommand>,
): AttemptProgress | null => {
  if (progress === null) return null
  const now = clock().getTime()
  const moment = (at: number) => new Date(now + at - performance.now()).toISOString()
  const [command] = commands
  if (command !== undefined && performance.now() - command.since >= LONG_MS)
    return {
      ...progress,
      waitsFor: { what: command.what, since: moment(command.since), until: moment(command.until) },
    }
  const isLocked = progress.phase === WAITING_PHASE && now - Date.parse(progress.at) >= LONG_MS
  return isLocked
    ? { ...progress, waitsFor: { what: 'another command on this ticket', since: progress.at, until: null } }
    : progress
}

/** Renews the lease until `done`. Calls `onLost` when the bot has given the action to another runner. */
const renewUntil = async (
  bot: BotClient,
  request: () => RenewRequest,
  { done, onLost }: { done: AbortSignal; onLost: () => void },
): Promise<void> => {
  while (!done.aborted) {
    await delay(RENEW_MS, undefined, { signal: done }).catch(() => {})
    if (done.aborted) return
    // A bot that is away gives the ticket to nobody else, so the work goes on, and the next renewal may succeed.
    const response = await bot.post('renew', request(), leaseResponse, { signal: done }).catch(() => null)
    if (response?.lease === 'lost') onLost()
  }
}

/** Null when the bot never received it: it hands the action out again, and gets the same outcome then. */
export const reportOutcome = (
  bot: BotClient,
  { id, token }: Pick<Lease, 'id' | 'token'>,
  outcome: Outcome,
  signal: AbortSignal,
): Promise<LeaseResponse | null> => {
  if (outcome.result !== 'failed') {
    const request: CompleteRequest = { id, token, outcome }
    return bot.insist('complete', request, leaseResponse, signal)
  }
  const { failure, environment } = outcome
  const request: FailRequest = { id, token, failure, retry: isRetryable(failure.kind), environment }
  return bot.insist('fail', request, leaseResponse, signal)
}

export const workOn = async (
  { context, bot, log }: { context: RunnerContext; bot: BotClient; log: Log },
  lease: Lease,
  cut: AbortSignal,
): Promise<void> => {
  const { id, token, action, correlation, attempt } = lease
  const lost = new AbortController()
  const done = new AbortController()
  let progress: Progress | null = null
  const actionLog = log.child({ correlation, action: id, ticket: action.ticket, kind: action.kind })
  actionLog.info({ attempt }, 'begins')
  const commands = new Set<RunningCommand>()
  const report = () => ({ id, token, progress: progressNow(context, progress, commands) })
  const renewing = renewUntil(bot, report, { done: done.signal, onLost: () => lost.abort() })
  const onPhase = (phase: string) => {
    progress = { phase, at: context.clock().toISOString() }
    actionLog.debug({ phase }, 'phase')
  }
  let outcome: Outcome
  try {
    outcome = await withCommandLog(actionLog, () =>
      withRunningCommands(commands, () =>
        execute(context, action, { actionId: id, correlation, signal: lost.signal, onPhase }),
      ),
    )
  } finally {
    done.abort()
    await renewing
  }
  const response = await reportOutcome(bot, lease, outcome, cut)
  const failure = outcome.result === 'failed' ? outcome.failure : null
  actionLog.info(
    { result: outcome.result, failure: failure?.kind, lease: response?.lease ?? 'not reported' },
    failure?.message ?? 'ended',
  )
}
