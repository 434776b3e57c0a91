/** Restores a checkpoint. The state that it replaces becomes a checkpoint first. */
import { join } from 'node:path'
import { type CheckpointName, isPreRestore, timestamp } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import { NOTE_BEFORE_RESTORE } from '../../schema/link.ts'
import { shellWord } from '../../shell-word.ts'
import { DEFAULT_RETENTION, deleteOldest, makeCheckpoint, noSuchCheckpoint, syncCheckpoints } from '../checkpoints.ts'
import { waitAndTell } from '../isolation-note.ts'
import { observe } from '../machine.ts'
import { type ActionRunner, earlierAttempts, type Target, targetOf } from '../operation.ts'
import { followProject } from '../project/follow.ts'
import { runCommandInGuest } from '../ssh/guest.ts'
import { markMachine } from './move.ts'

const NOTE_DEADLINE_MS = 30_000

/** Two restores within one second do not share a name. */
const unusedName = (name: CheckpointName, names: readonly CheckpointName[]): CheckpointName => {
  let unused = name
  for (let n = 2; names.includes(unused); n += 1) unused = `${name}-${n}`
  return unused
}

/** Keeps the present state and restores `name`. Returns the checkpoint that has the present state. */
const replaceState = async (
  target: Target,
  name: CheckpointName,
  names: readonly CheckpointName[],
): Promise<CheckpointName> => {
  const { context, caller, id, by, provider, row } = target
  const keptAs = unusedName(`pre-restore-${timestamp(context.clock())}`, names)
  context.registry.setDetail(id, { name, keptAs })
  await makeCheckpoint(target, { name: keptAs, why: by.via === 'machine' ? 'machine' : 'before restore', commit: null })
  // An earlier result is about another state of the disk.
  context.registry.setUnsavedWork(row.ticket, null)
  caller.onPhase('restore')
  await provider.restore(row.vmId, name)
  // Another attempt must not restore again: from now on people may work in the machine.
  context.registry.setDetail(id, { name, keptAs, reached: 'restored' })
  return keptAs
}

/** Writes the machine's last note into it: the restore took it back to a time before the note. */
const leaveNote = async ({ context, caller, provider, row }: Target): Promise<void> => {
  const note = context.registry.note(row.ticket)
  if (note === null || provider.runInGuest !== undefined) return
  const { state } = context.guest
  const text = Buffer.from(`${note.text}\n`).toString('base64')
  const command = `printf %s ${text} | base64 -d >${shellWord(join(state, NOTE_BEFORE_RESTORE))}`
  const options = { deadline: NOTE_DEADLINE_MS, signal: caller.signal, doing: 'writing it' }
  await runCommandInGuest(context, provider, row.vmId, command, options).catch(error => {
    caller.onPhase(`the note is not in the machine: ${failureOf(error, 'writing it').message}`)
  })
}

export const restore: ActionRunner<'restore'> = async (operation, { ticket, name: requested, by }) => {
  const { context, id } = operation
  const { registry } = context
  const target = await targetOf(operation, ticket)
  const earlier = earlierAttempts(operation)
  const last = earlier.at(-1)?.detail
  const names = await syncCheckpoints(target)
  const name = requested ?? last?.name ?? names.findLast(existing => !isPreRestore(existing)) ?? null
  if (name === null)
    throw fail(
      'no-such-checkpoint',
      `${ticket} has no checkpoint to restore`,
      `Make one: agent-swarm checkpoint ${ticket} [name]`,
    )
  // An attempt that was interrupted may have changed the machine, or not: each attempt keeps the state that it finds.
  const kept = new Set(earlier.flatMap(({ detail }) => detail.keptAs ?? []).filter(keptAs => names.includes(keptAs)))
  if (last?.reached === 'restored') registry.setDetail(id, last)
  else {
    if (!names.includes(name)) throw noSuchCheckpoint(ticket, name, names)
    kept.add(await replaceState(target, name, names))
  }
  // The mark of a restore that was interrupted may be that of the checkpoint.
  if (earlier.length > 0) await markMachine(target)
  // A machine that restores itself again and again takes no more disk than one that makes checkpoints.
  if (by.via === 'machine') await deleteOldest(target, 'machine', DEFAULT_RETENTION, [name, ...kept])
  let note = ''
  if ((await observe(target.provider, target.row)) === 'running') {
    registry.setDesired(ticket, 'running', by)
    note = await waitAndTell(target)
    await leaveNote(target)
    await followProject(await targetOf(operation, ticket))
    await leaveNote(target)
  } else {
    registry.setDesired(ticket, 'stopped', by)
    registry.setStatus(ticket, 'stopped')
    registry.setAddress(ticket, null)
  }
  const keeps = kept.size === 1 ? 'its previous state is' : 'its previous states are'
  const where = kept.size === 0 ? '' : `; ${keeps} kept as ${[...kept].join(' and ')}`
  return {
    summary: `Restored ${ticket} to ${name}${where}${note}`,
  }
}
