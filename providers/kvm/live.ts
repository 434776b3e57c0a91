/**
 * Live checkpoints: QEMU's migration capability `background-snapshot`, with which it protects a guest's memory and lets it go on while
 * the memory is written. libvirt knows nothing of it. Left on, it spoils the next save, which then takes the memory of a guest
 * that runs; so it is off again after each checkpoint, and a note says while it may be on.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { VM_ID } from '../../src/domain.ts'
import { checkName, fail } from '../../src/errors.ts'
import { isProcessAlive } from '../../src/exec.ts'
import { writeFileAtomic } from '../../src/files.ts'
import { type Context, look } from './context.ts'
import { releaseDrainer } from './drainer.ts'
import { lookWhenIdle } from './jobs.ts'
import { parseCapability } from './parse.ts'
import { monitor } from './pause.ts'
import type { KvmSettings } from './settings.ts'
import type { Command } from './virsh.ts'

const CAPABILITY = 'background-snapshot'
/** In older ones, a save that is aborted, or whose disk is full, leaves the guest hanging for good (seen with 7.2; mended upstream in 8.1). */
export const SAFE_SINCE = 8.01

/** Whether a machine with this QEMU gets live checkpoints, if its host can do them. */
export const wantsLive = ({ kvmLiveCheckpoints }: Pick<KvmSettings, 'kvmLiveCheckpoints'>, qemu: number | null) =>
  qemu !== null && (kvmLiveCheckpoints === 'on' || (kvmLiveCheckpoints === 'auto' && qemu >= SAFE_SINCE))

export const setLive = (id: string, state: boolean): Command =>
  monitor(id, 'migrate-set-capabilities', { arguments: { capabilities: [{ capability: CAPABILITY, state }] } })
export const readLive = (id: string): Command => monitor(id, 'query-migrate-capabilities')

/** Whether it is on, in an answer to `readLive`. */
export const isLiveIn = (text: string): boolean | null => parseCapability(text, CAPABILITY)

/** Returns whether it is on now. A host that cannot refuses in its answer, with exit status 0. */
export const turnLiveOn = async ({ virsh }: Context, id: string): Promise<boolean> =>
  isLiveIn((await virsh.ask([setLive(id, true), readLive(id)])).stdout) === true

/** Fails unless it is off then. */
const turnLiveOff = async ({ virsh }: Context, id: string): Promise<void> => {
  const { stdout, stderr } = await virsh.ask([setLive(id, false), readLive(id)])
  if (isLiveIn(stdout) === false) return
  throw fail(
    'unknown',
    `turning QEMU's ${CAPABILITY} off in ${id}: it stays on (${`${stdout} ${stderr}`.trim().slice(-300)}), so that the next save of its memory would be wrong`,
    'Restart the machine: agent-swarm restart <TICKET>',
  )
}

// ── The note ──

type Home = Pick<Context, 'home'>
/** `pid`: of the process that makes the checkpoint; null when it gave up. `fifo`: what its memory goes through. */
type Note = { pid: number | null; fifo: string | null }

const PREFIX = 'live-'
const noteOf = ({ home }: Home, id: string) => join(home, 'kvm', `${PREFIX}${checkName('machine', id)}`)

const writeNote = (context: Home, id: string, note: Note): void => {
  mkdirSync(join(context.home, 'kvm'), { recursive: true, mode: 0o700 })
  writeFileAtomic(noteOf(context, id), JSON.stringify(note))
}
export const noteLive = (context: Home, id: string, fifo: string | null): void =>
  writeNote(context, id, { pid: process.pid, fifo })

const readNote = (context: Home, id: string): Note | null => {
  try {
    return JSON.parse(readFileSync(noteOf(context, id), 'utf8')) as Note
  } catch {
    return null
  }
}

/** A checkpoint of the machine: one that a living process makes, or one whose process died. */
export const notedCheckpoint = (context: Home, id: string): 'under-way' | 'interrupted' | null => {
  if (!existsSync(noteOf(context, id))) return null
  const note = readNote(context, id)
  return note?.pid != null && isProcessAlive(note.pid) ? 'under-way' : 'interrupted'
}

/** The machine is off or gone, and so is what it wrote, or nothing writes it any more. */
export const forgetLive = async (context: Home, id: string): Promise<void> => {
  const fifo = readNote(context, id)?.fifo
  if (fifo != null) await releaseDrainer(fifo)
  rmSync(noteOf(context, id), { force: true })
}

const notedMachines = ({ home }: Home): string[] => {
  const folder = join(home, 'kvm')
  const files = existsSync(folder) ? readdirSync(folder) : []
  return files.flatMap(file => {
    const id = file.startsWith(PREFIX) ? file.slice(PREFIX.length) : ''
    return VM_ID.test(id) ? [id] : []
  })
}

// ── The end ──

const settle = async (context: Context, id: string, wasRunning: boolean): Promise<void> => {
  const { virsh } = context
  const { status, paused } = await lookWhenIdle(context, id, `ending a checkpoint of ${id}`)
  if (status === 'running') {
    if (wasRunning && paused !== undefined) await virsh.ask([['resume', id]])
    await turnLiveOff(context, id)
  }
  await forgetLive(context, id)
}

/**
 * Ends a checkpoint: a guest that ran goes on, and the capability is proven off. One that failed, or whose process died, may still
 * be writing: that is waited for, and never aborted.
 */
export const endCheckpoint = (context: Context, id: string, wasRunning: boolean): Promise<void> =>
  settle(context, id, wasRunning).catch(error => {
    const note = readNote(context, id)
    if (note !== null) writeNote(context, id, { ...note, pid: null })
    throw error
  })

/**
 * At a look at the machines: ends the checkpoints whose process died. A machine that one left paused is listed as interrupted, and
 * whoever starts it ends the checkpoint. `running`: those that are not paused.
 */
export const endInterrupted = async (context: Context, running: readonly string[]): Promise<void> => {
  for (const id of notedMachines(context))
    if (running.includes(id) && notedCheckpoint(context, id) === 'interrupted')
      // The list matters more. A save of its memory looks for itself.
      await endCheckpoint(context, id, false).catch(() => {})
}

/** Before libvirt saves a machine's memory in its own way. */
export const requireNotLive = async (context: Context, id: string): Promise<void> => {
  if (isLiveIn((await context.virsh.ask([readLive(id)])).stdout) === true) await turnLiveOff(context, id)
}

/** At the start of a runner: no machine of ours keeps the capability on, whoever left it so. */
export const settleLive = async (context: Context, machines: readonly string[]): Promise<void> => {
  for (const id of machines) {
    if (notedCheckpoint(context, id) === 'under-way') continue
    const { status, mark, stdout } = await look(context, id, [readLive(id)])
    if (status !== 'running' || mark.checkpoints !== 'external') continue
    // Whoever turns it on notes that before.
    const noted = notedCheckpoint(context, id)
    if (noted === 'interrupted') await endCheckpoint(context, id, true)
    else if (noted === null && isLiveIn(stdout) === true) await turnLiveOff(context, id)
  }
}
