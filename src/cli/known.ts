/**
 * What the registry knows, for a person who types: tickets, checkpoints, images. Nothing is made or migrated, and no
 * hypervisor is asked. What cannot be read is not there. Only what has the form of its kind comes back, whatever the file
 * holds: a shell is told these words.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { homeIn } from '../config.ts'
import { type Failure, isTicket, type Ticket } from '../domain.ts'
import { nearest } from '../nearest.ts'

/** Somebody waits with a finger on the key. */
const PATIENCE_MS = 100

const rows = async (sql: string, ...values: string[]): Promise<Record<string, unknown>[]> => {
  const path = join(homeIn(), 'registry.db')
  if (!existsSync(path)) return []
  try {
    const { DatabaseSync } = await import('node:sqlite')
    const db = new DatabaseSync(path, { readOnly: true, timeout: PATIENCE_MS })
    try {
      return db.prepare(sql).all(...values)
    } finally {
      db.close()
    }
  } catch {
    return []
  }
}

const knownEnvironments = async (): Promise<{ ticket: Ticket; status: string }[]> =>
  (await rows('select ticket, status from environment order by ticket')).flatMap(({ ticket, status }) =>
    typeof ticket === 'string' && isTicket(ticket) && typeof status === 'string' ? [{ ticket, status }] : [],
  )

/** A ticket without an environment may be mistyped: this is the nearest one that has one. */
export const nearestTicket = async (ticket: Ticket): Promise<Ticket | null> =>
  nearest(
    ticket,
    (await knownEnvironments()).map(one => one.ticket),
  )

export const withNearestTicket = async (failure: Failure, ticket: Ticket): Promise<Failure> => {
  if (failure.kind !== 'no-such-environment') return failure
  const near = await nearestTicket(ticket)
  return near === null ? failure : { ...failure, remedy: `Did you mean ${near}? ${failure.remedy}` }
}
