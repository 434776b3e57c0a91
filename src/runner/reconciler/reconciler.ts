/** Reconciles in the runner: on start and every minute. */
import { setTimeout as delay } from 'node:timers/promises'
import { atMost } from '../../clock.ts'
import { failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { RunnerContext } from '../context.ts'
import { openGate } from '../gate.ts'
import type { Found } from './findings.ts'
import type { Listings } from './look.ts'
import { changesSomething, findAll, takeStep } from './reconcile.ts'

const EVERY_MS = 60_000
/** A step that fails is tried again after twice the time, and at last every ten minutes. */
const MOST_MS = 10 * 60_000

export type Reconciler = {
  /** Takes no more steps, and waits at most `withinMs` for those that run. */
  close(withinMs: number): Promise<void>
}

const keyOf = ({ ticket, vmId }: Found): string => `${ticket ?? ''} ${vmId ?? ''}`

/** Says each problem once while it lasts. */
const openTelling = (log: Log) => {
  let told = new Set<string>()
  return (now: readonly { key: string; fields: object; text: string }[]): void => {
    for (const { key, fields, text } of now) if (!told.has(key)) log.warn(fields, text)
    told = new Set(now.map(({ key }) => key))
  }
}

/** Which steps may be tried again now. */
const openPatience = () => {
  const failures = new Map<string, { count: number; until: number }>()
  return {
    mayTry: (key: string): boolean => (failures.get(key)?.until ?? 0) <= performance.now(),
    failed: (key: string): void => {
      const count = (failures.get(key)?.count ?? 0) + 1
      failures.set(key, { count, until: performance.now() + Math.min(MOST_MS, EVERY_MS * 2 ** (count - 1)) })
    },
    succeeded: (key: string): void => void failures.delete(key),
  }
}

/** `onChange`: a step was taken. `onLook`: what the hypervisors had. */
export const openReconciler = (
  context: RunnerContext,
  { log, onChange, onLook = () => {} }: { log: Log; onChange: () => void; onLook?: (listings: Listings) => void },
): Reconciler => {
  const ending = new AbortController()
  const { signal } = ending
  const gate = openGate(context.config.runnerSlots)
  const running = new Map<string, Promise<void>>()
  const tell = openTelling(log)
  const patience = openPatience()

  const take = async (finding: Found): Promise<void> => {
    const { ticket, vmId, finding: what, step } = finding
    const key = keyOf(finding)
    if (signal.aborted) return
    log.info({ ticket, vmId }, `${what}; ${step}`)
    try {
      await takeStep(context, finding, { signal })
      patience.succeeded(key)
      onChange()
    } catch (error) {
      if (signal.aborted) return
      patience.failed(key)
      const { kind, message } = failureOf(error, `reconciling ${ticket ?? vmId}`)
      log.warn({ ticket, vmId, failure: kind }, `${what}, and this could not be changed: ${message}`)
    }
  }
  const look = async (): Promise<void> => {
    const { found, ...listings } = await findAll(context)
    onLook(listings)
    tell([
      ...listings.unread.map(({ provider, message }) => ({ key: provider, fields: { provider }, text: message })),
      ...found
        .filter(finding => !changesSomething(finding))
        .map(({ ticket, vmId, finding, step }) => ({
          ...{ key: `${ticket} ${vmId} ${finding}`, fields: { ticket, vmId } },
          text: `${finding}; ${step}`,
        })),
    ])
    for (const finding of found) {
      const key = keyOf(finding)
      if (!changesSomething(finding) || running.has(key) || !patience.mayTry(key)) continue
      running.set(
        key,
        gate(() => take(finding)).finally(() => running.delete(key)),
      )
    }
  }
  const run = async (): Promise<void> => {
    while (!signal.aborted) {
      await look().catch(error => {
        if (!signal.aborted) log.warn({ err: error }, failureOf(error, 'reconciling').message)
      })
      await delay(EVERY_MS, undefined, { signal }).catch(() => {})
    }
  }
  const looking = run()
  return {
    close: async withinMs => {
      ending.abort()
      await atMost(withinMs, [looking, ...running.values()])
    },
  }
}
