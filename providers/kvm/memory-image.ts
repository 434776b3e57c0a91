/** A machine that begins with the memory in another machine's image, which is read once for it. */
import { closeSync, constants, existsSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { checkName } from '../../src/errors.ts'
import type { Context } from './context.ts'
import { requireSpace } from './disk-space.ts'
import { withFile } from './host.ts'
import { downloadPart } from './in-disk.ts'
import { parseVersions, parseVolumes, versionNumber } from './parse.ts'
import { HEADER_BYTES, parseSaveImage, type SaveImage, saveImageStart, streamOffset } from './save-image.ts'
import { spaceIn } from './saved.ts'
import { volumeInfo } from './volumes.ts'

const RESTORE_DEADLINE_MS = 5 * 60_000
/** What a pipe holds before somebody reads it (Linux, pipe(7)). */
const PIPE_BYTES = 64 * 1024
const RELEASE_MS = 200

/** What stands in front of the memory in a volume, and where its stream begins. */
export type MemoryImage = SaveImage & { volume: string; streamAt: number }

export const readMemoryImage = async (context: Context, volume: string): Promise<MemoryImage> => {
  const streamAt = streamOffset(await downloadPart(context, volume, 0, HEADER_BYTES))
  return { ...parseSaveImage(await downloadPart(context, volume, 0, streamAt)), volume, streamAt }
}

/**
 * How often libvirt opens an image that it restores, and reads its definition: once until 9.0, twice since 11.3. Null: not known,
 * so nothing but a file will do.
 */
export const timesRead = (libvirt: string): number | null => {
  const version = versionNumber(libvirt)
  return version <= 9 ? 1 : version >= 11.03 ? 2 : null
}

const pipeOf = ({ home }: Pick<Context, 'home'>, vmId: string): string =>
  join(home, 'kvm', `fork-${checkName('machine', vmId)}`)

/** A reader that waits for somebody to write into the pipe reads its end. Otherwise it would wait for good. */
const releaseReader = (path: string): void => {
  try {
    closeSync(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK))
  } catch {
    // Nobody reads it.
  }
}

/** Removes the pipe. */
export const removePipe = (context: Pick<Context, 'home'>, vmId: string): void => {
  const path = pipeOf(context, vmId)
  if (!existsSync(path)) return
  releaseReader(path)
  rmSync(path, { force: true })
}

type Restore = { image: MemoryImage; vmId: string; doing: string }

const download = ({ settings }: Context, volume: string, path: string, offset: number) => [
  ...['vol-download', '--pool', settings.kvmPool, volume, path, '--offset', String(offset)],
]
const restore = (path: string) => ['restore', path, '--paused']

/** libvirt reads our definition and then the stream out of a pipe: nothing is copied. */
const restoreFromPipe = async (context: Context, { image, vmId, doing }: Restore, start: Buffer, times: number) => {
  const { run, virsh, home } = context
  mkdirSync(join(home, 'kvm'), { recursive: true, mode: 0o700 })
  removePipe(context, vmId)
  const path = pipeOf(context, vmId)
  await run('mkfifo', ['-m', '600', path], { doing })
  // Both ends: opening it waits for nobody, and it has no end before we close it.
  let handle: number | null = openSync(path, 'r+')
  const close = () => {
    if (handle !== null) closeSync(handle)
    handle = null
  }
  const failed = new AbortController()
  let releasing: NodeJS.Timeout | undefined
  // When nothing was written, libvirt may open the pipe only after this.
  const endStream = () => {
    close()
    releasing = setInterval(releaseReader, RELEASE_MS, path)
  }
  const options = { deadline: RESTORE_DEADLINE_MS, doing }
  try {
    for (let time = 0; time < times; time += 1) writeSync(handle, start)
    const [restored, written] = await Promise.allSettled([
      virsh.run(restore(path), options).catch(error => {
        // Nobody reads any more.
        failed.abort()
        throw error
      }),
      virsh
        .run(download(context, image.volume, path, image.streamAt), { ...options, signal: failed.signal })
        .finally(endStream),
    ])
    if (written.status === 'rejected' && !failed.signal.aborted) throw written.reason
    if (restored.status === 'rejected') throw restored.reason
  } finally {
    clearInterval(releasing)
    close()
    removePipe(context, vmId)
  }
}

/** The copy that this process began last: each waits for the one before, so that forks of one call need room for one copy. */
let copying: Promise<unknown> = Promise.resolve()

/** Of a copy of the image, in which our definition takes the place of its own. */
const restoreFromFile = async (context: Context, { image, doing }: Restore, xml: string) => {
  const { virsh, home } = context
  const info = await virsh.run(volumeInfo(context, image.volume))
  requireSpace(doing, parseVolumes(info).get(image.volume) ?? 0, await spaceIn(home))
  await withFile(context, '', async path => {
    const options = { deadline: RESTORE_DEADLINE_MS, doing }
    await virsh.run(download(context, image.volume, path, 0), options)
    const handle = openSync(path, 'r+')
    writeSync(handle, saveImageStart({ ...image, xml }, image.streamAt), 0, image.streamAt, 0)
    closeSync(handle)
    await virsh.run(restore(path), options)
  })
}

/** Makes the machine `vmId` of this definition, paused, with the memory. It is transient: libvirt forgets it when it ends. */
export const restoreMemory = async (context: Context, request: Restore, xml: string): Promise<void> => {
  const times = timesRead(parseVersions(await context.virsh.run(['version', '--daemon'])).libvirt)
  const start = saveImageStart({ ...request.image, xml })
  if (times !== null && start.length * times <= PIPE_BYTES) return restoreFromPipe(context, request, start, times)
  const copied = copying.then(() => restoreFromFile(context, request, xml))
  copying = copied.catch(() => {})
  return copied
}
