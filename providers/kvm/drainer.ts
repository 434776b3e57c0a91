/**
 * A pipe between QEMU and the file of a live checkpoint's memory, for a QEMU that loses its guest when that file cannot be written:
 * what reads the pipe outlives us, and goes on reading when the disk is full. Only root may write where the pool is.
 */
import { closeSync, constants, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { fail } from '../../src/errors.ts'
import type { Context } from './context.ts'
import { FREE_DISK_SPACE } from './explain.ts'
import { COMPLETE, UNFINISHED } from './save-image.ts'

/** libvirt opens the pipe twice: for the memory, and for the final header, whose place a pipe does not have. */
const DRAIN = `setsid sh -c '(cat >"$1" || echo full >"$2"; cat >/dev/null) <"$0"; cat >/dev/null <"$0"; echo end >>"$2"' "$1" "$2" "$3" </dev/null >/dev/null 2>&1 &`
const POLL_MS = 50
const END_MS = 10_000

/** Whether this process may write into the folder of this host's pool. */
export const canDrain = ({ settings }: Pick<Context, 'settings'>): boolean =>
  process.getuid?.() === 0 && URL.canParse(settings.kvmUri) && new URL(settings.kvmUri).hostname === ''

/** `fifo`: a path that does not exist yet. What goes into it goes into `file`. */
export const openDrainer = async ({ run }: Pick<Context, 'run'>, fifo: string, file: string): Promise<void> => {
  rmSync(fifo, { force: true })
  await run('mkfifo', ['-m', '600', fifo])
  closeSync(openSync(file, 'w', 0o600))
  await run('sh', ['-c', DRAIN, 'sh', fifo, file, `${fifo}.end`])
}

const readEnd = (fifo: string): string => {
  try {
    return readFileSync(`${fifo}.end`, 'utf8')
  } catch {
    return ''
  }
}

/**
 * Of a pipe that nobody writes into any more: waits until its reader has everything. Returns what it says of its end: "full" when the
 * file could not take everything, "end" when all is read.
 */
const waitForEnd = async (fifo: string): Promise<string> => {
  const end = performance.now() + END_MS
  // The reader expects end-of-file twice; each open and close gives it one. libvirt gives one or two.
  while (!readEnd(fifo).includes('end') && performance.now() < end) {
    try {
      closeSync(openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT') break
      // ENXIO: nobody reads at this moment.
    }
    await delay(POLL_MS)
  }
  return readEnd(fifo)
}

/** Waits until the file has everything, and makes it one that libvirt restores: its last change of the header went into the pipe. */
export const finishDrainer = async (fifo: string, file: string, doing: string): Promise<void> => {
  const said = await waitForEnd(fifo)
  if (said.includes('full')) throw fail('disk-full', `${doing}: the disk is full. The machine runs on`, FREE_DISK_SPACE)
  if (!said.includes('end')) throw fail('timeout', `${doing}: the memory was not on the disk ${END_MS / 1000} s later`)
  const image = openSync(file, 'r+')
  try {
    const head = Buffer.alloc(UNFINISHED.length)
    readSync(image, head)
    if (head.toString('latin1') === UNFINISHED) writeSync(image, COMPLETE, 0, 'latin1')
  } finally {
    closeSync(image)
  }
}

/** Ends the reader of a pipe that nobody writes into any more, and removes the pipe. */
export const releaseDrainer = async (fifo: string): Promise<void> => {
  await waitForEnd(fifo)
  for (const path of [fifo, `${fifo}.end`]) rmSync(path, { force: true })
}
