/** Homes on disk whose store is opened, and closed and removed with the test. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { openStore } from '../../src/store/sqlite/index.ts'
import { START } from './fixtures.ts'

export const newHome = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-home-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  return home
}
export const open = (
  home: string,
  ...how: Parameters<typeof openStore> extends [string, () => number, ...infer Rest] ? Rest : never
) => {
  const store = openStore(join(home, 'bot.db'), () => START, ...how)
  onTestFinished(() => store.close().catch(() => {}))
  return store
}
