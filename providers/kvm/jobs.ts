/**
 * What libvirt is doing with a machine. It goes on with a checkpoint whose virsh was killed, and lets nothing else change the
 * machine meanwhile: a command then fails after 30 s with "cannot acquire state change lock".
 */
import { setTimeout as delay } from 'node:timers/promises'
import { fail } from '../../src/errors.ts'
import { type Context, lookCommands, type Machine, machineIn } from './context.ts'
import type { State } from './parse.ts'
import type { Answer, Command } from './virsh.ts'

/** Writing a guest's memory to the disk takes seconds, and minutes where disk and processors have much else to do. */
const DEADLINE_MS = 5 * 60_000
const POLL_MS = 250

/**
 * `domjobinfo`: the operation's name; null when there is none. For a running machine it waits while QEMU writes an internal
 * checkpoint, and has no answer after 30 s. It has none for a machine that is off.
 */
export const jobIn = (text: string, { status }: State): string | null => {
  const type = text.match(/^Job type:\s+(\S+)/m)?.[1]
  if (type === 'None' || (type === undefined && status !== 'running')) return null
  return text.match(/^Operation:\s+(\S.*?)\s*$/m)?.[1] ?? 'a checkpoint'
}

/** As `look`, as soon as libvirt does nothing else with the machine. */
export const lookWhenIdle = async (
  context: Context,
  id: string,
  doing: string,
  more: readonly Command[] = [],
): Promise<Machine & Answer> => {
  const end = performance.now() + DEADLINE_MS
  while (true) {
    // First, since it may wait: the rest shall be of the time after it.
    const answer = await context.virsh.ask([['domjobinfo', id], ...lookCommands(id), ...more])
    const machine = await machineIn(context, id, answer)
    const job = jobIn(answer.stdout, machine)
    if (job === null) return { ...machine, ...answer }
    if (performance.now() > end)
      throw fail(
        'busy',
        `${doing}: libvirt is still busy with another command on it (${job}), after ${DEADLINE_MS / 60_000} minutes`,
        `See what it does: virsh -c ${context.settings.kvmUri} domjobinfo ${id}`,
      )
    await delay(POLL_MS)
  }
}
