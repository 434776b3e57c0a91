/** A store as it is after years: many environments, and many actions that ended, each with its delivery and its request. */
import { DatabaseSync } from 'node:sqlite'
import { openStore } from '../../src/store/sqlite/index.ts'
import { dev, environmentOf } from './fixtures.ts'

const DAY_MS = 24 * 60 * 60_000

/** Makes the store at `path`, with the newest of it at `now` (epoch ms). */
export const makeOldStore = async (
  path: string,
  { environments, ended, now }: { environments: number; ended: number; now: number },
): Promise<void> => {
  await openStore(path, () => now).close()
  const db = new DatabaseSync(path)
  db.exec('pragma synchronous = off; begin')
  const environment = db.prepare(
    "insert into environment (ticket, vm_id, runner_id, body, heard_at) values (?, ?, 'runner-1', ?, ?)",
  )
  const pin = db.prepare("insert into pin (ticket, runner_id, given) values (?, 'runner-1', 1)")
  for (let n = 1; n <= environments; n += 1) {
    const body = environmentOf(`OLD-${n}`)
    environment.run(body.ticket, body.vmId, JSON.stringify(body), now)
    pin.run(body.ticket)
  }
  const delivery = db.prepare(
    `insert into delivery (source, id, event, lane, received_at, verdict, settled_at)
     values ('github', ?, 'push', ?, ?, 'actions', ?)`,
  )
  const action = db.prepare(
    `insert into ended_action (seq, id, correlation, ticket, kind, payload, state, attempt, not_before, runner_id, outcome,
       created_at, ended_at)
     values (?, ?, ?, ?, 'checkpoint', ?, 'done', 1, 0, 'runner-1', ?, ?, ?)`,
  )
  const request = db.prepare(
    `insert into request (id, at, recorded_at, by, person, place, thread, line, comment, ticket, what, kind, action, verdict,
       ended_at, ok, outcome, history)
     values (?, ?, ?, ?, 0, 'acme/shop#7', ?, 0, ?, ?, 'checkpoint', 'checkpoint', ?, 'allowed', ?, 1, ?, 1)`,
  )
  for (let n = 1; n <= ended; n += 1) {
    const ticket = `OLD-${(n % environments) + 1}`
    const at = now - Math.floor(((ended - n) / ended) * 13 * DAY_MS)
    const payload = JSON.stringify({
      kind: 'checkpoint',
      ticket,
      name: `push-${n}`,
      why: 'push',
      by: dev,
      replyTo: null,
    })
    const outcome = JSON.stringify({ result: 'done', summary: 'done', environment: environmentOf(ticket), seconds: 1 })
    const comment = JSON.stringify({ repo: 'acme/shop', number: 7, commentId: n })
    delivery.run(`old-${n}`, `push:${n}`, at, at)
    action.run(n, `old-${n}:0`, `old-${n}`, ticket, payload, outcome, at, at)
    request.run(
      `old-${n}:0`,
      at,
      at,
      JSON.stringify(dev),
      `github:acme/shop:${n}`,
      comment,
      ticket,
      payload,
      at,
      outcome,
    )
  }
  // The store goes on counting where it was.
  db.exec(
    "insert or replace into sqlite_sequence (name, seq) values ('action', (select max(seq) from ended_action)); commit",
  )
  db.close()
}
