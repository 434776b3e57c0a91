/**
 * What the registry knows, for completion and for hints: tickets, machine ids, checkpoints, images. Reads without creating or
 * migrating anything, and asks no hypervisor; an unreadable registry counts as empty. Only values of the expected form are
 * returned, whatever the file holds, because a shell gets them.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { homeIn, isOurs, registryFile } from '../config/home.ts'
import { IMAGE_NAME, isEnvironmentKey, parseCheckpointName, type Ticket, VM_ID } from '../domain.ts'
import { nearest } from '../nearest.ts'
import type { Failure } from '../schema/failure.ts'
import type { Terminal } from './terminal/output.ts'

type Env = Terminal['env']

/** A person waits with a finger on the key. */
const BUSY_TIMEOUT_MS = 100
const WORD = /^[a-z]{1,20}$/

const rows = async (env: Env, sql: string, ...values: string[]): Promise<Record<string, unknown>[]> => {
  const home = homeIn(env)
  const path = registryFile(home)
  if (!isOurs(home) || !existsSync(path)) return []
  try {
    const { DatabaseSync } = await import('node:sqlite')
    const db = new DatabaseSync(path, { readOnly: true, timeout: BUSY_TIMEOUT_MS })
    try {
      return db.prepare(sql).all(...values)
    } finally {
      db.close()
    }
  } catch {
    return []
  }
}

export const knownEnvironments = async (env: Env): Promise<{ ticket: Ticket; status: string; provider: string }[]> =>
  (await rows(env, 'select ticket, status, provider from environment order by ticket')).flatMap(
    ({ ticket, status, provider }) =>
      isEnvironmentKey(String(ticket)) && WORD.test(String(status)) && WORD.test(String(provider))
        ? [{ ticket: String(ticket), status: String(status), provider: String(provider) }]
        : [],
  )

/** Newest first. */
export const knownCheckpoints = async (env: Env, ticket: Ticket): Promise<string[]> =>
  (await rows(env, 'select name from checkpoint where ticket = ? order by created_at desc, name', ticket))
    .map(({ name }) => String(name))
    .filter(name => parseCheckpointName(name) === name)

/** The images of existing environments. */
export const knownImages = async (env: Env): Promise<string[]> =>
  (await rows(env, 'select distinct base_image as image from environment order by 1'))
    .map(({ image }) => String(image))
    .filter(image => IMAGE_NAME.test(image))

/** Names of rescued work, the newest first of each ticket. */
export const knownRescues = async (env: Env): Promise<string[]> => {
  const home = homeIn(env)
  const folder = join(home, 'rescued')
  if (!isOurs(home) || !existsSync(folder)) return []
  const { parseFolderName } = await import('../runner/rescue/folder.ts')
  return readdirSync(folder)
    .filter(name => parseFolderName(name) !== null)
    .sort()
    .reverse()
}

/** Tickets whose machine id begins with `prefix`. */
export const ticketsByPrefix = async (env: Env, prefix: string): Promise<Ticket[]> =>
  (await rows(env, 'select ticket, vm_id from environment order by ticket')).flatMap(({ ticket, vm_id }) => {
    const [key, id] = [String(ticket), String(vm_id)]
    return isEnvironmentKey(key) && VM_ID.test(id) && id.startsWith(prefix.toLowerCase()) ? [key] : []
  })

/** The pool of a machine that no ticket has; null when the id is none of these. */
export const knownPoolOf = async (env: Env, id: string): Promise<string | null> => {
  const sql = `select pool from machine where vm_id = ? and purpose = 'pool' and state is not null and state <> 'claimed'`
  const [row] = await rows(env, sql, id)
  return row === undefined ? null : String(row.pool)
}

/** The existing ticket that is nearest to one without an environment, which may be mistyped. */
export const nearestTicket = async (env: Env, ticket: Ticket): Promise<Ticket | null> =>
  nearest(
    ticket,
    (await knownEnvironments(env)).map(entry => entry.ticket),
  )

/** A failure that a ticket has no machine: which one may be meant, and which other host has it. */
export const withHints = async (env: Env, failure: Failure, ticket: Ticket): Promise<Failure> => {
  if (failure.kind !== 'no-such-environment') return failure
  const found = await (await import('./whereabouts.ts')).withWhereabouts(env, failure, ticket)
  if (found.message !== failure.message) return found
  const near = await nearestTicket(env, ticket)
  return near === null || near === ticket ? found : { ...found, remedy: `Did you mean ${near}? ${found.remedy}` }
}
