/** Checkpoints of machines of earlier versions: libvirt's internal snapshots. That of a running machine holds its memory. */
import { parseCheckpointName } from '../../src/domain.ts'
import { fail, unless } from '../../src/errors.ts'
import type { RestoreOptions } from '../provider.ts'
import { type Context, look, type Machine, settleReturned } from './context.ts'
import { volumesOf } from './definition.ts'
import { diskCommand, requireDiskFile } from './disk-file.ts'
import { requireSpace, withFreeSpace } from './disk-space.ts'
import { memoryInUse } from './domain-type.ts'
import { forgetHeld, noteHeld, unlessStillPaused } from './held.ts'
import { poolCommands, withFile } from './host.ts'
import { type Isolator, isolatePaused } from './isolation.ts'
import { lookWhenIdle } from './jobs.ts'
import { withoutMemory, withSessionNet } from './libvirt-xml.ts'
import { lookAndConnect } from './machines.ts'
import { parsePool, parseSnapshots, parseVolumes } from './parse.ts'
import type { Command } from './virsh.ts'

/** A checkpoint writes the guest's memory to the disk, and a restore reads it. */
const DEADLINE_MS = 5 * 60_000

export const listSnapshots = (id: string): Command => ['snapshot-list', id, '--topological']

/** Of the machine's state besides the guest's memory: devices, and the disk's own tables. */
const STATE_BYTES = 16 * 1024 ** 2

export const makeInternal = async (context: Context, id: string, name: string, doing: string) => {
  const { virsh, settings } = context
  const { disk } = volumesOf(id)
  const measure = diskCommand(context, id)
  const machine = await lookWhenIdle(context, id, doing, [
    measure,
    ...poolCommands(settings),
    ['domstats', id, '--state', '--balloon', '--nowait'],
    listSnapshots(id),
  ])
  const { stdout } = machine
  if (parseSnapshots(stdout).includes(name)) throw fail('already-exists', `${doing}: it already exists`)
  await requireDiskFile(context, machine, doing)
  const [before, pool] = [parseVolumes(stdout).get(disk), parsePool(stdout)]
  const memory = memoryInUse(context, stdout, id)
  if (pool !== null && memory !== null) requireSpace(doing, memory + STATE_BYTES, pool)
  const output = await virsh
    .all([['snapshot-create-as', id, `--name=${name}`, '--atomic'], measure], { deadline: DEADLINE_MS, doing })
    .catch(withFreeSpace(context))
  const after = parseVolumes(output).get(disk)
  return { sizeBytes: before === undefined || after === undefined ? null : Math.max(0, after - before) }
}

// ── Restore ──

type Revert = { context: Context; id: string; name: string; doing: string }

/** Runs a command on the checkpoint, and says so when it does not exist. */
const onCheckpoint = async ({ context, id, name, doing }: Revert, command: string, options: readonly string[] = []) =>
  context.virsh
    .run([command, id, `--snapshotname=${name}`, ...options], { deadline: DEADLINE_MS, doing })
    .catch(async error => {
      if ((await listInternal(context, id)).includes(name)) throw error
      throw fail('no-such-checkpoint', `restoring ${id}: it has no checkpoint ${name}`)
    })

/** The memory comes back with the disk, and goes on. */
const revertMemory = async (
  revert: Revert,
  machine: Machine & { isolator: Isolator | null },
  state: 'running' | 'paused' | null,
): Promise<string | null> => {
  const { context, id, doing } = revert
  const { virsh } = context
  const { mark, isolator } = machine
  // Only a guest that runs or is paused in the checkpoint has a process afterwards; its definition is that of the capture.
  const isHeld = isolator !== null && state !== null
  if (mark.port !== null) await adaptSnapshot(revert)
  if (isHeld) noteHeld(context, id)
  await onCheckpoint(revert, 'snapshot-revert', isHeld ? ['--paused'] : [])
  if (!isHeld) return null
  const { ip } = await isolatePaused(context, isolator, machine)
  if (state === 'running') await virsh.run(['resume', id], { doing })
  return ip
}

/**
 * Brings only the disk back. libvirt restores a memory wherever a checkpoint has one, so this one has none meanwhile. Killed in
 * between, it stays a checkpoint of the disk.
 */
const revertDisk = async (revert: Revert, { status }: Machine): Promise<void> => {
  const { context, id, name, doing } = revert
  const { virsh } = context
  const original = await onCheckpoint(revert, 'snapshot-dumpxml', ['--security-info'])
  const redefine = (text: string) =>
    withFile(context, text, file =>
      virsh.all(
        [
          ['snapshot-delete', id, `--snapshotname=${name}`, '--metadata'],
          ['snapshot-create', id, file, '--redefine'],
        ],
        { doing },
      ),
    )
  const isStopped = async () => (await look(context, id)).status === 'stopped'
  if (status === 'running') await virsh.run(['destroy', id], { doing }).catch(unless(isStopped))
  try {
    await redefine(withoutMemory(original))
    await onCheckpoint(revert, 'snapshot-revert')
  } finally {
    await redefine(original)
  }
}

export const restoreInternal = async (
  context: Context,
  id: string,
  name: string,
  { cold = false }: RestoreOptions,
): Promise<void> => {
  const revert: Revert = { context, id, name, doing: `restoring ${id} to ${name}` }
  const machine = await lookAndConnect(context, id, revert.doing, [['snapshot-info', id, `--snapshotname=${name}`]])
  const { mark, stdout } = machine
  const state = (stdout.match(/^State:\s+(running|paused)/m)?.[1] as 'running' | 'paused' | undefined) ?? null
  const ip = await (cold && state !== null
    ? revertDisk(revert, machine).then(() => null)
    : revertMemory(revert, machine, state)
  )
    .catch(unlessStillPaused(context, id, () => look(context, id)))
    .catch(withFreeSpace(context))
  forgetHeld(context, id)
  // A memory that libvirt saved belongs to the disk of before: the next start would resume it. The mark's port is right: the
  // definition that it belongs to came back with it.
  const present = { ticket: mark.ticket, ...(ip === null ? {} : { ip }) }
  await settleReturned(context, id, present, [['managedsave-remove', id]])
}

/** A checkpoint of a machine in a session has the network of its time; the present setting counts. */
const adaptSnapshot = async (revert: Revert): Promise<void> => {
  const { context, id } = revert
  const { virsh, settings } = context
  const before = await onCheckpoint(revert, 'snapshot-dumpxml', ['--security-info'])
  const text = withSessionNet(before, settings.kvmSessionNet === 'closed')
  if (text !== before) await withFile(context, text, path => virsh.run(['snapshot-create', id, path, '--redefine']))
}

/** Of the answer to `listSnapshots`. A snapshot that somebody made with another name is not a checkpoint: no command could name it, and no bot would accept it. */
export const snapshotNames = (text: string): string[] =>
  parseSnapshots(text).filter(name => parseCheckpointName(name) === name)

const listInternal = async (context: Context, id: string): Promise<string[]> =>
  snapshotNames(await context.virsh.run(listSnapshots(id)))

export const deleteInternal = async (context: Context, id: string, name: string, doing: string): Promise<void> => {
  await lookWhenIdle(context, id, doing)
  if (!(await listInternal(context, id)).includes(name)) return
  await context.virsh.run(['snapshot-delete', id, `--snapshotname=${name}`], {
    deadline: DEADLINE_MS,
    doing,
  })
}
