/**
 * What the registry knows, for a person who types: tickets, checkpoints, images. Nothing is made or migrated, and no
 * hypervisor is asked. What cannot be read is not there. Only what has the form of its kind comes back, whatever the file
 * holds: a shell is told these words.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { homeIn } from '../config/config.ts'
import { isTicket, parseCheckpointName, type Ticket } from '../domain.ts'
import { nearest } from '../nearest.ts'
import type { Failure } from '../schema/failure.ts'

/** Somebody waits with a finger on the key. */
const PATIENCE_MS = 100
const WORD = /^[a-z]{1,20}$/
const IMAGE = /^[a-z0-9][a-z0-9-]{0,40}$/

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

export const knownEnvironments = async (): Promise<{ ticket: Ticket; status: string; provider: string }[]> =>
  (await rows('select ticket, status, provider from environment order by ticket')).flatMap(
    ({ ticket, status, provider }) =>
      isTicket(String(ticket)) && WORD.test(String(status)) && WORD.test(String(provider))
        ? [{ ticket: String(ticket), status: String(status), provider: String(provider) }]
        : [],
  )

/** Newest first. */
export const knownCheckpoints = async (ticket: Ticket): Promise<string[]> =>
  (await rows('select name from checkpoint where ticket = ? order by created_at desc, name', ticket))
    .map(({ name }) => String(name))
    .filter(name => parseCheckpointName(name) === name)

/** Those that environments were made of. */
export const knownImages = async (): Promise<string[]> =>
  (await rows('select distinct base_image as image from environment order by 1'))
    .map(({ image }) => String(image))
    .filter(image => IMAGE.test(image))

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
