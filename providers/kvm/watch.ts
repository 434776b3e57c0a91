/** At each look at the machines: those of an earlier version are isolated, and rules that somebody removed are written again. */
import { addressText } from '../ipv4.ts'
import type { Context, Machine } from './context.ts'
import { type Isolator, isolateMachine, readIsolator, writeFilter } from './isolation.ts'
import { isUnfiltered } from './probe.ts'
import type { Answer } from './virsh.ts'

type Listed = Machine & { paused?: string }

/** Running machines on a network. One in a session has none. */
export const runningOnNetwork = <T extends Listed>(machines: readonly T[]): T[] =>
  machines.filter(({ mark, status }) => status === 'running' && mark.port === null)

/**
 * Whether the filter's rules are gone from the host (`nft flush ruleset` removes those of all machines at once, and libvirt does
 * not notice). One machine that answers tells.
 */
export const areRulesGone = async (
  { surroundings: { gateway, ephemeral } }: Isolator,
  machines: readonly Listed[],
  addresses: ReadonlyMap<string, string>,
): Promise<boolean> => {
  const candidates = machines.flatMap(({ mark, paused }) =>
    mark.ip !== null && paused === undefined && addresses.get(mark.mac) === mark.ip ? mark.ip : [],
  )
  const chosen = candidates[Math.floor(Math.random() * candidates.length)]
  return chosen !== undefined && (await isUnfiltered(chosen, { gateway: addressText(gateway), ephemeral })) === true
}

/** `answer`: to `isolatorCommands`. No command of the hypervisor, unless something is missing. */
export const keepIsolated = async (
  context: Context,
  answer: Answer,
  machines: readonly Listed[],
  addresses: ReadonlyMap<string, string>,
): Promise<void> => {
  const running = runningOnNetwork(machines)
  const isolator = running.length === 0 ? null : readIsolator(context, answer)
  if (isolator === null) return
  try {
    if (!isolator.isCurrent) await writeFilter(context, isolator)
    for (const machine of running.filter(({ mark }) => mark.ip === null))
      await isolateMachine(context, isolator, machine)
    if (await areRulesGone(isolator, running, addresses)) await writeFilter(context, isolator)
  } catch {
    // The list matters more. `isolated` looks for itself, and says what is missing.
  }
}
