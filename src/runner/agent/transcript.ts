/**
 * What the runs of agents printed, on the runner's disk: AGENT_SWARM_HOME/transcripts/<vmId>/<run>.jsonl. Outside text. A machine
 * keeps its vmId when it gets another key, by a promote or a move.
 */
import { createReadStream, existsSync, lstatSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newestFirst } from '../../clock.ts'
import { VM_ID } from '../../domain.ts'
import { checkName } from '../../errors.ts'

/** Bytes of one transcript; the machine keeps no more either. */
const MAX_TRANSCRIPT = 64 * 1024 * 1024
/** Runs of a machine whose transcripts are kept. */
const KEPT_RUNS = 20
const RUN = /^[0-9a-f]{8}$/

const folderOf = (home: string, vmId: string) => join(home, 'transcripts', checkName('machine', vmId))
export const transcriptFile = (home: string, vmId: string, run: string): string => {
  if (!RUN.test(run)) throw new RangeError(`${run} is not a run`)
  return join(folderOf(home, vmId), `${run}.jsonl`)
}

/** Bytes that are there already: the offset to follow the machine's own file from. */
export const transcriptSize = (home: string, vmId: string, run: string): number =>
  statSync(transcriptFile(home, vmId, run), { throwIfNoEntry: false })?.size ?? 0

const sortNewestFirst = (files: readonly string[]): string[] => {
  // A file's time has fractions of a millisecond, and the clock has none.
  const order = newestFirst(Date.now() + 1)
  return files
    .map(file => ({ file, at: statSync(file).mtimeMs }))
    .sort((a, b) => order(a.at, b.at))
    .map(({ file }) => file)
}

/** Makes room for a run: the oldest transcripts of the machine go. */
export const beginTranscript = (home: string, vmId: string, run: string): void => {
  const folder = folderOf(home, vmId)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const files = readdirSync(folder)
    .filter(name => name.endsWith('.jsonl') && name !== `${run}.jsonl`)
    .map(name => join(folder, name))
  for (const file of sortNewestFirst(files).slice(KEPT_RUNS - 1)) rmSync(file, { force: true })
}

/** Removes the transcripts of machines that are gone, whose newest one is older than `before`, epoch ms. */
export const sweepTranscripts = (home: string, exists: (vmId: string) => boolean, before: number): void => {
  const folder = join(home, 'transcripts')
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    if (!VM_ID.test(name) || exists(name)) continue
    const path = join(folder, name)
    if (!lstatSync(path).isDirectory()) continue
    const newest = Math.max(0, ...readdirSync(path).map(name => lstatSync(join(path, name)).mtimeMs))
    if (newest < before) rmSync(path, { recursive: true, force: true })
  }
}

export const appendTranscript = async (file: string, bytes: Buffer, offset: number): Promise<void> => {
  if (offset + bytes.length <= MAX_TRANSCRIPT) await appendFile(file, bytes, { mode: 0o600 })
}

/** All that is there, in pieces. Nothing when there is none. */
export const readTranscript = async (file: string, onBytes: (bytes: Buffer) => void): Promise<void> => {
  if (!existsSync(file)) return
  for await (const bytes of createReadStream(file)) onBytes(bytes as Buffer)
}

/** The transcript that was written last, for people who look at a machine; null when there is none. */
export const newestTranscript = (home: string, vmId: string): string | null => {
  const folder = folderOf(home, vmId)
  if (!existsSync(folder)) return null
  const files = readdirSync(folder)
    .filter(name => name.endsWith('.jsonl'))
    .map(name => join(folder, name))
  return sortNewestFirst(files)[0] ?? null
}
