/** `--log FILE` of `up`, `bot` and `runner`: where no system keeps what a service writes (launchd, Windows), it goes into a file. */
import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'

/** The file is then replaced, and kept once as FILE.1. */
const MAX_BYTES = 10 * 1024 * 1024

type Write = (chunk: string | Uint8Array) => boolean

/** Writes whole texts at the end of the file (0600). */
export const openLogFile = (path: string, maxBytes = MAX_BYTES): Write => {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const open = () => openSync(path, 'a', 0o600)
  let file = open()
  let { size } = fstatSync(file)
  const replace = () => {
    closeSync(file)
    try {
      renameSync(path, `${path}.1`)
    } catch {
      // On Windows, whoever reads it may keep it. It grows until then.
    }
    file = open()
    size = fstatSync(file).size
  }
  return chunk => {
    const bytes = Buffer.from(chunk)
    if (size > 0 && size + bytes.length > maxBytes) replace()
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at)
    } catch {
      // A full disk has nowhere to tell it, and ends nothing.
    }
    size += bytes.length
    return true
  }
}

/** Standard error of this process goes there from now on. Throws when the file cannot be opened. */
export const logInto = (path: string): void => {
  process.stderr.write = openLogFile(path) as typeof process.stderr.write
}
