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

/** A look waits up to a second for each that does not answer. */
const MOST_ASKED = 3

/**
 * Whether the filter's rules are gone from the host (`nft flush ruleset` removes those of all machines at once, and libvirt does
 * not notice). One machine that answers tells. Null: machines run, and none of those that were asked answered.
 */
export const areRulesGone = async (
  { surroundings: { gateway, ephemeral } }: Pick<Isolator, 'surroundings'>,
  machines: readonly Listed[],
  addresses: ReadonlyMap<string, string>,
): Promise<boolean | null> => {
  if (machines.length === 0) return false
  const candidates = machines.flatMap(({ mark, paused }) =>
    mark.ip !== null && paused === undefined && addresses.get(mark.mac) === mark.ip
      ? { ip: mark.ip, at: Math.random() }
      : [],
  )
  for (const { ip } of candidates.sort((a, b) => a.at - b.at).slice(0, MOST_ASKED)) {
    const isGone = await isUnfiltered(ip, { gateway: addressText(gateway), ephemeral })
    if (isGone !== null) return isGone
  }
  return null
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
    if ((await areRulesGone(isolator, running, addresses)) === true) await writeFilter(context, isolator)
  } catch {
    // The list matters more. `isolated` looks for itself, and says what is missing.
  }
}
