/** How busy machines are: their processor time between two readings. */
import type { VmUsage } from '../../../providers/provider.ts'
import type { Listing, RunnerContext } from '../../runner/context.ts'

/** Readings closer together than this say nothing. Milliseconds. */
const APART_MS = 100

/** Processor seconds by machine id, read at `at` (performance.now). */
export type Reading = { at: number; seconds: Map<string, number> }

export const readingOf = (machines: readonly { vmId: string; usage: VmUsage | null }[]): Reading => ({
  at: performance.now(),
  seconds: new Map(
    machines.flatMap(({ vmId, usage }) => (usage?.cpuSeconds == null ? [] : [[vmId, usage.cpuSeconds] as const])),
  ),
})

/** Processors in use, 1.5 for one and a half; null when unknown. */
export const busyBetween =
  (before: Reading, after: Reading) =>
  (vmId: string): number | null => {
    const [from, to] = [before.seconds.get(vmId), after.seconds.get(vmId)]
    const milliseconds = after.at - before.at
    if (from === undefined || to === undefined || to < from || milliseconds < APART_MS) return null
    return Math.round(((to - from) / (milliseconds / 1000)) * 100) / 100
  }

/** Reads the processor time of these machines again. */
export const readAgain = async (context: RunnerContext, environments: Listing['environments']): Promise<Reading> => {
  const running = environments.filter(({ usage }) => usage?.cpuSeconds != null)
  const names = [...new Set(running.map(({ provider }) => provider))]
  const usages = await Promise.all(
    names.map(async name => (await (await context.provider(name)).usage?.()) ?? new Map<string, VmUsage>()),
  )
  return readingOf(usages.flatMap(usage => [...usage].map(([vmId, usage]) => ({ vmId, usage }))))
}
