/**
 * Files that are written as a whole: a reader, and the next start after kill -9, finds the old content or the new one. (The
 * package write-file-atomic does this too, but hooks the signals of the process and does not flush the folder.)
 */
import {
  closeSync,
  existsSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { FailureKind } from './domain.ts'
import { fail } from './errors.ts'
import { isProcessAlive } from './exec.ts'

const errorCode = (error: unknown): string => (error instanceof Error && 'code' in error ? String(error.code) : '')

const kinds: Readonly<Record<string, FailureKind>> = {
  ENOSPC: 'disk-full',
  EDQUOT: 'disk-full',
  EACCES: 'permission',
  EPERM: 'permission',
  EROFS: 'permission',
}

const isMissing = (path: string): boolean => statSync(path, { throwIfNoEntry: false }) === undefined

/** Removes what processes that were killed left of files that they wrote into this folder; `of`: of this file alone. */
export const removeUnfinished = (folder: string, of?: string): void => {
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const [, file, pid] = /^(.+)\.(\d+)\.new$/.exec(name) ?? []
    if (pid === undefined || (of !== undefined && file !== of) || isProcessAlive(Number(pid))) continue
    rmSync(join(folder, name), { force: true })
  }
}

/** Makes a file, or the names in a folder, survive a power failure. Windows opens no folders, and needs no flush. */
export const flush = (path: string): void => {
  if (process.platform === 'win32') return
  const handle = openSync(path, 'r')
  try {
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}

/** What Windows refuses a rename with while another program, often a scanner of viruses, has the file open for a moment. */
const HELD = ['EPERM', 'EACCES', 'EBUSY']
/** Milliseconds between tries: 1.2 s in all. */
const RENAME_WAITS = [5, 10, 20, 40, 80, 150, 300, 600]
const pause = (milliseconds: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

/** Renames over a file that others may have open. Elsewhere than on Windows that always works at once. */
export const renameOver = (
  from: string,
  to: string,
  { platform = process.platform, rename = renameSync, wait = pause } = {},
): void => {
  for (const milliseconds of platform === 'win32' ? RENAME_WAITS : []) {
    try {
      rename(from, to)
      return
    } catch (error) {
      if (!HELD.includes(errorCode(error))) throw error
    }
    wait(milliseconds)
  }
  rename(from, to)
}

/** Writes a flushed file beside `path`, which `publish` then renames or links. */
const write = (
  path: string,
  content: string | Uint8Array,
  permissions: { mode: number; owner: { uid: number; gid: number } | null },
  publish: (temporary: string) => void,
): void => {
  const temporary = `${path}.${process.pid}.new`
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    removeUnfinished(dirname(path), basename(path))
    rmSync(temporary, { force: true })
    const file = openSync(temporary, 'wx', 0o600)
    try {
      const { mode, owner } = permissions
      if (
        owner !== null &&
        process.getuid !== undefined &&
        (owner.uid !== process.getuid() || owner.gid !== process.getgid?.())
      )
        fchownSync(file, owner.uid, owner.gid)
      fchmodSync(file, mode)
      writeFileSync(file, content)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    publish(temporary)
    flush(dirname(path))
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    throw fail(kinds[errorCode(error)] ?? 'unknown', `writing ${path}: ${message}`, 'Nothing was changed.', error)
  } finally {
    rmSync(temporary, { force: true })
  }
}

/**
 * Replaces `path` by a file with `content`. Follows a link; keeps the owner of an existing file, and its mode unless `mode`
 * is given. A new file is for its owner alone (0600), and so are folders that are missing. Throws a failure (`disk-full`,
 * `permission`, `unknown`) whose `cause` is Node's error; nothing has changed then.
 */
export const writeFileAtomic = (path: string, content: string | Uint8Array, { mode }: { mode?: number } = {}): void => {
  const target = isMissing(path) ? path : realpathSync(path)
  const old = statSync(target, { throwIfNoEntry: false })
  const permissions = { mode: mode ?? (old === undefined ? 0o600 : old.mode & 0o7777), owner: old ?? null }
  write(target, content, permissions, temporary => renameOver(temporary, target))
}

/** Makes the file `path` (0600) unless it exists. Of several processes that do so at once, one gets true. */
export const createFileAtomic = (path: string, content: string | Uint8Array): boolean => {
  try {
    write(path, content, { mode: 0o600, owner: null }, temporary => linkSync(temporary, path))
    return true
  } catch (error) {
    if (error instanceof Error && errorCode(error.cause) === 'EEXIST' && !isMissing(path)) return false
    throw error
  }
}
