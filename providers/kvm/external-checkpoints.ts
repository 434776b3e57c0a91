/** Checkpoints that are frozen layers of a machine's disk, with its memory beside them (layers.ts, capture.ts). */
import type { CheckpointName } from '../../src/domain.ts'
import { fail, unless } from '../../src/errors.ts'
import type { RestoreOptions } from '../provider.ts'
import { capture, MEMORY_DEADLINE_MS } from './capture.ts'
import { type Context, look, type Machine, settleReturned } from './context.ts'
import { withFreeSpace } from './disk-space.ts'
import { forgetHeld, noteHeld, unlessStillPaused } from './held.ts'
import { ensurePool, freePort, isFreePort, listVolumes, withFile } from './host.ts'
import { type Isolator, isolatePaused, isolationOf } from './isolation.ts'
import { lookWhenIdle } from './jobs.ts'
import { layersIn, layerVolume, markerVolume, memoryVolume } from './layers.ts'
import { isIsolated, withDisk, withMark, withPort, withSessionNet } from './libvirt-xml.ts'
import { forgetLive } from './live.ts'
import { lookAndConnect } from './machines.ts'
import type { Mark } from './marks.ts'
import { makeOverlay, readPool, requireLayer, tidyLayers } from './pool-layers.ts'
import { makeVolume, removeVolume } from './volumes.ts'

const START_DEADLINE_MS = 120_000

export const makeExternal = async (context: Context, id: string, name: CheckpointName, doing: string) => {
  const { virsh } = context
  if ((await checkpointsOf(context, id)).some(checkpoint => checkpoint.name === name))
    throw fail('already-exists', `${doing}: it already exists`)
  try {
    const { layer, sizeBytes, pauseMs } = await capture(context, id, doing).catch(withFreeSpace(context))
    await virsh.run(makeVolume(context, markerVolume(id, layer, name)), {
      doing,
    })
    return { sizeBytes, ...(pauseMs === undefined ? {} : { livePauseMs: pauseMs }) }
  } finally {
    // What failed, and what an earlier process left. Whether it succeeds changes nothing of the checkpoint.
    await tidyLayers(context, id).catch(() => {})
  }
}

const checkpointsOf = async (context: Context, id: string) => layersIn(await listVolumes(context), id).checkpoints

/** Of the answer to `vol-list`. */
export const namesIn = (volumes: readonly string[], id: string): CheckpointName[] =>
  layersIn(volumes, id).checkpoints.map(({ name }) => name)

export const deleteExternal = async (
  context: Context,
  id: string,
  name: CheckpointName,
  doing: string,
): Promise<void> => {
  await lookWhenIdle(context, id, doing)
  for (const { layer } of (await checkpointsOf(context, id)).filter(checkpoint => checkpoint.name === name))
    await removeVolume(context, markerVolume(id, layer, name), doing)
  await tidyLayers(context, id)
}

// ── Restore ──

type Restore = {
  context: Context
  id: string
  doing: string
  machine: Machine
  /** The file of the memory; null when it is not brought back. */
  memory: string | null
  /** The file of the new layer. */
  disk: string
}

/** The mark as it is now, with a port that is free. */
const presentMark = async ({ context, machine: { mark } }: Restore): Promise<Mark> => ({
  ...mark,
  home: context.homeId,
  port: mark.port === null || (await isFreePort(mark.port)) ? mark.port : await freePort(),
})

const adapted = ({ context, disk }: Restore, text: string, mark: Mark): string => {
  const withNet = withSessionNet(withMark(withDisk(text, disk), mark), context.settings.kvmSessionNet === 'closed')
  return mark.port === null ? withNet : withPort(withNet, mark.port)
}

/**
 * Powers the machine off and gives it the new layer. With memory, its definition is that of the memory. Returns what undoes this:
 * the definition of before.
 */
const exchange = async (restore: Restore): Promise<{ definition: string; former: string }> => {
  const { context, id, doing, machine, memory } = restore
  const { virsh } = context
  const former = await virsh.run(['dumpxml', id, '--inactive', '--security-info'])
  const source =
    memory === null ? former : await virsh.run(['save-image-dumpxml', memory, '--security-info'], { doing })
  const isStopped = async () => (await look(context, id)).status === 'stopped'
  if (machine.status === 'running') await virsh.run(['destroy', id], { doing }).catch(unless(isStopped))
  await forgetLive(context, id)
  const definition = adapted(restore, source, await presentMark(restore))
  // A memory that libvirt saved belongs to the disk of before: the next start would resume it.
  await virsh.ask([['managedsave-remove', id]])
  await withFile(context, definition, file => virsh.run(['define', file], { doing }))
  return { definition, former }
}

/** The memory goes on with the new layer. It is isolated before, by its definition or, where that is of another time, while it is paused. */
const resumeMemory = async (restore: Restore, definition: string, isolator: Isolator | null): Promise<void> => {
  const { context, id, doing, machine, memory } = restore
  const { virsh } = context
  if (memory === null) return
  const isHeld = isolator !== null && !isIsolated(definition, await isolationOf(context, isolator, machine.mark))
  if (isHeld) noteHeld(context, id)
  await withFile(context, definition, file =>
    virsh.run(['restore', memory, '--xml', file, isHeld ? '--paused' : '--running'], {
      deadline: MEMORY_DEADLINE_MS,
      doing,
    }),
  )
  if (!isHeld) return
  await isolatePaused(context, isolator, machine)
  await virsh.run(['resume', id], { doing, deadline: START_DEADLINE_MS })
}

const layerOfCheckpoint = async (context: Context, id: string, name: CheckpointName): Promise<number> => {
  const found = (await checkpointsOf(context, id)).find(checkpoint => checkpoint.name === name)
  if (found === undefined) throw fail('no-such-checkpoint', `restoring ${id}: it has no checkpoint ${name}`)
  return found.layer
}

/**
 * Nothing of the checkpoint changes: the machine gets a new layer on top of its layer. Its former disk goes when it runs, so that
 * a memory that does not come back leaves the machine, off, with that disk.
 */
export const restoreExternal = async (
  context: Context,
  id: string,
  name: CheckpointName,
  { cold = false }: RestoreOptions,
): Promise<void> => {
  const { virsh } = context
  const doing = `restoring ${id} to ${name}`
  const layer = await layerOfCheckpoint(context, id, name)
  const { isolator, ...machine } = await lookAndConnect(context, id, doing)
  const { folder } = await ensurePool(context)
  const pool = await readPool(context)
  requireLayer(pool, id, layer, doing)
  const { next, memories } = layersIn(pool.volumes, id)
  try {
    const volume = layerVolume(id, next)
    await makeOverlay(context, { volume, on: layerVolume(id, layer), folder, doing }).catch(withFreeSpace(context))
    const memory = cold || !memories.includes(layer) ? null : `${folder}/${memoryVolume(id, layer)}`
    const restore: Restore = { context, id, doing, machine, memory, disk: `${folder}/${volume}` }
    const { definition, former } = await exchange(restore)
    await resumeMemory(restore, definition, isolator)
      .catch(unlessStillPaused(context, id, () => look(context, id)))
      .catch(async error => {
        if ((await look(context, id)).status === 'stopped')
          await withFile(context, former, file => virsh.run(['define', file], { doing }))
        return withFreeSpace(context)(error)
      })
    forgetHeld(context, id)
    // Whoever asked for the restore looks at the clock, and sets it without an agent.
    await settleReturned(context, id, { ticket: machine.mark.ticket })
  } finally {
    await tidyLayers(context, id).catch(() => {})
  }
}
