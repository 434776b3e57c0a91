/** Damage of a database's file, by its bytes. The file is closed, or its process is dead. */
import { closeSync, openSync, rmSync, statSync, truncateSync, writeSync } from 'node:fs'

/** Writes what is no page of a database over 8 KiB at `at`. */
const scribble = (path: string, at: number) => {
  const file = openSync(path, 'r+')
  writeSync(file, Buffer.alloc(8_192, 0xa5), 0, 8_192, at)
  closeSync(file)
}
const pageAt = (path: string, part: number) => Math.floor((statSync(path).size * part) / 4_096) * 4_096

export const harms: Readonly<Record<string, (path: string) => void>> = {
  'its head': path => scribble(path, 0),
  'its middle': path => scribble(path, pageAt(path, 0.5)),
  'its end': path => scribble(path, pageAt(path, 1) - 8_192),
  'its second half, which is gone': path => truncateSync(path, pageAt(path, 0.5)),
}

/** What a process that dies leaves: the log and its index. */
export const loseLog = (path: string): void => rmSync(`${path}-wal`)
