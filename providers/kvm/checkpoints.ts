/** Checkpoints are libvirt's internal snapshots. That of a running machine holds its memory. */
import { parseCheckpointName } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import { type Context, look, lookCommands, machineIn } from './context.ts'
import { volumesOf } from './definition.ts'
import { requireSpace } from './disk-space.ts'
import { poolCommands, withFile } from './host.ts'
import { isolatePaused } from './isolation.ts'
import { withSessionNet } from './libvirt-xml.ts'
import { lookAndConnect, withFreeSpace } from './machines.ts'
import { writeMark } from './marks.ts'
import { parsePool, parseSnapshots, parseUsage, parseVolumes } from './parse.ts'
import type { Command } from './virsh.ts'

/** A checkpoint writes the guest's memory to the disk, and a restore reads it. */
const DEADLINE_MS = 5 * 60_000

const listSnapshots = (id: string): Command => ['snapshot-list', id, '--topological']

const checkName = (name: string): string => {
  if (parseCheckpointName(name) !== name) throw fail('usage', `"${name}" is not a checkpoint name`)
  return name
}

export const makeCheckpoint = async (context: Context, id: string, name: string) => {
  const { virsh, settings } = context
  const doing = `making the checkpoint ${checkName(name)} of ${id}`
  const { disk } = volumesOf(id)
  const measure = ['vol-info', '--pool', settings.kvmPool, disk, '--bytes']
  const { stdout } = await look(context, id, [
    measure,
    ...poolCommands(settings),
    ['domstats', id, '--state', '--balloon', '--nowait'],
    listSnapshots(id),
  ])
  if (parseSnapshots(stdout).includes(name)) throw fail('already-exists', `${doing}: it already exists`)
  const [before, pool, usage] = [parseVolumes(stdout).get(disk), parsePool(stdout), parseUsage(stdout).get(id)]
  // All memory that the guest ever used goes to the disk.
  const needed = Math.min(usage?.memoryUsedBytes ?? 0, usage?.memoryBytes ?? 0)
  if (pool !== null) requireSpace(doing, needed, pool)
  const output = await virsh
    .all([['snapshot-create-as', id, `--name=${name}`, '--atomic'], measure], { deadline: DEADLINE_MS, doing })
    .catch(withFreeSpace(context))
  const after = parseVolumes(output).get(disk)
  return { sizeBytes: before === undefined || after === undefined ? null : Math.max(0, after - before) }
}

export const restoreCheckpoint = async (context: Context, id: string, name: string): Promise<void> => {
  const { virsh, homeId } = context
  const machine = await lookAndConnect(context, id, [['snapshot-info', id, `--snapshotname=${checkName(name)}`]])
  const { mark, isolator, stdout } = machine
  // Only a guest that runs or is paused in the checkpoint has a process afterwards; its definition is that of the capture.
  const state = stdout.match(/^State:\s+(running|paused)/m)?.[1] ?? null
  const isHeld = isolator !== null && state !== null
  const revert = async () => {
    if (mark.port !== null) await adaptSnapshot(context, id, name)
    await virsh.run(['snapshot-revert', id, `--snapshotname=${name}`, ...(isHeld ? ['--paused'] : [])], {
      deadline: DEADLINE_MS,
      doing: `restoring ${id} to ${name}`,
    })
  }
  await revert()
    .catch(async error => {
      if ((await listCheckpoints(context, id)).includes(name)) throw error
      throw fail('no-such-checkpoint', `restoring ${id}: it has no checkpoint ${name}`)
    })
    .catch(withFreeSpace(context))
  const ip = isHeld ? (await isolatePaused(context, isolator, machine)).ip : null
  if (isHeld && state === 'running') await virsh.run(['resume', id], { doing: `restoring ${id} to ${name}` })
  // The guest's clock shows the time of the capture, and only an agent in a running guest can set it.
  const answer = await virsh.ask([['domtime', id, '--now'], ...lookCommands(id)])
  // libvirt brings the mark of the capture back, which may have another ticket, or no home. Its port is right: the
  // definition that it belongs to came back with it.
  const restored = await machineIn({ ...context, knows: () => true }, id, answer)
  const present = { ...restored.mark, ticket: mark.ticket, home: homeId, ip: ip ?? restored.mark.ip }
  if (restored.mark.ticket !== present.ticket || restored.mark.ip !== present.ip)
    await virsh.all([writeMark(present, restored.status)], {
      doing: `restoring the mark of ${id}`,
    })
}

/** A checkpoint of a machine in a session has the network of its time; the present setting counts. */
const adaptSnapshot = async (context: Context, id: string, name: string): Promise<void> => {
  const { virsh, settings } = context
  const before = await virsh.run(['snapshot-dumpxml', id, `--snapshotname=${name}`, '--security-info'])
  const text = withSessionNet(before, settings.kvmSessionNet === 'closed')
  if (text !== before) await withFile(context, text, path => virsh.run(['snapshot-create', id, path, '--redefine']))
}

export const listCheckpoints = async (context: Context, id: string): Promise<string[]> => {
  const { stdout, stderr } = await look(context, id, [listSnapshots(id)])
  // A list that cannot be read is not an empty list.
  if (stderr !== '') throw context.virsh.failed(`listing the checkpoints of ${id}`, stderr)
  // A snapshot that somebody made with another name is not a checkpoint: no command could name it, and no bot would accept it.
  return parseSnapshots(stdout).filter(name => parseCheckpointName(name) === name)
}

export const deleteCheckpoint = async (context: Context, id: string, name: string): Promise<void> => {
  if (!(await listCheckpoints(context, id)).includes(checkName(name))) return
  await context.virsh.run(['snapshot-delete', id, `--snapshotname=${name}`], {
    deadline: DEADLINE_MS,
    doing: `deleting the checkpoint ${name} of ${id}`,
  })
}
