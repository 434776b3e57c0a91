/** What the functions of this provider work with, and the one way to look at a machine before it is used. */
import { VM_ID } from '../../src/domain.ts'
import { allow, fail } from '../../src/errors.ts'
import type { Tools } from '../provider.ts'
import { type Mark, parseMarks, readMark, writeMark } from './marks.ts'
import { parseNames, parseStates, type State } from './parse.ts'
import type { KvmSettings } from './settings.ts'
import type { Answer, Command, Virsh } from './virsh.ts'

export type Context = Tools<KvmSettings> & { virsh: Virsh }

export type Machine = State & { mark: Mark }

/** Whether the mark is this home's. Earlier versions wrote none: then the registry decides. */
export const isOurs = ({ homeId, knows }: Context, { home, vmId }: Mark): boolean =>
  home === null ? knows(vmId) : home === homeId

/** Adds this home's id to the marks of machines that an earlier version made. */
export const completeMarks = async ({ virsh, homeId }: Context, machines: readonly Machine[]): Promise<void> => {
  const incomplete = machines.filter(({ mark }) => mark.home === null)
  if (incomplete.length > 0)
    await virsh.all(incomplete.map(({ mark, status }) => writeMark({ ...mark, home: homeId }, status)))
}

/** The commands whose answer `machineIn` reads. */
export const lookCommands = (id: string): Command[] => {
  if (!VM_ID.test(id)) throw fail('not-ours', `"${id}" is not a machine of agent-swarm`)
  return [readMark(id), ['domstats', id, '--state', '--nowait']]
}

/** The machine in an answer to `lookCommands`. Fails with `no-such-vm` or `not-ours`. */
export const machineIn = async (context: Context, id: string, { stdout, stderr }: Answer): Promise<Machine> => {
  const mark = parseMarks(stdout).find(({ vmId }) => vmId === id)
  const state = parseStates(stdout).get(id)
  if (state === undefined) {
    const doing = `looking for ${id}`
    const names = parseNames(await context.virsh.run(['list', '--all', '--name'], { doing }))
    throw names.includes(id)
      ? context.virsh.failed(doing, stderr)
      : fail('no-such-vm', `${doing}: libvirt has no such machine`)
  }
  if (mark === undefined)
    throw fail(
      'not-ours',
      `${id} has a name like our machines, but not our mark: agent-swarm did not make it`,
      'It is left alone. Rename it if it is in the way.',
    )
  if (!isOurs(context, mark))
    throw fail(
      'not-ours',
      `${id} belongs to another AGENT_SWARM_HOME`,
      'Use agent-swarm with that home. It is left alone here.',
    )
  const machine = { ...state, mark }
  await completeMarks(context, [machine])
  return machine
}

/** The machine now, and the answer to more commands, in one process. Precedes every change: the machine may not be ours. */
export const look = async (context: Context, id: string, more: readonly Command[] = []): Promise<Machine & Answer> => {
  const answer = await context.virsh.ask([...lookCommands(id), ...more])
  return { ...(await machineIn(context, id, answer)), ...answer }
}
/** Undefined when there is no such machine. */
export const lookIfExists = (context: Context, id: string): Promise<Machine | undefined> =>
  look(context, id).catch(allow('no-such-vm'))

/**
 * A restored or woken memory has the clock of its time, and a checkpoint the mark of its time, which may have another ticket, or no
 * home: sets the clock, where the guest has an agent, and writes the `present` mark again. `first`: more commands, before that.
 */
export const settleReturned = async (
  context: Context,
  id: string,
  present: Pick<Mark, 'ticket'> & Partial<Pick<Mark, 'ip'>>,
  first: readonly Command[] = [],
): Promise<void> => {
  const { virsh, homeId } = context
  const answer = await virsh.ask([...first, ['domtime', id, '--now'], ...lookCommands(id)])
  const { mark, status } = await machineIn({ ...context, knows: () => true }, id, answer)
  const right = { ...mark, ...present, home: homeId }
  if (mark.ticket !== right.ticket || mark.home !== right.home || mark.ip !== right.ip)
    await virsh.all([writeMark(right, status)], { doing: `writing the mark of ${id} again` })
}
