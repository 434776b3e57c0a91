/** AGENT_SWARM_HOME: its file of settings, and its id. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fail } from '../errors.ts'

/** The path of the file of settings, whether or not it exists. */
export const configFileIn = (home: string): string => join(home, 'config.yaml')
/** The most characters that the file of settings may have. */
export const MAX_CONFIG_FILE = 100_000

const HOME_ID = /^[0-9a-f]{16}$/
/** The global, since importing node:crypto takes a fifth of Node's own start, and a home gets its id once. */
const newHomeId = () => Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString('hex')

/** The home's id, which the marks of its machines hold: 16 random hex digits, made at the first use. */
export const homeId = async (home: string): Promise<string> => {
  const path = join(home, 'id')
  if (!existsSync(path)) (await import('../files.ts')).createFileAtomic(path, `${newHomeId()}\n`)
  const id = readFileSync(path, 'utf8').trim()
  if (!HOME_ID.test(id))
    throw fail(
      'not-configured',
      `reading ${path}: it does not hold 16 hex digits`,
      "Restore it from a backup: the marks of all machines hold this id. Without it, delete the file; the machines then count as another home's.",
    )
  return id
}
