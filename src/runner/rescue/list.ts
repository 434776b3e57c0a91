/** Work that was rescued earlier. */
import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import type { Ticket } from '../../domain.ts'
import type { Rescued } from '../../schema/operation.ts'
import { NOTE, parseFolderName, parseUnfinishedName, rescuedFolder } from './folder.ts'

const MAX_LISTED = 200
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
  ifIdle: (ticket: Ticket, work: () => Promise<void>) => Promise<unknown>,
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

/** The newest 200, newest first. */
export const listRescued = async (home: string): Promise<Rescued[]> => {
  const parent = rescuedFolder(home)
  const known = (await namesIn(parent)).flatMap(name => {
    const parsed = parseFolderName(name)
    return parsed === null ? [] : [{ ...parsed, folder: join(parent, name) }]
  })
  const newest = known.sort((a, b) => (a.savedAt < b.savedAt ? 1 : -1)).slice(0, MAX_LISTED)
  return Promise.all(newest.map(async entry => ({ ...entry, ...(await readNote(entry.folder)) })))
}
