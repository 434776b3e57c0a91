/** The repositories that a list can be filled with: those that GitHub shows, or else those that an earlier version watched. */

import { existsSync } from 'node:fs'
import type { Config } from '../config/config.ts'
import { storeFile } from '../config/home.ts'
import { openLog } from '../log.ts'
import { openStore } from '../store/sqlite/index.ts'
import { openGitHub } from './github/open.ts'

/** Whoever waits for the message that the start failed does not wait long for GitHub. Milliseconds. */
const DEADLINE_MS = 5_000
/** A list has at most 100 members. */
const MAX_REPOSITORIES = 100

const onGitHub = async (github: NonNullable<Config['github']>): Promise<string[]> =>
  (await openGitHub({ ...github, repositories: [] }, { log: openLog('silent'), paced: false })).repositories()

const inStore = async (path: string): Promise<string[]> => {
  if (!existsSync(path)) return []
  const store = openStore(path, Date.now)
  try {
    return await store.repositories.watched()
  } finally {
    await store.close()
  }
}

/** `owner/name` each, by name. Empty when nothing is known. */
export const knownRepositories = async ({ github, home }: Pick<Config, 'github' | 'home'>): Promise<string[]> => {
  if (github === null) return []
  const { promise: late, resolve } = Promise.withResolvers<string[]>()
  const timer = setTimeout(() => resolve([]), DEADLINE_MS)
  const shown = await Promise.race([onGitHub(github).catch(() => []), late]).finally(() => clearTimeout(timer))
  const known = shown.length > 0 ? shown : await inStore(storeFile(home))
  return known.sort().slice(0, MAX_REPOSITORIES)
}
