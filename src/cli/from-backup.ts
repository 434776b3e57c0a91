/** `--from-backup` of `up`, `bot` and `runner`: a damaged database is replaced by its newest backup before anything is opened. */
import { join } from 'node:path'
import type { Config } from '../config/config.ts'
import { fail } from '../errors.ts'
import type { Log } from '../log.ts'
import { requireNoRunner } from '../registry/lock.ts'
import type { Invocation } from './terminal/output.ts'

/** `databases`: those that the process is going to open. Does nothing without the flag. */
export const restoreDatabases = async (
  { flags }: Pick<Invocation, 'flags'>,
  { home }: Config,
  databases: readonly ('bot.db' | 'registry.db')[],
  log: Log,
): Promise<void> => {
  if (flags['from-backup'] !== true) return
  if (flags['dry-run'] === true)
    throw fail('usage', '--from-backup replaces a damaged database, and --dry-run changes nothing')
  const [{ restoreDamaged, restoredText }, { takeHome }] = await Promise.all([
    import('../restore-backup.ts'),
    import('../bot/preconditions.ts'),
  ])
  if (databases.includes('bot.db')) await takeHome(home, { isDryRun: false })
  if (databases.includes('registry.db')) requireNoRunner(home, 'restoring registry.db')
  for (const name of databases) {
    const path = join(home, name)
    const restored = restoreDamaged(path, Date.now())
    if (restored !== null) log.warn(restoredText(path, restored))
  }
}
