/** Single values: the runner's id, what the bot has queued for it, and the installed ssh configuration. */
import type { HeartbeatResponse } from '../schema/runner-protocol.ts'
import { type Database, readJson } from './database.ts'

/** What an install of the ssh configuration made, so that an uninstall removes that and no more. `folder` is the person's `.ssh`. */
export type InstalledSshConfig = { folder: string; made: ('folder' | 'config' | 'include')[] }

/** The actions that the bot has queued, and when it reported them (ISO 8601, UTC). */
export type QueuedActions = { at: string; queued: HeartbeatResponse['waiting'] }

export const metaQueries = ({ first, run }: Database) => {
  const read = (key: string) => first('select value from meta where key = ?', key)?.value
  const write = (key: string, value: unknown) =>
    void run('insert or replace into meta (key, value) values (?, ?)', key, JSON.stringify(value))
  const drop = (key: string) => void run('delete from meta where key = ?', key)
  return {
    /** Writes nothing while nothing is queued. */
    setQueued: (at: string, queued: QueuedActions['queued']): void => {
      if (queued.length > 0) write('queued', { at, queued } satisfies QueuedActions)
      else if (read('queued') !== undefined) drop('queued')
    },
    queued: (): QueuedActions | null => readJson(read('queued')),
    sshConfig: (): InstalledSshConfig | null => readJson(read('ssh-config')),
    setSshConfig: (installed: InstalledSshConfig | null): void =>
      installed === null ? drop('ssh-config') : write('ssh-config', installed),
    /** This registry's name for the bot, made once. `former`: that of a registry that was lost. */
    runnerId: (former: string | null = null): string => {
      if (read('runner-id') === undefined)
        run('insert or ignore into meta (key, value) values (?, ?)', 'runner-id', former ?? crypto.randomUUID())
      return read('runner-id') as string
    },
    /** Changes whenever another process has written. */
    dataVersion: (): number => Number(first('pragma data_version')?.data_version ?? 0),
  }
}
