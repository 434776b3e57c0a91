/** The operator's own files for a project, `AGENT_SWARM_HOME/files/<owner>/<repo>/**`, in any case: secrets that go into a machine on purpose. */
import { closeSync, constants, fstatSync, lstatSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { secretFileFault } from '../../config/secret-file.ts'

const MAX_FILES = 200
const MAX_BYTES = 1024 * 1024
const MAX_ALL_BYTES = 8 * 1024 * 1024
/** Only signs that neither a shell nor git gives a meaning, so that each can be excluded by its name. */
const NAME = /^[A-Za-z0-9._@+=,-]{1,100}$/

/** `isCut`: there are more than MAX_FILES. */
type Found = { files: { name: string; content: Uint8Array }[]; problems: string[]; isCut?: boolean }

/** Why it is not taken; null when it is. */
const fault = (path: string): string | null => {
  const stats = lstatSync(path)
  if (stats.isSymbolicLink()) return `${path} is a symbolic link`
  if (!stats.isFile()) return `${path} is not a file`
  if (process.geteuid !== undefined && stats.uid !== process.geteuid()) return `${path} belongs to another user`
  if (stats.size > MAX_BYTES) return `${path} is larger than ${MAX_BYTES / 1024} KiB`
  return secretFileFault(path)?.text ?? null
}

/** Opened without following a link that took its place meanwhile. */
const read = (path: string): Uint8Array => {
  const file = openSync(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0))
  try {
    return fstatSync(file).size > MAX_BYTES ? new Uint8Array() : readFileSync(file)
  } finally {
    closeSync(file)
  }
}

const walk = (folder: string, prefix: string, found: Found): void => {
  for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name)
    if (found.files.length + found.problems.length >= MAX_FILES) {
      found.isCut = true
      return
    }
    if (!NAME.test(entry.name) || entry.name === '.git')
      found.problems.push(`${JSON.stringify(path)} has a name that is not copied (letters, digits and ._@+=,-)`)
    else if (entry.isDirectory()) walk(path, `${prefix}${entry.name}/`, found)
    else {
      const reason = fault(path)
      if (reason === null) found.files.push({ name: `${prefix}${entry.name}`, content: read(path) })
      else found.problems.push(reason)
    }
  }
}

/** Entries of a folder with this name, which has no case. */
const entriesNamed = (folder: string, name: string): string[] =>
  statSync(folder, { throwIfNoEntry: false })?.isDirectory() === true
    ? readdirSync(folder)
        .filter(entry => entry.toLowerCase() === name.toLowerCase())
        .sort()
        .map(entry => join(folder, entry))
    : []

/** What an operator put down for this repository. What is not safe is left out, and `problems` says why. `repo` is checked. */
export const operatorFiles = (home: string, repo: string): Omit<Found, 'isCut'> => {
  const found: Found = { files: [], problems: [] }
  const [owner = '', name = ''] = repo.split('/')
  const folders = entriesNamed(join(home, 'files'), owner).flatMap(one => entriesNamed(one, name))
  const [folder] = folders
  if (folder === undefined) return found
  const shown = folders.map(one => one.replace(home, 'AGENT_SWARM_HOME'))
  if (folders.length > 1)
    return { files: [], problems: [`${shown.join(' and ')} are both for ${repo}: put the files into one of them`] }
  for (const part of [join(home, 'files'), dirname(folder), folder])
    if (lstatSync(part).isSymbolicLink())
      return { files: [], problems: [`${part.replace(home, 'AGENT_SWARM_HOME')} is a symbolic link`] }
  walk(folder, '', found)
  // Problems are published: they do not show where the home is.
  found.problems = found.problems.map(text => text.replaceAll(home, 'AGENT_SWARM_HOME'))
  const here = shown.join()
  // First: of many problems, the last ones may be cut off.
  if (found.isCut === true)
    found.problems.unshift(`${here} holds more than ${MAX_FILES} files, and the rest is left out`)
  const total = found.files.reduce((sum, { content }) => sum + content.length, 0)
  if (total <= MAX_ALL_BYTES) return found
  return { files: [], problems: [`${here} holds more than ${MAX_ALL_BYTES / 1024 ** 2} MiB`] }
}
