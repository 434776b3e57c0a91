/** AGENT_SWARM_HOME: its file of settings, and its id. */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fail } from '../errors.ts'
import { createFileAtomic } from '../files.ts'

/** The path of the file of settings, whether or not it exists. */
export const configFileIn = (home: string): string => join(home, 'config.yaml')
/** The most characters that the file of settings may have. */
export const MAX_CONFIG_FILE = 100_000

const HOME_ID = /^[0-9a-f]{16}$/

/** The home's id, which the marks of its machines hold: 16 random hex digits, made at the first use. */
export const homeId = (home: string): string => {
  const path = join(home, 'id')
  if (!existsSync(path)) createFileAtomic(path, `${randomBytes(8).toString('hex')}\n`)
  const id = readFileSync(path, 'utf8').trim()
  if (!HOME_ID.test(id))
    throw fail(
      'not-configured',
      `reading ${path}: it does not hold 16 hex digits`,
      "Restore it from a backup: the marks of all machines hold this id. Without it, delete the file; the machines then count as another home's.",
    )
  return id
}
