/** Restores a checkpoint. The state that it replaces becomes a checkpoint first. */
import { join } from 'node:path'
import { type CheckpointName, isPreRestore, timestamp } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import { NOTE_BEFORE_RESTORE } from '../../schema/link.ts'
import { shellWord } from '../../shell-word.ts'
import {
  DEFAULT_RETENTION,
  deleteOldest,
  makeCheckpoint,
  noSuchCheckpoint,
  requireColdRestores,
  syncCheckpoints,
} from '../checkpoints.ts'
import { converge, observe, pausedReason } from '../machine.ts'
import { type ActionRunner, earlierTries, type Target, targetOf } from '../operation.ts'
import { followProject } from '../project/follow.ts'
import { reserveToStart } from '../room.ts'
import { runCommandInGuest } from '../ssh/guest.ts'
import { MEMORY_DEADLINE_MS, waitAndSetRight } from '../wake.ts'
import { markMachine } from './move.ts'

const NOTE_DEADLINE_MS = 30_000

/** Two restores within one second do not share a name. */
const unusedName = (name: CheckpointName, names: readonly CheckpointName[]): CheckpointName => {
  let unused = name
  for (let n = 2; names.includes(unused); n += 1) unused = `${name}-${n}`
  return unused
}

type Restore = { name: CheckpointName; keptAs: CheckpointName; cold: boolean }

/** A restore that failed leaves the machine as it was, or says where it stands and how to go on. */
const afterFailure = async (target: Target, { name, keptAs }: Restore, wasRunning: boolean, error: unknown) => {
  const { caller, provider, row } = target
  const { ticket } = row
  if (caller.signal.aborted) return error
  const { kind, message, remedy } = failureOf(error, `restoring ${name}`)
  const failed = (text: string, way: string | null) => fail(kind, `${message}. ${text}`, way, error)
  const state = async () => ((await pausedReason(provider, row)) === null ? observe(provider, row) : 'paused')
  // A hypervisor that refused at once changed nothing; one that failed later may have restored it.
  if (wasRunning && (await state().catch(() => null)) === 'running')
    return failed(`The machine runs, and its state before is kept as ${keptAs}`, remedy)
  try {
    caller.onPhase('back to the state before')
    await provider.restore(row.vmId, keptAs)
    if (wasRunning) await (await import('../after-restore.ts')).setRight(target)
    return failed('The machine is as it was before', remedy)
  } catch (failure) {
    if (caller.signal.aborted) return failure
    const now = await state().catch(() => 'in an unknown state')
    const cold = provider.coldRestores === true ? ' --cold' : ''
    const other =
      cold === '' ? '' : ` Or restore the other one without its memory: agent-swarm restore ${ticket} ${name}${cold}`
    return failed(
      `The machine is ${now}: it could not be brought back either (${failureOf(failure, 'restoring it').message})`,
      `Its state before is kept as ${keptAs}: agent-swarm restore ${ticket} ${keptAs}${cold}.${other}`,
    )
  }
}

/** Keeps the present state and restores `name`. Returns the checkpoint that has the present state. */
const replaceState = async (
  target: Target,
  { name, cold }: Pick<Restore, 'name' | 'cold'>,
  names: readonly CheckpointName[],
): Promise<CheckpointName> => {
  const { context, caller, id, by, provider, row } = target
  const keptAs = unusedName(`pre-restore-${timestamp(context.clock())}`, names)
  context.registry.setDetail(id, { name, keptAs })
  const wasRunning = (await observe(provider, row)) === 'running'
  await makeCheckpoint(target, { name: keptAs, why: by.via === 'machine' ? 'machine' : 'before restore', commit: null })
  // An earlier result is about another state of the disk.
  context.registry.setUnsavedWork(row.ticket, null)
  caller.onPhase('restore')
  await provider.restore(row.vmId, name, cold ? { cold } : {}).catch(async error => {
    throw await afterFailure(target, { name, keptAs, cold }, wasRunning, error)
  })
  // Another try must not restore again: from now on people may work in the machine.
  context.registry.setDetail(id, { name, keptAs, reached: 'restored' })
  return keptAs
}

/** Waits until the restored machine answers under its pinned host key, and sets it right. Returns notes for the summary. */
const bringUp = async (target: Target, name: CheckpointName, kept: ReadonlySet<string>, cold: boolean) => {
  const { ticket } = target.row
  try {
    return await waitAndSetRight(target, cold ? undefined : MEMORY_DEADLINE_MS)
  } catch (error) {
    if (target.caller.signal.aborted) throw error
    const { kind, message } = failureOf(error, `waiting for ${ticket}`)
    const back = [...kept].map(keptAs => `agent-swarm restore ${ticket} ${keptAs}`).join(', or ')
    throw fail(
      kind,
      `${ticket}: the checkpoint ${name} is back, and the machine does not answer: ${message}`,
      `${cold || target.provider.coldRestores !== true ? '' : `Restore its disk alone, and boot it: agent-swarm restore ${ticket} ${name} --cold. `}${back === '' ? '' : `Its state before is kept: ${back}`}`,
      error,
    )
  }
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

export const restore: ActionRunner<'restore'> = async (operation, { ticket, name: requested, by, cold = false }) => {
  const { context, id } = operation
  const { registry } = context
  const target = await targetOf(operation, ticket)
  if (cold) requireColdRestores(target.provider)
  const earlier = earlierTries(operation)
  const last = earlier.at(-1)?.detail
  const names = await syncCheckpoints(target)
  const name = requested ?? last?.name ?? names.findLast(existing => !isPreRestore(existing)) ?? null
  if (name === null)
    throw fail(
      'no-such-checkpoint',
      `${ticket} has no checkpoint to restore`,
      `Make one: agent-swarm checkpoint ${ticket} [name]`,
    )
  // A try that was interrupted may have changed the machine, or not: each try keeps the state that it finds.
  const kept = new Set(earlier.flatMap(({ detail }) => detail.keptAs ?? []).filter(keptAs => names.includes(keptAs)))
  const { withMemory = false } = registry.checkpoints(ticket).find(checkpoint => checkpoint.name === name) ?? {}
  if (last?.reached === 'restored') registry.setDetail(id, last)
  else {
    if (!names.includes(name)) throw noSuchCheckpoint(ticket, name, names)
    // Of a checkpoint without memory, only the provider knows whether the machine ran then: its restore may start it.
    const mayRun = cold || withMemory || target.provider.memoryCheckpoints !== true
    if (mayRun && (await observe(target.provider, target.row)) === 'stopped') await reserveToStart(target)
    kept.add(await replaceState(target, { name, cold }, names))
  }
  // The mark of a restore that was interrupted may be that of the checkpoint.
  if (earlier.length > 0) await markMachine(target)
  // A machine that restores itself again and again takes no more disk than one that makes checkpoints, and nobody looks after the
  // states that restores keep.
  const why = by.via === 'machine' ? 'machine' : 'before restore'
  await deleteOldest(target, why, DEFAULT_RETENTION, [name, ...kept])
  // A checkpoint of a running machine may have lost its memory with its former definition: its disk boots, too.
  const boots = cold || withMemory
  if (boots) {
    registry.setDesired(ticket, 'running', by)
    await converge(target, 'running')
  }
  let note = ''
  if ((await observe(target.provider, target.row)) === 'running') {
    registry.setDesired(ticket, 'running', by)
    const paused = await pausedReason(target.provider, target.row)
    if (paused === null) {
      note = await bringUp(target, name, kept, cold)
      await leaveNote(target)
      await followProject(await targetOf(operation, ticket))
    } else note = `. It is paused (${paused}), as it was then: agent-swarm start ${ticket}`
  } else {
    registry.setDesired(ticket, 'stopped', by)
    registry.setStatus(ticket, 'stopped')
    registry.setAddress(ticket, null)
  }
  const keeps = kept.size === 1 ? 'its previous state is' : 'its previous states are'
  const where = kept.size === 0 ? '' : `; ${keeps} kept as ${[...kept].join(' and ')}`
  return {
    summary: `Restored ${ticket} to ${name}${cold ? ', its disk alone' : ''}${where}${note}`,
  }
}
