/**
 * Keeps machines ready, in the runner: gives up those that are of no use any more, and makes one at a time. It begins none while an
 * action runs or waits, and one that boots gives way to an action that boots another.
 */

import { setTimeout as delay } from 'node:timers/promises'
import type { Provider, VmInfo } from '../../../providers/provider.ts'
import { backoff } from '../../backoff.ts'
import { atMost, isWithin } from '../../clock.ts'
import { poolName } from '../../domain.ts'
import { failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { MadeOf, PoolMachine } from '../../registry/registry.ts'
import { needOf } from '../../room.ts'
import type { Action } from '../../schema/action.ts'
import type { Pool } from '../../schema/pool.ts'
import type { RunnerContext } from '../context.ts'
import type { GitGateway } from '../git-gateway/gateway.ts'
import { fitsBeside } from '../room.ts'
import { runningOperations, waitingActions } from '../standing.ts'
import { type Filling, fillOne, isForked } from './fill.ts'
import { giveUp } from './give-up.ts'
import { madeOfNow, whyUseless } from './pools.ts'

/** Between two looks at the pools. */
const EVERY_MS = 60_000
const PATIENCE = backoff({ first: 60_000, most: 30 * 60_000 })
/**
 * Actions for which a person waits until a machine has booted. A boot beside theirs makes both slower, and to begin it again costs
 * little. A setup goes on beside them: where people work all the time, none would ever end.
 */
const BOOTS: ReadonlySet<string> = new Set(['create', 'start', 'restart', 'restore', 'fork'] satisfies Action['kind'][])
/** What has waited for longer waits for something that a ready machine does not take. */
const WAITS_MS = 10 * 60_000
/**
 * From the begin of a machine to that of one that only a new commit asks for: this many times what the first one took. However often
 * a branch moves, it keeps the host busy for a quarter of the time at most.
 */
const TIMES_THE_LAST = 4

export type FillerTools = {
  context: RunnerContext
  log: Log
  git: Pick<GitGateway, 'headOf' | 'readFile'>
  withAccess: Filling['withAccess']
  /** Milliseconds, of a clock that nobody sets. */
  now: () => number
  /** What is ready has changed. */
  onChange: () => void
}
type Filler = {
  /** The registry was written: machines may be missing, or the one that is being made may have been given up or gives way. */
  nudge(): Promise<void>
  close(withinMs: number): Promise<void>
}

/** The kinds of the actions that run, or wait and have not waited for long. */
const kindsOfWork = async (context: RunnerContext): Promise<string[]> => {
  const now = context.clock().getTime()
  const waiting = waitingActions(context).filter(({ since }) => isWithin(Date.parse(since), WAITS_MS, now))
  const running = (await runningOperations(context)).filter(({ interrupted }) => !interrupted)
  return [...waiting, ...running].map(({ kind }) => kind)
}
const isBusy = async (context: RunnerContext): Promise<boolean> => (await kindsOfWork(context)).length > 0

const machinesOf = ({ registry }: RunnerContext, pool: Pool): PoolMachine[] =>
  registry.poolMachines().filter(machine => machine.pool === poolName(pool) && machine.state !== 'claimed')
const readyOf = (context: RunnerContext, pool: Pool): PoolMachine[] =>
  machinesOf(context, pool).filter(({ state }) => state === 'ready')
const isShort = (context: RunnerContext, pool: Pool): boolean =>
  readyOf(context, pool).length < pool.ready && machinesOf(context, pool).length < pool.most
/** Of another commit than its pool is made of now. */
const formerOf = (context: RunnerContext, pool: Pool, { commit }: MadeOf): PoolMachine[] =>
  machinesOf(context, pool).filter(({ madeOf }) => madeOf.commit !== commit)
const isBehind = (context: RunnerContext, pool: Pool, { commit }: MadeOf): boolean =>
  readyOf(context, pool).some(({ madeOf }) => madeOf.commit !== commit)
/** Others are forked from it, which takes seconds. */
const hasTemplate = (context: RunnerContext, pool: Pool, { commit }: MadeOf): boolean =>
  machinesOf(context, pool).some(({ state, madeOf }) => state === 'template' && madeOf.commit === commit)

/** Asks what the machines of a pool are to be made of, and notes it with what is wrong. */
const lookAt = async ({ context, git }: FillerTools, provider: Provider, pool: Pool) => {
  const { registry, clock } = context
  const name = poolName(pool)
  const at = clock().toISOString()
  const before = registry.poolLook(name)
  try {
    const madeOf = await madeOfNow(context, provider, pool, git)
    // What kept it from being filled is over when it is full, of the present commit.
    const lacks = isShort(context, pool) || isBehind(context, pool, madeOf)
    registry.setPoolLook(name, { madeOf, problem: lacks ? (before?.problem ?? null) : null, at })
    return { pool, madeOf, failure: null }
  } catch (error) {
    const failure = failureOf(error, `keeping machines of ${name} ready`)
    // What is ready stays so while nobody can be asked.
    registry.setPoolLook(name, { madeOf: before?.madeOf ?? null, problem: failure.message, at })
    return { pool, madeOf: null, failure }
  }
}
type Looked = Awaited<ReturnType<typeof lookAt>>

const drop = async (
  { context, log, onChange }: FillerTools,
  machine: PoolMachine,
  why: string,
  signal: AbortSignal,
): Promise<void> => {
  const { vmId, pool } = machine
  if (!(await giveUp(context, machine, signal))) return
  log.info({ vmId, pool, why }, 'a machine of the pool is given up')
  onChange()
}

/** Gives up what is of no use any more, and then ready machines of a former commit that others have replaced. */
const tidy = async (
  tools: FillerTools,
  looked: readonly Looked[],
  vms: ReadonlyMap<string, VmInfo>,
  signal: AbortSignal,
): Promise<void> => {
  const { context } = tools
  const [now, lookOf] = [context.clock(), new Map(looked.map(look => [poolName(look.pool), look]))]
  for (const machine of context.registry.poolMachines()) {
    if (machine.state !== 'ready' && machine.state !== 'template') continue
    const { vmId, pool: name } = machine
    const look = lookOf.get(name)
    const failed = context.registry.poolLook(name)?.failedClaims ?? null
    const why = whyUseless(machine, { pool: look?.pool, madeOf: look?.madeOf ?? null, failed, vm: vms.get(vmId), now })
    if (why !== null) await drop(tools, machine, why, signal)
  }
  for (const { pool, madeOf } of looked)
    for (const machine of madeOf === null ? [] : formerOf(context, pool, madeOf))
      if (machine.state === 'ready' && readyOf(context, pool).length > pool.ready)
        await drop(tools, machine, 'as many are ready without it, and of a newer commit', signal)
}

/**
 * Before a machine of the present commit is made. The template of a former one goes, and so does one ready machine where there is no
 * place for both: by the number, or by what the host has.
 */
const makePlace = async (
  tools: FillerTools,
  pool: Pool,
  madeOf: MadeOf,
  { provider, signal }: { provider: Provider; signal: AbortSignal },
): Promise<void> => {
  const { context } = tools
  const former = formerOf(context, pool, madeOf)
  for (const machine of former)
    if (machine.state === 'template') await drop(tools, machine, 'its commit is not that of now', signal)
  const oldest = former.find(({ state }) => state === 'ready')
  if (oldest === undefined) return
  const all = machinesOf(context, pool)
  const more = isForked({ provider, pool }) && all.every(({ state }) => state !== 'template') ? 2 : 1
  const need = needOf(madeOf)
  const isInTheWay =
    all.length + more > pool.most ||
    (!(await fitsBeside(context, provider, need)) && (await fitsBeside(context, provider, need, [oldest])))
  if (isInTheWay) await drop(tools, oldest, 'one of the present commit takes its place', signal)
}

type Making = { signal: AbortSignal } & Pick<Filling, 'onBegun' | 'onBooted'>

/** Makes one machine of the pool that is short of it. */
const fill = async (
  tools: FillerTools,
  { pool, madeOf, failures }: Pick<Filling, 'pool' | 'madeOf' | 'failures'>,
  provider: Provider,
  making: Making,
): Promise<void> => {
  const { context, log, withAccess } = tools
  const name = poolName(pool)
  const onPhase = (phase: string) => log.debug({ pool: name, phase }, 'making a ready machine')
  const began = tools.now()
  const { signal, onBegun, onBooted } = making
  const caller = { signal, onPhase }
  const { vmId } = await fillOne({
    ...{ context, provider, pool, madeOf, failures, withAccess, caller, onBegun, onBooted },
  })
  const seconds = Math.round((tools.now() - began) / 100) / 10
  log.info({ vmId, pool: name, seconds }, 'a machine is ready')
}

/** What keeps the filler from the next attempt. A problem is reported once while it lasts. */
const openPatience = ({ context, log, now }: FillerTools) => {
  const failures = new Map<string, { count: number; until: number; text: string }>()
  const renewals = new Map<string, number>()
  const note = (pool: string, problem: string | null) => {
    const look = context.registry.poolLook(pool)
    context.registry.setPoolLook(pool, {
      ...{ madeOf: look?.madeOf ?? null, problem },
      at: context.clock().toISOString(),
    })
  }
  return {
    mayTry: (pool: string): boolean => {
      const failed = context.registry.poolLook(pool)?.failedClaims ?? null
      // A clock that was set back makes nobody wait.
      const since = failed === null ? -1 : context.clock().getTime() - Date.parse(failed.at)
      const isPatient = failed !== null && since >= 0 && since < PATIENCE(failed.count - 1)
      return !isPatient && (failures.get(pool)?.until ?? 0) <= now()
    },
    failures: (pool: string): number => failures.get(pool)?.count ?? 0,
    /** Whether it is time to make a machine for no more than a new commit. */
    mayRenew: (pool: string): boolean => (renewals.get(pool) ?? 0) <= now(),
    /** A fork that took seconds does not shorten the wait after the boot of its template. */
    took: (pool: string, began: number): void => {
      const until = began + TIMES_THE_LAST * (now() - began)
      renewals.set(pool, Math.max(until, renewals.get(pool) ?? 0))
    },
    failed: (pool: string, { message, remedy, kind }: ReturnType<typeof failureOf>): void => {
      const before = failures.get(pool)
      const count = (before?.count ?? 0) + 1
      failures.set(pool, { count, until: now() + PATIENCE(count - 1), text: message })
      if (before?.text !== message) log.warn({ pool, failure: kind, remedy }, message)
      note(pool, message)
    },
    succeeded: (pool: string): void => {
      failures.delete(pool)
      note(pool, null)
    },
  }
}

/** One round: false when there was nothing to make, or it could not be made now. */
const round = async (
  tools: FillerTools,
  patience: ReturnType<typeof openPatience>,
  making: Making,
): Promise<boolean> => {
  const { context, onChange } = tools
  const { config, registry } = context
  if ((config.pool.length === 0 && registry.poolMachines().length === 0) || (await isBusy(context))) return false
  registry.endClaims()
  const provider = await context.chosenProvider()
  const vms = new Map((await provider.listVms()).map(vm => [vm.vmId, vm]))
  const looked: Looked[] = []
  for (const pool of config.pool) looked.push(await lookAt(tools, provider, pool))
  await tidy(tools, looked, vms, making.signal)
  for (const { pool, failure } of looked) if (failure !== null) patience.failed(poolName(pool), failure)
  const mayRenew = (pool: Pool, madeOf: MadeOf) =>
    hasTemplate(context, pool, madeOf) || patience.mayRenew(poolName(pool))
  const next = looked
    .flatMap(({ pool, madeOf }) => (madeOf === null ? [] : [{ pool, madeOf }]))
    .find(
      ({ pool, madeOf }) =>
        patience.mayTry(poolName(pool)) &&
        (isShort(context, pool) || (isBehind(context, pool, madeOf) && mayRenew(pool, madeOf))),
    )
  if (next === undefined || making.signal.aborted || (await isBusy(context))) return false
  const { pool, madeOf } = next
  const name = poolName(pool)
  const began = tools.now()
  try {
    if (mayRenew(pool, madeOf)) await makePlace(tools, pool, madeOf, { provider, signal: making.signal })
    await fill(tools, { ...next, failures: patience.failures(name) }, provider, making)
    patience.succeeded(name)
  } catch (error) {
    if (making.signal.aborted) return false
    patience.failed(name, failureOf(error, `making a machine of the pool ${name}`))
  } finally {
    patience.took(name, began)
  }
  onChange()
  return true
}

/** Rounds that remember what failed. */
export const openRounds = (tools: FillerTools) => {
  const patience = openPatience(tools)
  return { round: (making: Making) => round(tools, patience, making), mayTry: patience.mayTry }
}

export const openFiller = (tools: FillerTools): Filler => {
  const { context, log } = tools
  const { registry, config } = context
  const ending = new AbortController()
  const rounds = openRounds(tools)
  let woken = new AbortController()
  let lastFailure = ''
  let current: { vmId: string; isBooting: boolean; cancel: () => void } | null = null
  const once = (): Promise<boolean> => {
    const cancelling = new AbortController()
    const signal = AbortSignal.any([ending.signal, cancelling.signal])
    const onBegun = (vmId: string) => {
      current = { vmId, isBooting: true, cancel: () => cancelling.abort() }
    }
    const onBooted = () => {
      if (current !== null) current.isBooting = false
    }
    return rounds.round({ signal, onBegun, onBooted }).finally(() => {
      current = null
    })
  }
  const run = async (): Promise<void> => {
    while (!ending.signal.aborted) {
      woken = new AbortController()
      const isMade = await once().catch(error => {
        const { kind, message } = failureOf(error, 'keeping machines ready')
        if (!ending.signal.aborted && message !== lastFailure) log.warn({ failure: kind }, message)
        lastFailure = message
        return false
      })
      // The next one, unless somebody works now.
      if (isMade) continue
      const signal = AbortSignal.any([woken.signal, ending.signal])
      await delay(EVERY_MS, undefined, { signal }).catch(() => {})
    }
  }
  const running = run()
  return {
    nudge: async () => {
      if (current !== null && registry.poolMachine(current.vmId)?.state !== 'filling') current.cancel()
      if (config.pool.some(pool => isShort(context, pool) && rounds.mayTry(poolName(pool)))) woken.abort()
      const making = current
      if (making?.isBooting !== true) return
      // What cannot be read now is read again after the next write.
      const kinds = await kindsOfWork(context).catch(() => [])
      if (making.isBooting && kinds.some(kind => BOOTS.has(kind))) making.cancel()
    },
    close: async withinMs => {
      ending.abort()
      await atMost(withinMs, [running])
    },
  }
}
