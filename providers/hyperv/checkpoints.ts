/** Checkpoints are Hyper-V's standard ones. That of a running machine holds its memory. */
import { parseCheckpointName } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import type { RestoreOptions } from '../provider.ts'
import { aboutMachine, type Context, orDiskFull, requireRoomForMemory } from './context.ts'
import { bytesOf } from './folders.ts'
import { rulesOf } from './isolation.ts'
import { look } from './machines.ts'
import { doneAnswer, stateAnswer } from './parse.ts'

const DEADLINE_MS = 10 * 60_000
/** Seconds that removing one waits for its merge, which goes on by itself. */
const MERGE_PATIENCE_S = 60

export const checked = (name: string): string => {
  if (parseCheckpointName(name) !== name) throw fail('usage', `"${name}" is not a checkpoint name`)
  return name
}

export const makeCheckpoint = async (context: Context, id: string, name: string) => {
  const doing = `making the checkpoint ${checked(name)} of ${id}`
  const data = { ...aboutMachine(context, id), checkpoint: name }
  await requireRoomForMemory(context, id, doing)
  const before = await bytesOf(context.home, id)
  await context
    .script('checkpoint', data, doneAnswer, { doing, deadline: DEADLINE_MS })
    .catch(orDiskFull(context, doing))
  const more = (await bytesOf(context.home, id)) - before
  // The guest goes on and writes, and Hyper-V merges: a difference of nothing is no size.
  return { sizeBytes: more > 0 ? more : null }
}

export const restoreCheckpoint = async (
  context: Context,
  id: string,
  name: string,
  { cold = false }: RestoreOptions = {},
): Promise<void> => {
  const { script } = context
  const doing = `restoring ${id} to ${checked(name)}`
  const about = aboutMachine(context, id)
  await script('restore', { ...about, checkpoint: name, cold, rules: rulesOf(context, id) }, stateAnswer, {
    ...{ doing, deadline: DEADLINE_MS },
  }).catch(orDiskFull(context, doing))
}

/** A checkpoint that somebody made with another name is none: no command could name it. */
export const listCheckpoints = async (context: Context, id: string): Promise<string[]> => [
  ...new Set((await look(context, id)).checkpoints.filter(name => parseCheckpointName(name) === name)),
]

const forget = async (context: Context, id: string, name: string): Promise<void> => {
  const doing = `deleting the checkpoint ${name} of ${id}`
  const data = { ...aboutMachine(context, id), checkpoint: name, patience: MERGE_PATIENCE_S }
  await context.script('forget', data, doneAnswer, { doing, deadline: DEADLINE_MS })
}

export const deleteCheckpoint = (context: Context, id: string, name: string): Promise<void> =>
  forget(context, id, checked(name))

/** Of a fork of the present state. No command can name it, it is not listed, and no person calls one so. */
export const TEMPORARY = 'agent-swarm fork'

/** Also those that forks left which died. Does nothing when there is none. */
export const deleteTemporary = (context: Context, id: string): Promise<void> => forget(context, id, TEMPORARY)
