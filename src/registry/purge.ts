/** What the journal does not need any more. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { compact } from '../compact.ts'
import type { Database } from './database.ts'

/** Rows of one transaction. Between two, other processes and other work get their turn. */
const CHUNK = 500

/**
 * Removes operations that ended before `before` (ISO 8601, UTC), with other work between the steps. Of a machine that exists, what
 * was asked of its state stays: only checkpoints and messages to agents go. `pinned`: machines with a host key in this home; what
 * made them stays, since it says whose a disk is that they left. What is free then goes back to the disk.
 */
export const purgeRegistry = async (
  { db }: Database,
  { before, pinned }: { before: string; pinned: readonly string[] },
  isStopped: () => boolean,
): Promise<void> => {
  const kept = JSON.stringify(pinned)
  const remove = db.prepare(
    `delete from operation where id in (
       select id from operation indexed by operation_ended
       where ended_at < ?1 and (ticket is null or ticket not in (select ticket from environment)
         or kind in ('checkpoint','delete-checkpoint','tell'))
         and (vm_id is null or vm_id not in (select value from json_each(?2)))
       limit ${CHUNK})`,
  )
  while (!isStopped() && Number(remove.run(before, kept).changes) === CHUNK) await nextTurn()
  if (!isStopped()) await compact(db, isStopped)
}
