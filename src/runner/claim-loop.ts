/** Claims actions from the bot while there is a free slot, and works on them side by side. */
import * as v from 'valibot'
import type { Ticket } from '../domain.ts'
import { type FailureError, fail } from '../errors.ts'
import type { Log } from '../log.ts'
import { openPump, type Pump } from '../pump.ts'
import type { Action } from '../schema/action.ts'
import { ACQUIRE_WAIT_MS, type AcquireRequest, fence, type Lease, lease } from '../schema/runner-protocol.ts'
import { type BotClient, botBackoff } from './bot-client.ts'
import type { RunnerContext } from './context.ts'
import type { OfferSource } from './offer.ts'
import { reportOutcome, workOn } from './work.ts'

/** Above the bot's own wait for work. */
const ACQUIRE_DEADLINE_MS = ACQUIRE_WAIT_MS + 15_000
const MAX_ISSUES = 5

export type ClaimContext = {
  context: RunnerContext
  bot: BotClient
  offer: OfferSource
  log: Log
  /** The actions that are being worked on. */
  running: Set<Action>
  /** Waits until the bot understands this runner. An outcome that it did not understand would be lost. */
  accepted: () => Promise<void>
  /** An action ended: environments and room may have changed. */
  onEnded: (ticket: Ticket) => void
}

/** Refuses a lease that does not parse: nothing runs, and the bot learns why if its id and token can be read. */
const refuse = async (
  { bot, log }: ClaimContext,
  body: unknown,
  issues: readonly v.BaseIssue<unknown>[],
  signal: AbortSignal,
): Promise<FailureError> => {
  const reasons = issues.slice(0, MAX_ISSUES).map(issue => `${v.getDotPath(issue) ?? 'lease'}: ${issue.message}`)
  const refusal = fail(
    'refused',
    `this runner does not understand the action: ${reasons.join('; ')}`,
    "Install the bot's version of agent-swarm on the runner's host.",
  )
  const fenced = v.safeParse(fence, body)
  log.error(
    { action: fenced.success ? fenced.output.id : null, reasons },
    'refused a lease that does not parse; nothing ran',
  )
  if (fenced.success)
    await reportOutcome(bot, fenced.output, { result: 'failed', failure: refusal.failure, environment: null }, signal)
  return refusal
}

const claim = async (claims: ClaimContext, signal: AbortSignal): Promise<Lease[]> => {
  const { context, bot, offer } = claims
  await claims.accepted()
  const { registry, config } = context
  const request: AcquireRequest = {
    runnerId: registry.runnerId(),
    offer: await offer.read(),
    slots: config.runnerSlots,
  }
  const body = await bot.post('acquire', request, v.unknown(), { signal, deadlineMs: ACQUIRE_DEADLINE_MS })
  bot.report(null)
  if (body === null) return []
  const parsed = v.safeParse(lease, body)
  // Throwing delays the next claim from a bot that hands out such leases.
  if (!parsed.success) throw await refuse(claims, body, parsed.issues, signal)
  return [parsed.output]
}

const work = async (claims: ClaimContext, claimed: Lease, cut: AbortSignal): Promise<void> => {
  const { running, onEnded } = claims
  running.add(claimed.action)
  try {
    await workOn(claims, claimed, cut)
  } finally {
    running.delete(claimed.action)
    onEnded(claimed.action.ticket)
  }
}

export const openClaimLoop = (claims: ClaimContext): Pump =>
  openPump({
    take: (_free, signal) => claim(claims, signal),
    run: (claimed, cut) => work(claims, claimed, cut),
    limit: claims.context.config.runnerSlots,
    // The bot answers when there is work, or after ACQUIRE_WAIT_MS.
    dueIn: async () => null,
    pollMs: 1,
    backoff: botBackoff,
    onError: (error, _pauseMs, claimed) => {
      if (claimed === null) claims.bot.report(error)
      else
        claims.log.error(
          { err: error, action: claimed.id },
          'an action ended unexpectedly; the queue hands it out again',
        )
    },
  })
