/**
 * The note of a build under way, in a file of its provider's folder: two builds of one image would take each other's parts for
 * leftovers. `root`: that folder.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fail } from '../src/errors.ts'
import { isProcessAlive } from '../src/exec.ts'
import { createFileAtomic } from '../src/files.ts'
import { lockFile } from '../src/lock-file.ts'

export type BuildNote = {
  /** For messages: after a restart of the host, another program may have it. */
  pid: number
  /** The process holds the lock of this file as long as it builds. Missing in notes of earlier versions. */
  lock?: string
  /** The build's own files. */
  folder?: string
  /** Earlier versions noted the build's machines here; now the caller of `buildBase` journals them. */
  machines?: string[]
}

const PREFIX = 'building-'
/** The name of an image has no dot, unlike that of an unfinished file. */
const NOTE = /^building-[^.]+$/

/** Null: that build has just ended. */
const readNote = (file: string): BuildNote | null => {
  try {
    const read: BuildNote | number = JSON.parse(readFileSync(file, 'utf8'))
    // Earlier versions noted the process alone.
    return typeof read === 'number' ? { pid: read } : read
  } catch (error) {
    if (existsSync(file)) throw error
    return null
  }
}

const isBuilding = ({ pid, lock }: BuildNote): boolean => {
  if (lock === undefined) return isProcessAlive(pid)
  const release = lockFile(lock)
  release?.()
  return release === null
}

/** Builds whose process died before it had removed their notes. */
export const killedBuilds = (root: string): (BuildNote & { file: string })[] =>
  (existsSync(root) ? readdirSync(root) : [])
    .filter(name => NOTE.test(name))
    .flatMap(name => {
      const file = join(root, name)
      const note = readNote(file)
      return note === null || isBuilding(note) ? [] : [{ ...note, file }]
    })

/** Fails with `busy` while a process of this home builds the image. Removes what killed builds left in files. */
export const failIfBuilding = (root: string, name: string, doing: string): void => {
  for (const { folder, file } of killedBuilds(root)) {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
    rmSync(file, { force: true })
  }
  const note = readNote(join(root, `${PREFIX}${name}`))
  if (note !== null)
    throw fail(
      'busy',
      `${doing}: another init-base is building it (process ${note.pid})`,
      'Wait until it ends, or end it and try again.',
    )
}

/** Runs a build with its note, and with a folder for its own files. */
export const duringBuild = async <T>(root: string, name: string, build: (folder: string) => Promise<T>): Promise<T> => {
  mkdirSync(root, { recursive: true, mode: 0o700 })
  const file = join(root, `${PREFIX}${name}`)
  const folder = mkdtempSync(join(root, 'build-'))
  const lock = join(folder, 'lock')
  const release = lockFile(lock)
  const note: BuildNote = { pid: process.pid, lock, folder }
  try {
    do {
      failIfBuilding(root, name, `building ${name}`)
    } while (!createFileAtomic(file, JSON.stringify(note)))
    try {
      return await build(folder)
    } finally {
      rmSync(file, { force: true })
    }
  } finally {
    release?.()
    rmSync(folder, { recursive: true, force: true })
  }
}
