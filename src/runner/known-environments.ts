/**
 * What this runner knows of its environments without asking anybody: the registry's rows, and what the hypervisors had when they
 * were last asked. They are asked in the background, so that one that hangs delays nothing.
 */
import type { ProviderName, Ticket } from '../domain.ts'
import type { Environment } from '../schema/environment.ts'
import type { ManualOperation } from '../schema/runner-protocol.ts'
import { MAX_MANUAL_OPERATIONS } from '../schema/runner-protocol.ts'
import { listWithEndings, openReport, type RunnerContext, type Seen, seenState, UNSEEN } from './context.ts'

/** The registry just before a hypervisor is asked. `busy`: an operation works on the machine. */
export type Before = Pick<Seen, 'at' | 'rows'> & { busy: ReadonlySet<Ticket>; startedAt: number }
export const beforeLook = ({ registry, clock }: Pick<RunnerContext, 'registry' | 'clock'>): Before => ({
  at: clock(),
  // The clock may be set meanwhile.
  startedAt: performance.now(),
  busy: new Set(registry.openOperations().map(({ ticket }) => ticket)),
  rows: new Map(registry.environments().map(row => [row.ticket, row])),
})

export type Known = {
  environments: readonly Environment[]
  manualOperations: readonly ManualOperation[]
  /** The hypervisor was asked after the last change of the registry. */
  isSettled: (environment: Environment) => boolean
}

type Listed = Awaited<ReturnType<typeof listWithEndings>>

/** `onNews`: a hypervisor answered. */
export const openKnown = (context: RunnerContext, onNews: () => void, ending: AbortSignal) => {
  const { registry, clock } = context
  const seen = new Map<ProviderName, Before & Pick<Seen, 'vms' | 'endings'>>()
  /** Looks that are under way, and those that are due once more then. */
  const looks = new Map<ProviderName, Promise<void>>()
  const again = new Set<ProviderName>()
  let last: { version: number; known: Known } | null = null
  /** Something was written by this process, or a hypervisor answered. */
  let [isWritten, isSeen] = [true, false]
  let writtenAt = performance.now()

  const observe = (name: ProviderName, { busy, ...before }: Before, { vms, endings }: Listed): void => {
    const newest = seen.get(name)
    if (newest !== undefined && newest.startedAt > before.startedAt) return
    const all = new Set([...busy, ...registry.openOperations().map(({ ticket }) => ticket)])
    seen.set(name, { ...before, busy: all, vms: new Map(vms.map(vm => [vm.vmId, vm])), endings })
    isSeen = true
    onNews()
  }
  const ask = async (name: ProviderName): Promise<void> => {
    again.delete(name)
    try {
      const before = beforeLook(context)
      observe(name, before, await listWithEndings(await context.provider(name)))
    } catch {
      // The reconciler asks it again and again, and tells of it.
    }
    if (again.has(name) && !ending.aborted) await ask(name)
  }
  const look = (name: ProviderName): void => {
    again.add(name)
    if (!looks.has(name))
      looks.set(
        name,
        ask(name).finally(() => looks.delete(name)),
      )
  }
  const build = (): Known => {
    const rows = registry.environments()
    const report = openReport(context)
    const now = clock().toISOString()
    const environments = rows.map((row): Environment => {
      const had = seen.get(row.provider) ?? null
      // During an operation, the machine may be stopped or paused for a moment: that is no news.
      const found = had?.busy.has(row.ticket) ? UNSEEN : seenState(row, had)
      const { state, paused } = found
      const observedAt = state !== null ? had?.at.toISOString() : had === null ? row.createdAt : now
      return { ...report(row, found), ...(paused === null ? {} : { paused }), observedAt: observedAt ?? now }
    })
    const since = writtenAt
    return {
      environments,
      manualOperations: registry.manualOperations(MAX_MANUAL_OPERATIONS),
      isSettled: ({ provider }) => (seen.get(provider)?.startedAt ?? Number.NEGATIVE_INFINITY) >= since,
    }
  }
  const hasWritten = (): boolean => isWritten || registry.dataVersion() !== last?.version
  return {
    /** The same object while nothing changed. */
    read: (): Known => {
      const version = registry.dataVersion()
      const wasWritten = hasWritten()
      if (last !== null && !wasWritten && !isSeen) return last.known
      if (wasWritten) writtenAt = performance.now()
      isWritten = false
      isSeen = false
      last = { version, known: build() }
      if (wasWritten) for (const name of new Set(last.known.environments.map(({ provider }) => provider))) look(name)
      return last.known
    },
    /** The looks that are under way have ended. */
    looked: () => Promise.all(looks.values()),
    written: () => {
      isWritten = true
    },
    /** The registry was written by this process or another since the last `read`. */
    hasWritten,
    observe,
  }
}
