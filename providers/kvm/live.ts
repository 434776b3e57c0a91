/**
 * Live checkpoints: QEMU's migration capability `background-snapshot`, with which it protects a guest's memory and lets it go on while
 * the memory is written. libvirt knows nothing of it. Left on, it spoils the next save, which then takes the memory of a guest
 * that runs; so it is off again after each checkpoint, and a note records that it may be on.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { VM_ID } from '../../src/domain.ts'
import { checkName, fail } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files.ts'
import { lockFile } from '../../src/lock-file.ts'
import { type Context, look } from './context.ts'
import { releaseDrainer } from './drainer.ts'
import { jobIn, lookWhenIdle } from './jobs.ts'
import { isLiveIn, readLive, setLive } from './monitor.ts'
import { parseSections, parseStates } from './parse.ts'
import type { KvmSettings } from './settings.ts'
import { type Command, inBatches } from './virsh.ts'

/**
 * In older ones, a save that is aborted, or whose disk is full, may leave the guest hanging for good: 7.2 does. QEMU's changelog says
 * that 8.1 mended it; 10.0 is the oldest in which it was tried.
 */
export const SAFE_SINCE = 10

/** Whether a machine with this QEMU gets live checkpoints, if its host can do them. */
export const wantsLive = ({ kvmLiveCheckpoints }: Pick<KvmSettings, 'kvmLiveCheckpoints'>, qemu: number | null) =>
  qemu !== null && (kvmLiveCheckpoints === 'on' || (kvmLiveCheckpoints === 'auto' && qemu >= SAFE_SINCE))

/** Returns whether it is on now. A host that cannot refuses in its answer, with exit status 0. */
export const turnLiveOn = async ({ virsh }: Context, id: string): Promise<boolean> =>
  isLiveIn((await virsh.ask([setLive(id, true), readLive(id)])).stdout) === true

/** Fails unless it is off then. */
const turnLiveOff = async ({ virsh }: Context, id: string): Promise<void> => {
  const { stdout, stderr } = await virsh.ask([setLive(id, false), readLive(id)])
  if (isLiveIn(stdout) === false) return
  throw fail(
    'unknown',
    `turning QEMU's background-snapshot off in ${id}: it stays on (${`${stdout} ${stderr}`.trim().slice(-300)}), so that the next save of its memory would be wrong`,
    'Restart the machine: agent-swarm restart <TICKET>',
  )
}

// ── The lock and the note ──

type Home = Pick<Context, 'home'>
const PREFIX = 'live-'
const noteOf = ({ home }: Home, id: string) => join(home, 'kvm', `${PREFIX}${checkName('machine', id)}`)

/** A checkpoint takes less. */
const LOCK_DEADLINE_MS = 15 * 60_000
const POLL_MS = 100

/** Held by whoever makes or ends a checkpoint of the machine, until it is ended. Null when another process or task holds it. */
const tryCheckpointLock = (context: Home, id: string) => lockFile(`${noteOf(context, id)}.lock`)

/** Runs `work` while nobody else makes or ends a checkpoint of the machine. */
export const withCheckpointLock = async <T>(
  context: Home,
  id: string,
  doing: string,
  work: () => Promise<T>,
): Promise<T> => {
  const end = performance.now() + LOCK_DEADLINE_MS
  let release = tryCheckpointLock(context, id)
  for (; release === null; release = tryCheckpointLock(context, id)) {
    if (performance.now() > end)
      throw fail(
        'busy',
        `${doing}: another command makes a checkpoint of it, for ${LOCK_DEADLINE_MS / 60_000} minutes`,
        'Try again when that has ended: agent-swarm status <TICKET>',
      )
    await delay(POLL_MS)
  }
  try {
    return await work()
  } finally {
    release()
  }
}

/** `fifo`: what the memory goes through. */
export const noteLive = (context: Home, id: string, fifo: string | null): void => {
  mkdirSync(join(context.home, 'kvm'), { recursive: true, mode: 0o700 })
  writeFileAtomic(noteOf(context, id), JSON.stringify({ fifo }))
}

const fifoOf = (context: Home, id: string): string | null => {
  try {
    return (JSON.parse(readFileSync(noteOf(context, id), 'utf8')) as { fifo: string | null }).fifo
  } catch {
    return null
  }
}

const isNoted = (context: Home, id: string): boolean => existsSync(noteOf(context, id))

/** A checkpoint of the machine: one that a process makes or ends now, or one whose process died or gave up. */
export const notedCheckpoint = (context: Home, id: string): 'under-way' | 'interrupted' | null => {
  if (!isNoted(context, id)) return null
  const release = tryCheckpointLock(context, id)
  release?.()
  return release === null ? 'under-way' : 'interrupted'
}

/** For a machine that is off or gone, or whose memory nothing writes any more: ends the pipe's reader, and removes the note. */
export const forgetLive = async (context: Home, id: string): Promise<void> => {
  const fifo = fifoOf(context, id)
  if (fifo !== null) await releaseDrainer(fifo)
  rmSync(noteOf(context, id), { force: true })
}

/** The machine is gone. */
export const removeCheckpointLock = (context: Home, id: string): void =>
  rmSync(`${noteOf(context, id)}.lock`, { force: true })

const notedMachines = ({ home }: Home): string[] => {
  const folder = join(home, 'kvm')
  const files = existsSync(folder) ? readdirSync(folder) : []
  return files.flatMap(file => {
    const id = file.startsWith(PREFIX) ? file.slice(PREFIX.length) : ''
    return VM_ID.test(id) ? [id] : []
  })
}

// ── The end ──

/**
 * Ends a checkpoint, for whoever holds the lock: a guest that ran goes on, and the capability is proven off. One that failed, or whose
 * process died, may still be writing: that is waited for, and never aborted. If this fails, the note stays, as of one that was
 * interrupted.
 */
export const endCheckpoint = async (context: Context, id: string, wasRunning: boolean): Promise<void> => {
  const { status, paused } = await lookWhenIdle(context, id, `ending a checkpoint of ${id}`)
  if (status === 'running') {
    if (wasRunning && paused !== undefined) await context.virsh.ask([['resume', id]])
    await turnLiveOff(context, id)
  }
  await forgetLive(context, id)
}

/** Ends the checkpoint whose process died, for whoever holds the lock. */
export const endNoted = async (context: Context, id: string): Promise<void> => {
  if (isNoted(context, id)) await endCheckpoint(context, id, true)
}

/** A guest that lost a save answers nothing more. */
const LOOK_DEADLINE_MS = 10_000

/** Asks about all at once, and when that fails, about each alone: a machine that does not answer holds up no other. */
const askAll = async <T>(ids: readonly string[], ask: (ids: readonly string[]) => Promise<T[]>): Promise<T[]> => {
  try {
    return await ask(ids)
  } catch (error) {
    if (ids.length < 2) throw error
    const each = await Promise.allSettled(ids.map(id => ask([id])))
    return each.flatMap(result => (result.status === 'fulfilled' ? result.value : []))
  }
}

/** The first command tells whose the rest is. QEMU refuses to turn it off while a live save goes on. */
const endCommands = (id: string): Command[] => [
  ['domstats', id, '--state', '--nowait'],
  ['domjobinfo', id],
  setLive(id, false),
  readLive(id),
]

/** Returns those that it ended. */
const endIn = async ({ virsh }: Context, ids: readonly string[]): Promise<string[]> => {
  const { stdout } = await virsh.ask(ids.flatMap(endCommands), { deadline: LOOK_DEADLINE_MS })
  return [...parseSections(stdout)].flatMap(([id, text]) => {
    const state = parseStates(text).get(id)
    const isRunning = state?.status === 'running' && state.paused === undefined
    return isRunning && jobIn(text, state) === null && isLiveIn(text) === false ? id : []
  })
}

/**
 * At a look at the machines: ends the checkpoints whose process died, in one call of virsh. What libvirt is still busy with is left
 * for the next look. A machine that one left paused is listed as interrupted, and whoever starts it ends the checkpoint.
 * `running`: those that are not paused.
 */
export const endInterrupted = async (context: Context, running: readonly string[]): Promise<void> => {
  const held = new Map<string, () => void>()
  try {
    for (const id of notedMachines(context).filter(each => running.includes(each))) {
      const release = tryCheckpointLock(context, id)
      if (release !== null) held.set(id, release)
    }
    const ids = [...held.keys()].filter(id => isNoted(context, id))
    const ended = await askAll(ids, batch => endIn(context, batch))
    await Promise.all(ended.map(id => forgetLive(context, id)))
  } catch {
    // The list matters more. A save of its memory looks for itself.
  } finally {
    for (const release of held.values()) release()
  }
}

/** Before libvirt saves a machine's memory in its own way. */
export const requireNotLive = (context: Context, id: string, doing: string): Promise<void> =>
  withCheckpointLock(context, id, doing, async () => {
    if (isLiveIn((await context.virsh.ask([readLive(id)])).stdout) === true) await turnLiveOff(context, id)
  })

const settleOne = async (context: Context, id: string): Promise<void> => {
  const { status, mark, stdout } = await look(context, id, [readLive(id)])
  if (status !== 'running' || mark.checkpoints !== 'external') return
  // Whoever turns it on notes that before.
  if (isNoted(context, id)) await endCheckpoint(context, id, true)
  else if (isLiveIn(stdout) === true) await turnLiveOff(context, id)
}

/** Returns those that have it on. */
const onIn = async ({ virsh }: Context, ids: readonly string[]): Promise<string[]> => {
  const looks: Command[] = ids.flatMap(id => [['domstats', id, '--state', '--nowait'], readLive(id)])
  const { stdout } = await virsh.ask(looks, { deadline: LOOK_DEADLINE_MS })
  return [...parseSections(stdout)].flatMap(([id, text]) => (isLiveIn(text) === true ? id : []))
}

/** At the start of a runner: no machine of ours keeps the capability on, whoever left it so. */
export const settleLive = async (context: Context, machines: readonly string[]): Promise<void> => {
  const on = await Promise.all(inBatches(machines).map(batch => askAll(batch, ids => onIn(context, ids))))
  const left = new Set([...machines.filter(id => isNoted(context, id)), ...on.flat()])
  const results = await Promise.allSettled(
    [...left].map(async id => {
      const release = tryCheckpointLock(context, id)
      if (release !== null) await settleOne(context, id).finally(release)
    }),
  )
  for (const result of results) if (result.status === 'rejected') throw result.reason
}
