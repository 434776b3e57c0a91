/**
 * Does what the registry says of agents: starts those that are wanted, follows what they print, ends them in time, and hands
 * messages over. All that matters is in the registry and in the machine, so that after kill -9 another process goes on: a unit's
 * name is that of its run, and one run is started once.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { atMost } from '../../clock.ts'
import type { EnvironmentKey } from '../../domain.ts'
import { failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import { ifUnlocked } from '../../registry/lock.ts'
import type { AgentEnding, AgentRow, EnvironmentRow } from '../../registry/registry.ts'
import type { AgentRules } from '../../schema/workspace.ts'
import type { RunnerContext } from '../context.ts'
import { overBudget } from '../model-gateway/gateway.ts'
import { judge, nextRunOf, outOfTime, startAgain } from './ending.ts'
import { type Following, followRun } from './following.ts'
import type { AgentGuest, UnitState } from './guest.ts'
import { limitsOf, programOf, type StartContext, specOf, verdictOf } from './start.ts'

const TICK_MS = 1_000
/** So many times as long between two looks at the registry while there is no agent. */
const IDLE = 30
/** Between two looks at a unit that seems to run. Its end shows at once, by a file that is followed, unless its machine cannot write. */
const LOOK_MS = 20_000
/** A gap between two ticks that is longer was no work that this process saw: the host slept, or the machine did. */
const MAX_GAP_MS = 30_000
/** Between two writes of counters: each one is a heartbeat. */
const WRITE_MS = 10_000
/** How long the last output may take after the unit's end. */
const DRAIN_MS = 30_000
const END_MS = 2_000
/** How long a machine may say that an agent that was ended still runs. Its model is closed all the while. */
const STOPPING_MS = 3 * 60_000
/** How long a machine may not say that an agent was started. The model is open to it meanwhile, and its time is not counted. */
const STARTING_MS = 5 * 60_000
/** After a look that failed. */
const RETRY_MS = 5_000
/** Until it is judged again whether an agent that waits may start: that asks the hypervisor and GitHub, under its ticket's lock. */
const WAITING_MS = 30_000

export type SupervisorContext = StartContext &
  RunnerContext & {
    /** Null: this process holds no link to the machine. */
    guestOf: (environment: EnvironmentRow) => Promise<AgentGuest | null>
    log: Pick<Log, 'info' | 'warn'>
    /** Milliseconds between two looks at the registry. */
    every?: number
    /** Milliseconds until a run that the machine does not end is over all the same. */
    stoppingMs?: number
    /** Milliseconds until a run whose start the machine does not confirm is over. */
    startingMs?: number
    /** Milliseconds until an agent that waits is judged again while nothing changed for it. */
    waitingMs?: number
  }

type Looking = { ticket: EnvironmentKey; row: AgentRow; environment: EnvironmentRow; guest: AgentGuest }

/** Writes how the run ended. */
const finish = (
  { registry, clock, log }: SupervisorContext,
  { ticket, row }: Looking,
  ending: AgentEnding,
  following: Following | null,
) => {
  const isWritten = registry.updateAgent(ticket, row.run, known => ({
    ...ending,
    state: 'ended',
    endedAt: clock().toISOString(),
    ...(following === null ? {} : countersOf(known, following)),
    summary: following === null ? null : following.words() || null,
    progress: { ...known.progress, ending: null },
  }))
  if (isWritten) log.info({ ticket, run: row.run, result: ending.result }, 'the agent ended')
}

const countersOf = (known: AgentRow, following: Following): Partial<AgentRow> => ({
  turns: known.progress.turnsBefore + following.turns(),
  session: following.session() ?? known.session,
  workedMs: Math.max(known.workedMs, following.workedMs),
})

const begin = async (context: SupervisorContext, { ticket, row, guest }: Looking, rules: AgentRules): Promise<void> => {
  const { registry, clock, log } = context
  // Before the unit: its first request must find a run at work. Without a boot, the next look starts the same run again.
  const isPresent = registry.updateAgent(ticket, row.run, known => ({
    ...{ state: 'running', reason: null, pullRequest: rules.pullRequest },
    startedAt: known.startedAt ?? clock().toISOString(),
    progress: { ...known.progress, limits: limitsOf(rules), operation: registry.lastOperation(ticket) },
  }))
  if (!isPresent) return
  const spec = specOf(context, ticket, row, rules, guest)
  const { how, boot } = await guest.start(row.run, spec)
  // The conversation is not there in this state of the machine: the next look begins a new one.
  if (how === 'no-session') return void registry.updateAgent(ticket, row.run, () => ({ session: null }))
  registry.updateAgent(ticket, row.run, known => ({ progress: { ...known.progress, boot } }))
  log.info({ ticket, run: row.run, how }, 'the agent is at work')
}

/** Nothing else happens to the machine meanwhile. A lock that is not free is tried again at the next look. Returns whether it waits. */
const startUnlocked = async (context: SupervisorContext, looking: Looking): Promise<boolean> => {
  const { ticket, row, environment } = looking
  const isWaiting = await ifUnlocked(context.home, ticket, async () => {
    const verdict = await verdictOf(context, row, environment)
    if ('start' in verdict) await begin(context, looking, verdict.start)
    else if ('end' in verdict) finish(context, looking, verdict.end as AgentEnding, null)
    else if (row.reason !== verdict.wait)
      context.registry.updateAgent(ticket, row.run, () => ({ reason: verdict.wait }))
    return 'wait' in verdict
  })
  return isWaiting === true
}

/** A unit that does not run: how the run ended, or that its work begins again. Null: its last output is on the way. */
const afterUnit = (
  { registry, clock }: SupervisorContext,
  { ticket, row }: Looking,
  unit: UnitState,
  following: Following,
): AgentEnding | 'again' | null => {
  const isGone = unit.exit === null && (!unit.folder || unit.boot !== row.progress.boot)
  if (isGone && row.progress.ending === null) {
    const what = unit.folder ? 'The machine was restarted.' : 'The machine is in another state than before.'
    if (startAgain(registry, ticket, { ...row, ...countersOf(row, following) }, what, clock())) return 'again'
    return { result: 'crashed', reason: `${what} That happened too often.` }
  }
  following.drainSince ??= performance.now()
  if (following.size() < unit.size && performance.now() - following.drainSince < DRAIN_MS) return null
  following.end()
  return row.progress.ending ?? judge(row, registry.agentUse(ticket), unit, following.reading())
}

/** A decision to end it, written down first. */
const decideEnd = ({ registry }: SupervisorContext, { ticket, row }: Looking, workedMs: number): AgentEnding | null => {
  if (row.progress.ending !== null) return row.progress.ending
  const { limits } = row.progress
  const over = overBudget(registry.agentUse(ticket), limits)
  const isLate = limits !== null && workedMs >= limits.minutes * 60_000
  if (over === null && !isLate) return null
  const ending: AgentEnding = over === null ? outOfTime(row) : { result: 'out of budget', reason: over }
  registry.updateAgent(ticket, row.run, known => ({
    progress: { ...known.progress, ending: known.progress.ending ?? ending },
  }))
  return ending
}

const writeCounters = ({ registry }: SupervisorContext, ticket: EnvironmentKey, following: Following): void => {
  following.writtenAt = performance.now()
  registry.updateAgent(ticket, following.run, known => countersOf(known, following))
}

/** What is known of the run that works now. */
const keepCounters = (context: SupervisorContext, { ticket, row }: Looking, following: Following): void => {
  const isNew = following.session() !== null && row.session === null
  if (isNew || performance.now() - following.writtenAt >= WRITE_MS) writeCounters(context, ticket, following)
}

/** Counts the time since the last tick. A machine that keeps a look waiting works meanwhile. */
const countWork = (following: Following, now: number): void => {
  const gap = now - (following.seenAt ?? now)
  if (gap > 0) following.workedMs += Math.min(gap, MAX_GAP_MS)
  following.seenAt = now
}

/** Writes what it counted, too: a machine decides how often its link is lost. */
const endFollowing = (context: SupervisorContext, ticket: EnvironmentKey, following: Following): void => {
  // A run that has ended is written already.
  if (!following.isActive()) return
  if (following.seenAt !== null) countWork(following, context.clock().getTime())
  following.stop()
  writeCounters(context, ticket, following)
}

const atWork = async (context: SupervisorContext, looking: Looking, following: Following): Promise<void> => {
  const { guest } = looking
  countWork(following, context.clock().getTime())
  const ending = decideEnd(context, looking, following.workedMs)
  keepCounters(context, looking, following)
  const isDue = following.hasEnded() || performance.now() - following.lookedAt >= LOOK_MS
  if (ending === null && !isDue && following.drainSince === null) return
  if (ending !== null) {
    following.stoppingSince ??= performance.now()
    if (performance.now() - following.stoppingSince > (context.stoppingMs ?? STOPPING_MS)) {
      // The machine lies, or cannot stop it. The run ends here: what goes on there has no model.
      following.stop()
      return finish(context, looking, ending, following)
    }
    await guest.stop(looking.row.run)
  }
  const unit = await guest.look(looking.row.run)
  following.lookedAt = performance.now()
  if (unit.active) return
  const row = context.registry.agent(looking.ticket)
  if (row === null || row.run !== looking.row.run) return
  const ended = afterUnit(context, { ...looking, row }, unit, following)
  if (ended === null) return
  following.stop()
  if (ended !== 'again') finish(context, looking, ended, following)
}

/** A restore took the machine back, and may have brought the unit of an old run to life. */
const afterRestore = async (
  { registry, clock, log }: SupervisorContext,
  { ticket, row, guest }: Looking,
  { id, name }: { id: number; name: string | null },
): Promise<void> => {
  await guest.stopAll()
  const isAtWork = row.state === 'running' && row.progress.ending === null
  const what = `The machine was restored to the checkpoint ${name ?? '(unknown)'}.`
  if (isAtWork && startAgain(registry, ticket, row, what, clock())) {
    log.info({ ticket, checkpoint: name }, 'the agent starts again after a restore')
    return
  }
  registry.updateAgent(ticket, row.run, known => ({
    progress: {
      ...known.progress,
      operation: id,
      ...(isAtWork ? { ending: { result: 'crashed', reason: `${what} That happened too often.` } as const } : {}),
    },
  }))
}

const handOver = ({ registry }: SupervisorContext, ticket: EnvironmentKey, row: AgentRow): void => {
  const messages = registry.waitingMessages(ticket)
  if (messages.length > 0) registry.nextRun(ticket, nextRunOf(row), messages)
}

/** Runs that are being started, and those that wait. Times are monotonic. */
const openStarts = (context: SupervisorContext) => {
  const { registry, closed } = context
  /** By run: since when. */
  const starting = new Map<string, number>()
  /** What was known of one that waits, and when it is judged again. */
  const waits = new Map<EnvironmentKey, { known: string; again: number }>()
  return {
    /** A run that the machine does not say it started, for too long. It is forgotten then. */
    isStuck: ({ state, run, progress }: AgentRow): boolean => {
      const since = starting.get(run) ?? performance.now()
      const isStarting = state === 'running' && progress.boot === null
      const isStuck = isStarting && performance.now() - since > (context.startingMs ?? STARTING_MS)
      if (isStarting && !isStuck) starting.set(run, since)
      else starting.delete(run)
      return isStuck
    },
    startUnlessItWaits: async (looking: Looking): Promise<void> => {
      const { ticket, row, environment } = looking
      const known = JSON.stringify([{ ...row, reason: null }, environment, registry.project(ticket), closed()])
      const wait = waits.get(ticket)
      if (wait?.known === known && wait.again > performance.now()) return
      const isWaiting = await startUnlocked(context, looking)
      if (isWaiting) waits.set(ticket, { known, again: performance.now() + (context.waitingMs ?? WAITING_MS) })
      else waits.delete(ticket)
    },
  }
}

/** `nudge`: something changed. `close` leaves the agents at work; the next process goes on. */
export const openSupervisor = (context: SupervisorContext) => {
  const { registry, home, log, every = TICK_MS } = context
  const ending = new AbortController()
  const busy = new Set<EnvironmentKey>()
  const followings = new Map<EnvironmentKey, Following>()
  const problems = new Map<EnvironmentKey, { message: string; again: number }>()
  let woken = new AbortController()
  const starts = openStarts(context)

  const stopFollowing = (ticket: EnvironmentKey): void => {
    const following = followings.get(ticket)
    followings.delete(ticket)
    try {
      if (following !== undefined) endFollowing(context, ticket, following)
    } catch (error) {
      report(ticket, error)
    }
  }
  const followingOf = async ({ ticket, row, environment: { vmId }, guest }: Looking): Promise<Following> => {
    const known = followings.get(ticket)
    if (known?.run === row.run && known.isActive()) return known
    stopFollowing(ticket)
    // Under the key that its machine had before: both would write into one file.
    for (const [key, { run }] of followings) if (run === row.run) stopFollowing(key)
    const following = await followRun({ home, guest, vmId, row, program: programOf(context, row), nudge })
    followings.set(ticket, following)
    return following
  }
  const lookAt = async (ticket: EnvironmentKey): Promise<void> => {
    const [row, environment] = [registry.agent(ticket), registry.environment(ticket)]
    if (row === null || environment?.status !== 'running') return stopFollowing(ticket)
    const guest = await context.guestOf(environment)
    if (guest === null) return stopFollowing(ticket)
    const looking: Looking = { ticket, row, environment, guest }
    const restored = registry.restoredSince(ticket, row.progress.operation)
    if (restored !== null) {
      stopFollowing(ticket)
      return afterRestore(context, { ...looking, row: registry.agent(ticket) ?? row }, restored)
    }
    if (row.state === 'ended') return handOver(context, ticket, row)
    if (row.progress.ending !== null && row.progress.boot === null) {
      // Its start may have been cut off after the unit was there.
      await guest.stop(row.run)
      return finish(context, looking, row.progress.ending, null)
    }
    if (starts.isStuck(row)) {
      const minutes = Math.round((context.startingMs ?? STARTING_MS) / 60_000)
      const reason = `the machine did not say within ${minutes} minutes that it was started`
      finish(context, looking, { result: 'crashed', reason }, null)
      return guest.stop(row.run)
    }
    if (row.state === 'wanted' || row.progress.boot === null) return starts.startUnlessItWaits(looking)
    return atWork(context, looking, await followingOf(looking))
  }
  /** What fails now is tried at the next look; it is reported once. */
  const report = (ticket: EnvironmentKey, error: unknown): void => {
    const { message } = failureOf(error, `looking after the agent of ${ticket}`)
    const isKnown = problems.get(ticket)?.message === message
    problems.set(ticket, { message, again: performance.now() + RETRY_MS })
    if (!isKnown && !ending.signal.aborted) log.warn({ ticket }, message)
  }
  const tick = (): Promise<void>[] => {
    const tickets = registry.agentsToLookAt()
    for (const ticket of followings.keys()) if (!tickets.includes(ticket)) stopFollowing(ticket)
    for (const ticket of busy) {
      const following = followings.get(ticket)
      if (following !== undefined && following.seenAt !== null) countWork(following, context.clock().getTime())
    }
    return tickets
      .filter(ticket => !busy.has(ticket) && (problems.get(ticket)?.again ?? 0) <= performance.now())
      .map(async ticket => {
        busy.add(ticket)
        try {
          await lookAt(ticket)
          problems.delete(ticket)
        } catch (error) {
          report(ticket, error)
        } finally {
          busy.delete(ticket)
        }
      })
  }
  const nudge = () => woken.abort()
  const loop = async (): Promise<void> => {
    const looks = new Set<Promise<void>>()
    while (!ending.signal.aborted) {
      woken = new AbortController()
      const begun = tick()
      for (const look of begun) {
        looks.add(look)
        void look.finally(() => looks.delete(look))
      }
      const signal = AbortSignal.any([woken.signal, ending.signal])
      const isIdle = begun.length === 0 && busy.size === 0 && registry.agentsToLookAt().length === 0
      await delay(isIdle ? IDLE * every : every, undefined, { signal }).catch(() => {})
    }
    await Promise.allSettled(looks)
  }
  const ended = loop()
  return {
    nudge,
    close: async (): Promise<void> => {
      ending.abort()
      for (const ticket of [...followings.keys()]) stopFollowing(ticket)
      await atMost(END_MS, [ended])
    },
  }
}
