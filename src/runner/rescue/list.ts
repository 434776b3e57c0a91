/** Work that was rescued earlier: listed, read and removed. */
import { randomBytes } from 'node:crypto'
import { lstat, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import { type EnvironmentKey, MAX_RESCUES_LISTED } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import type { Rescued } from '../../schema/operation.ts'
import { rescueNote } from '../../schema/rescue-note.ts'
import { NOTE, parseFolderName, parseUnfinishedName, rescuedFolder, unfinishedName } from './folder.ts'

type RescueNoteRead = v.InferOutput<typeof rescueNote>

const MAX_NOTE_BYTES = 16 * 1024 * 1024

/** The part of a note that the list shows. */
const note = v.object({
  repositories: v.array(v.object({ path: v.string(), bytes: v.pipe(v.number(), v.integer(), v.minValue(0)) })),
})

const namesIn = async (folder: string): Promise<string[]> =>
  readdir(folder).catch(error => {
    if (error.code === 'ENOENT') return []
    throw error
  })

/** Removes the unfinished folders of processes that died. `ifIdle` runs `work` only while nothing else works on the ticket. */
export const sweepRescues = async (
  home: string,
  ifIdle: (ticket: EnvironmentKey, work: () => Promise<void>) => Promise<unknown>,
): Promise<void> => {
  const parent = rescuedFolder(home)
  for (const name of await namesIn(parent)) {
    const ticket = parseUnfinishedName(name)
    if (ticket !== null) await ifIdle(ticket, () => rm(join(parent, name), { recursive: true, force: true }))
  }
}

const readNote = async (folder: string): Promise<Pick<Rescued, 'bytes' | 'repositories'>> => {
  try {
    const file = join(folder, NOTE)
    if ((await stat(file)).size > MAX_NOTE_BYTES) return { bytes: null, repositories: null }
    const { repositories } = v.parse(note, JSON.parse(await readFile(file, 'utf8')))
    return {
      bytes: repositories.reduce((sum, { bytes }) => sum + bytes, 0),
      repositories: repositories.map(({ path }) => path),
    }
  } catch {
    // The list shows the folder all the same.
    return { bytes: null, repositories: null }
  }
}

const known = async (home: string) => {
  const parent = rescuedFolder(home)
  return (await namesIn(parent)).flatMap(name => {
    const parsed = parseFolderName(name)
    return parsed === null ? [] : [{ name, ...parsed, folder: join(parent, name) }]
  })
}

/** The newest 200, newest first. */
export const listRescued = async (home: string): Promise<Rescued[]> => {
  const newest = (await known(home)).sort((a, b) => (a.savedAt < b.savedAt ? 1 : -1)).slice(0, MAX_RESCUES_LISTED)
  return Promise.all(newest.map(async entry => ({ ...entry, ...(await readNote(entry.folder)) })))
}

/** One rescue with its note. Fails when there is none of this name, or its note cannot be read. */
export const readRescued = async (home: string, name: string): Promise<{ folder: string; note: RescueNoteRead }> => {
  const folder = join(rescuedFolder(home), name)
  const doing = `reading the rescued work ${JSON.stringify(name.slice(0, 100))}`
  if (parseFolderName(name) === null || (await lstat(folder).catch(() => null))?.isDirectory() !== true)
    throw fail('refused', `${doing}: there is none of this name`, 'See: agent-swarm rescued list')
  try {
    const file = join(folder, NOTE)
    if ((await stat(file)).size > MAX_NOTE_BYTES) throw new Error('it is too large')
    return { folder, note: v.parse(rescueNote, JSON.parse(await readFile(file, 'utf8'))) }
  } catch (error) {
    const { message } = failureOf(error, 'reading it')
    throw fail(
      'unsaved-work',
      `${doing}: ${NOTE}: ${message}`,
      `The bundles are in ${folder}; git clones each of them.`,
    )
  }
}

/** All of them, oldest first, with their folders. */
export const rescueFolders = async (home: string) =>
  (await known(home)).sort((a, b) => (a.savedAt < b.savedAt ? -1 : 1))

/** A process that dies here leaves what the next sweep removes. The caller holds the lock of the ticket. */
export const removeRescue = async (home: string, { name, ticket }: Pick<Rescued, 'name' | 'ticket'>): Promise<void> => {
  const unfinished = join(rescuedFolder(home), unfinishedName(ticket, randomBytes(4).toString('hex')))
  await rename(join(rescuedFolder(home), name), unfinished).catch(error => {
    // Somebody removed it meanwhile.
    if (error.code !== 'ENOENT') throw error
  })
  await rm(unfinished, { recursive: true, force: true })
}
