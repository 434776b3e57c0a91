/** What the journal does not need any more. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { compact } from '../compact.ts'
import type { Database } from './database.ts'

/** Rows of one transaction. Between two, other processes and other work get their turn. */
const CHUNK = 500

/**
 * Removes operations that ended before `before` (ISO 8601, UTC), with other work between the steps. Of a machine that exists, what
 * was asked of its state stays: only checkpoints and messages to agents go. What is free then goes back to the disk.
 */
export const purgeRegistry = async ({ db }: Database, before: string, isStopped: () => boolean): Promise<void> => {
  const remove = db.prepare(
    `delete from operation where id in (
       select id from operation indexed by operation_ended
       where ended_at < ? and (ticket is null or ticket not in (select ticket from environment)
         or kind in ('checkpoint','delete-checkpoint','tell'))
       limit ${CHUNK})`,
  )
  while (!isStopped() && Number(remove.run(before).changes) === CHUNK) await nextTurn()
  if (!isStopped()) await compact(db, isStopped)
}
