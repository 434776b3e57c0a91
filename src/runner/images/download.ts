/**
 * Downloads an image into AGENT_SWARM_HOME/downloads, named after its checksum, which is compared before anything reads the
 * file. What a cancelled or broken download left is continued by the next; what nobody uses is removed.
 */
import { existsSync, mkdirSync, readdirSync, rmSync, statfsSync, statSync, truncateSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { sha256Of } from '../../../base-image/image.ts'
import { fail, isFailure } from '../../errors.ts'
import { lockFile } from '../../lock-file.ts'
import { get, shownAddress } from './addresses.ts'

/** Bytes; the images of distributions have less than 2 GiB. */
const MOST_BYTES = 16 * 1024 ** 3
/** Without a byte for so long, a connection counts as broken. */
const STALLED_MS = 60_000
const DEADLINE_MS = 6 * 60 * 60_000
/** A connection that breaks is tried again at once; one that brings nothing this many times in a row has ended. */
const MOST_TRIES = 4
/** Before a new try, times how many brought nothing. */
const RETRY_MS = 250
const FILE = /^[0-9a-f]{64}\.part(?:\.lock(?:-journal|-wal|-shm)?)?$/

export type OnBytes = (done: number, total: number | null) => void
type Download = {
  url: URL
  /** In lower case. */
  sha256: string
  signal: AbortSignal
  onBytes: OnBytes
  /** What to do when the server cannot be reached. */
  remedy: string
}
type File = {
  path: string
  /** Removes the file. Without it, the next download of the same image continues there. */
  remove: () => void
  /** Lets others have the file. */
  release: () => void
}

const folderOf = (home: string) => join(home, 'downloads')
const lockOf = (path: string) => `${path}.lock`

/** The names of all downloads. */
const namesOf = (home: string): string[] => {
  const folder = folderOf(home)
  const names = (existsSync(folder) ? readdirSync(folder) : []).filter(name => FILE.test(name))
  return [...new Set(names.map(name => name.replace(/\.lock.*$/, '')))]
}
/** False: a process uses it. */
export const removeDownload = (home: string, name: string): boolean => {
  const path = join(folderOf(home), name)
  const unlock = lockFile(lockOf(path))
  if (unlock === null) return false
  rmSync(path, { force: true })
  unlock()
  rmSync(lockOf(path), { force: true })
  return true
}
/** Removes what no process uses, but the file `keep`. */
export const removeUnusedDownloads = (home: string, keep: string | null = null): void => {
  for (const name of namesOf(home)) if (name !== keep) removeDownload(home, name)
}
/** Those that no process uses now. */
export const listDownloads = (home: string): { name: string; path: string }[] =>
  namesOf(home)
    .map(name => ({ name, path: join(folderOf(home), name) }))
    .filter(({ path }) => {
      const unlock = existsSync(lockOf(path)) ? lockFile(lockOf(path)) : () => {}
      unlock?.()
      return unlock !== null && existsSync(path)
    })

/** From where the answer continues the file, which ends at `done`, and how long it will be. Null: it is another part of the file. */
const readAnswer = (
  response: Response,
  { url, remedy }: Download,
  done: number,
): { from: number; total: number | null } | null => {
  const { status, headers } = response
  if (status >= 500) throw new Error(`HTTP ${status}`)
  if (status !== 200 && status !== 206)
    throw fail('refused', `downloading ${shownAddress(url)}: HTTP ${status}`, remedy)
  if (status === 206 && Number(headers.get('content-range')?.match(/^bytes (\d+)-/)?.[1]) !== done) return null
  const from = status === 206 ? done : 0
  const length = Number(headers.get('content-length') ?? Number.NaN)
  return { from, total: Number.isFinite(length) ? from + length : null }
}

const tooLarge = (url: URL) =>
  fail('refused', `downloading ${shownAddress(url)}: it has more than ${MOST_BYTES / 1024 ** 3} GiB, so it is no image`)

const requireRoom = (folder: string, { url }: Download, needed: number): void => {
  const { bavail, bsize } = statfsSync(folder)
  const mebibytes = (bytes: number) => Math.ceil(bytes / 1024 ** 2)
  if (needed > bavail * bsize)
    throw fail(
      'disk-full',
      `downloading ${shownAddress(url)}: it needs ${mebibytes(needed)} MiB, but ${folder} has ${mebibytes(bavail * bsize)} MiB free`,
      'Free disk space there, or use another AGENT_SWARM_HOME.',
    )
}

/** One connection: from where the file ends to its end. */
const connectOnce = async (download: Download, folder: string, path: string, handle: FileHandle): Promise<void> => {
  const { url, signal, onBytes } = download
  const done = statSync(path).size
  const stalled = new AbortController()
  const watch = () => setTimeout(() => stalled.abort(new Error(`no data for ${STALLED_MS / 1000} s`)), STALLED_MS)
  let timer = watch()
  const alive = () => {
    clearTimeout(timer)
    timer = watch()
  }
  try {
    const either = AbortSignal.any([signal, stalled.signal])
    const headers: Record<string, string> = done === 0 ? {} : { range: `bytes=${done}-` }
    const response = await get(url, { headers, signal: either, sameOrigin: false })
    if (response.status === 416) {
      // The file is whole, or another one was there when it began: its checksum decides.
      await response.body?.cancel()
      return
    }
    const answer = readAnswer(response, download, done)
    if (answer === null || answer.from === 0) truncateSync(path, 0)
    if (answer === null) throw new Error('the server sent another part of the file')
    const { from, total } = answer
    if ((total ?? 0) > MOST_BYTES) throw tooLarge(url)
    if (total !== null) requireRoom(folder, download, total - from)
    let position = from
    onBytes(position, total)
    for await (const chunk of response.body ?? []) {
      alive()
      position += chunk.length
      if (position > MOST_BYTES) throw tooLarge(url)
      await handle.appendFile(chunk)
      onBytes(position, total)
    }
    if (total !== null && position < total) throw new Error('the connection ended early')
  } finally {
    clearTimeout(timer)
    stalled.abort()
  }
}

const reasonOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  const { cause } = error
  const deeper = cause instanceof Error ? cause.message || ('code' in cause ? String(cause.code) : '') : ''
  return deeper === '' ? error.message : deeper
}

/** Until the file is whole, over as many connections as that takes. */
const fetchAll = async (download: Download, folder: string, path: string): Promise<void> => {
  const { url, signal, remedy } = download
  const doing = `downloading ${shownAddress(url)}`
  const end = performance.now() + DEADLINE_MS
  let fruitless = 0
  const handle = await open(path, 'a', 0o600)
  try {
    while (true) {
      const before = (await handle.stat()).size
      try {
        return await connectOnce(download, folder, path, handle)
      } catch (error) {
        if (signal.aborted) throw fail('cancelled', `${doing}: cancelled`)
        if (isFailure(error)) throw error
        if (error instanceof Error && 'code' in error && error.code === 'ENOSPC')
          throw fail('disk-full', `${doing}: the disk of ${folder} is full`, 'Free disk space there, and try again.')
        fruitless = (await handle.stat()).size > before ? 0 : fruitless + 1
        if (fruitless >= MOST_TRIES || performance.now() > end)
          throw fail('network', `${doing}: ${reasonOf(error)}`, remedy, error)
        await delay(RETRY_MS * fruitless, undefined, { signal }).catch(() => {
          throw fail('cancelled', `${doing}: cancelled`)
        })
      }
    }
  } finally {
    await handle.close()
  }
}

/** Returns the checksum of what was downloaded. A file that was begun may have been another one: then it is downloaded whole. */
const fetchChecked = async (download: Download, folder: string, path: string): Promise<string> => {
  const begun = existsSync(path)
  await fetchAll(download, folder, path)
  const actual = await sha256Of(path, download.signal)
  if (actual === download.sha256 || !begun) return actual
  rmSync(path)
  return fetchChecked(download, folder, path)
}

const mismatch = ({ url, sha256 }: Download, actual: string) =>
  fail(
    'refused',
    `downloading ${shownAddress(url)}: its SHA-256 is ${actual}, not ${sha256}; nothing has read it, and it is removed`,
    'Check the checksum where the vendor publishes it. It may have published another image meanwhile: then try again.',
  )

/** Returns the file, whole and with this checksum. */
export const downloadImage = async (home: string, download: Download): Promise<File> => {
  const { url, sha256, signal } = download
  const folder = folderOf(home)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const name = `${sha256}.part`
  const path = join(folder, name)
  removeUnusedDownloads(home, name)
  const unlock = lockFile(lockOf(path))
  if (unlock === null)
    throw fail(
      'busy',
      `downloading ${shownAddress(url)}: another init-base is using the same file`,
      'Wait until it ends, or end it and try again.',
    )
  const file: File = {
    path,
    release: unlock,
    remove: () => {
      rmSync(path, { force: true })
      unlock()
      rmSync(lockOf(path), { force: true })
    },
  }
  const actual = await fetchChecked(download, folder, path).catch(error => {
    file.release()
    throw signal.aborted ? fail('cancelled', `downloading ${shownAddress(url)}: cancelled`) : error
  })
  if (actual === sha256) return file
  file.remove()
  throw mismatch(download, actual)
}
