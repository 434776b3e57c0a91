import { randomBytes } from 'node:crypto'
import { backoff } from '../../backoff.ts'
import { attemptOf, type Ticket, ticketOf } from '../../domain.ts'
import type { Action, ActionKind, AttemptProgress } from '../../schema/action.ts'
import type { MachineSize } from '../../schema/basics.ts'
import type { Failure } from '../../schema/failure.ts'
import type { Outcome } from '../../schema/outcome.ts'
import { LEASE_MS, type Lease, type Offer } from '../../schema/runner-protocol.ts'
import { fitsOnceStopped, needAt, roomTakenBy, whyNever } from '../fits.ts'
import {
  type ActionRow,
  type ActionState,
  MAX_ATTEMPTS,
  type Message,
  type QueuedAction,
  ROOM_PATIENCE_MS,
  ROOM_RETRY_MS,
  type Store,
  type StoreLimits,
} from '../port.ts'
import { isDue } from './due.ts'
import { environmentDeleted, environmentGone, recordEnvironment } from './environments.ts'
import { putMessages } from './outbox.ts'
import { beyondLimit, machinesOfOwner } from './owners.ts'
import { endRequest } from './requests.ts'
import { json, type Sql } from './sql.ts'
import { withCurrentTicket } from './tickets.ts'

const retryAfter = backoff({ first: 2_000, most: 5 * 60_000 })

/** A row of `action`, or of `ended_action`, which has no lease and no progress, but an outcome. */
type Row = Omit<ActionRow, 'action' | 'token' | 'leaseUntil' | 'progress' | 'needs' | 'outcome'> & {
  ticket: Ticket
  kind: ActionKind
  payload: string
  leaseToken?: string | null
  leaseUntil?: number | null
  progress?: string | null
  needs?: string | null
  outcome?: string | null
}
const actionRowOf = (row: Row): ActionRow => {
  const { seq, id, correlation, state, attempt, runnerId, leaseUntil = null, createdAt, notBefore } = row
  return {
    ...{ seq, id, correlation, state, attempt, runnerId, leaseUntil, createdAt, notBefore },
    action: JSON.parse(row.payload),
    token: row.leaseToken ?? null,
    progress: json<AttemptProgress>(row.progress),
    needs: json<MachineSize>(row.needs),
    outcome: json<Outcome>(row.outcome),
  }
}
/** One that has not ended. */
const openRow = (sql: Sql, id: string) => sql.get<Row>('select * from action where id = ?', id)

const isOpen = (state: ActionState): boolean => state === 'pending' || state === 'active'

type Filter = { ticket?: Ticket; kind?: ActionKind; state?: ActionState; correlation?: string }
/** Reads what ended only where it is asked for. */
const listActions = (sql: Sql, { ticket, kind, state, correlation }: Filter = {}): ActionRow[] => {
  const given = Object.entries({ ticket, kind, state, correlation }).filter(entry => entry[1] !== undefined)
  const where = ['true', ...given.map(([column]) => `${column} = ?`)].join(' and ')
  const values = given.map(([, value]) => value ?? null)
  const tables = state === undefined ? ['ended_action', 'action'] : [isOpen(state) ? 'action' : 'ended_action']
  return tables
    .flatMap(table => sql.all<Row>(`select * from ${table} where ${where} order by seq`, ...values))
    .sort((one, other) => one.seq - other.seq)
    .map(actionRowOf)
}

/** The actions of a delivery, in their order. */
export const actionsOf = (sql: Sql, correlation: string): ActionRow[] => listActions(sql, { correlation })

export const enqueue = (sql: Sql, { id, correlation, action }: QueuedAction): boolean =>
  sql.run(
    `insert into action (id, correlation, ticket, kind, payload, machine, created_at)
     select ?1, ?2, ?3, ?4, ?5, ?6, ?7 where not exists (select 1 from ended_action where id = ?1)
     on conflict (id) do nothing`,
    ...[id, correlation, action.ticket, action.kind, JSON.stringify(action)],
    action.kind === 'create' ? JSON.stringify(action.machine ?? {}) : null,
    sql.clock(),
  ) === 1

/**
 * Machines of pending creates that the offer fits, as the column `machine` has them, and those for which only room is missing that
 * machines have. One step in an index for each.
 */
const machinesFor = (sql: Sql, offer: Offer): { fitting: string[]; roomless: string[] } => {
  const fitting: string[] = []
  const roomless: string[] = []
  for (let machine = ''; ; ) {
    const next = sql.get<{ machine: string }>(
      `select machine from action indexed by action_machine
       where state = 'pending' and machine is not null and machine > ? order by machine limit 1`,
      machine,
    )
    if (next === undefined) return { fitting, roomless }
    machine = next.machine
    const create = { machine: JSON.parse(machine) }
    if (whyNever(create, offer) !== null) continue
    const need = needAt(create, offer)
    if (roomTakenBy(need, offer) === null) fitting.push(machine)
    else if (offer.room !== null && fitsOnceStopped(need, offer.room)) roomless.push(machine)
  }
}

/** What gives its ticket a machine. What follows it goes to the same runner. */
const PINS: readonly ActionKind[] = ['create', 'promote']

const HAS_MACHINE = 'exists (select 1 from environment e where e.ticket = a.ticket and e.gone_at is null)'

/** The oldest create that this runner could take, and that has waited long enough for its room to go ahead of younger ones. */
const FIRST_FOR_ROOM = `
  select min(a.seq) as seq from action a left join pin p on p.ticket = a.ticket
  where a.state = 'pending' and a.machine in (select value from json_each(?1)) and a.created_at <= ?2
    and (p.runner_id is null or p.runner_id = ?3) and not ${HAS_MACHINE}
    and a.seq not in (select value from json_each(?4))
    and not exists (
      select 1 from action b indexed by action_head
      where b.ticket = a.ticket and b.state in ('pending','active') and b.seq < a.seq)`

/** SQL: whether what the action found missing is there now. `free`: the name of a parameter. */
const fitsRoom = (free: string): string =>
  (['cpus', 'memoryMiB', 'diskGiB'] as const)
    .map(member => `(a.needs ->> '$.${member}') <= (${free} ->> '$.${member}')`)
    .join(' and ')

/** Starts and the like that found no room for the runner's own machines, and have waited for it as long. */
const WAITING_FOR_ROOM = `
  select a.needs, a.seq from action a join pin p on p.ticket = a.ticket
  where a.state = 'pending' and a.needs is not null and a.machine is null and a.created_at <= ?1
    and p.runner_id = ?2 and not (${fitsRoom('?3')})
  order by a.seq`

// A create of a ticket that has its machine needs no room: it changes nothing. A move goes ahead of what was queued under the
// previous key and has the new one since: until it is done, the runner has no machine under the new key, nor its attempts. A promote goes to the
// runner of its attempt, also when the ticket has no machine of its own any more.
const CLAIM = `
  update action set state = 'active', attempt = attempt + 1, runner_id = ?1, lease_token = ?2, lease_until = ?3
  where seq = (
    select a.seq from action a left join pin p on p.ticket = a.ticket
      left join pin its on a.kind = 'promote' and its.ticket = a.ticket || '~' || (a.payload ->> '$.attempt')
    where a.state = 'pending' and ${isDue('a.not_before', '?4')}
      and coalesce(p.runner_id, its.runner_id, ?1) = ?1
      and (a.needs is null or ?6 is null or (${fitsRoom('?6')}))
      and (a.kind <> 'fork' or a.seq not in (select value from json_each(?8)))
      and (a.machine is null or ${HAS_MACHINE}
        or (a.machine in (select value from json_each(?5)) and a.seq < ?7 and a.seq not in (select value from json_each(?8))))
      and not exists (
        select 1 from action b indexed by action_head
        where b.ticket = a.ticket and b.state in ('pending','active') and (b.state = 'active'
          or (b.kind <> 'move', b.seq) < (a.kind <> 'move', a.seq)))
      and (instr(a.ticket, '~') = 0 or not exists (
        select 1 from action m indexed by action_head
        where m.ticket = substr(a.ticket, 1, instr(a.ticket, '~') - 1) and m.state in ('pending','active')
          and m.kind = 'move'))
    order by a.seq limit 1)
  returning *`

/** Younger creates wait for this one, by its `seq`: MAX_SAFE_INTEGER when there is none. */
const firstForRoom = (
  sql: Sql,
  runnerId: string,
  { room }: Offer,
  { roomless, beyond, before }: { roomless: readonly string[]; beyond: string; before: number },
): number => {
  if (room === null) return Number.MAX_SAFE_INTEGER
  const waiting = sql
    .all<{ seq: number; needs: string }>(WAITING_FOR_ROOM, before, runnerId, JSON.stringify(room.free))
    .find(({ needs }) => fitsOnceStopped(JSON.parse(needs), room))
  const create =
    roomless.length === 0
      ? undefined
      : sql.get<{ seq: number | null }>(FIRST_FOR_ROOM, JSON.stringify(roomless), before, runnerId, beyond)
  return Math.min(waiting?.seq ?? Number.MAX_SAFE_INTEGER, create?.seq ?? Number.MAX_SAFE_INTEGER)
}

const claim = (sql: Sql, runnerId: string, offer: Offer, { machinesPerPerson = null }: StoreLimits): Lease | null => {
  const token = randomBytes(16).toString('hex')
  const now = sql.clock()
  const { fitting, roomless } = machinesFor(sql, offer)
  const beyond = JSON.stringify(machinesPerPerson === null ? [] : beyondLimit(sql, machinesPerPerson))
  const first = firstForRoom(sql, runnerId, offer, { roomless, beyond, before: now - ROOM_PATIENCE_MS })
  const row = sql.get<Row>(
    CLAIM,
    ...[runnerId, token, now + LEASE_MS, now, JSON.stringify(fitting)],
    ...[offer.room === null ? null : JSON.stringify(offer.room.free), first, beyond],
  )
  if (row === undefined) return null
  if (PINS.includes(row.kind)) sql.put('pin', { ticket: row.ticket }, { runnerId, given: 1 })
  else sql.run('update pin set given = 1 where ticket = ? and runner_id = ?', row.ticket, runnerId)
  const { id, correlation, payload, attempt } = row
  return { id, correlation, action: JSON.parse(payload), attempt, token }
}

/** Moves an action to those that ended. */
const moveToEnded = (sql: Sql, id: string, state: 'done' | 'dead' | 'cancelled', outcome: Outcome | null): void => {
  sql.run(
    `insert into ended_action (seq, id, correlation, ticket, kind, payload, state, attempt, not_before, runner_id, outcome,
       created_at, ended_at)
     select seq, id, correlation, ticket, kind, payload, ?2, attempt, not_before, runner_id, ?3, created_at, ?4
     from action where id = ?1`,
    ...[id, state, outcome === null ? null : JSON.stringify(outcome), sql.clock()],
  )
  sql.run('delete from action where id = ?', id)
}

/**
 * A create or promote that made nothing pins nothing: another runner may do the next attempt. A runner that was lost, whose lease ran out, may
 * have made something.
 */
const unpinUnmade = (sql: Sql, { ticket, kind, leaseUntil }: Row, environment: Outcome['environment']): void => {
  if (!PINS.includes(kind) || environment !== null || (leaseUntil ?? 0) <= sql.clock()) return
  sql.run(
    `delete from pin where ticket = ?1
       and not exists (select 1 from environment where environment.ticket = ?1 and gone_at is null)`,
    ticket,
  )
}

/**
 * The attempts that a fork made. They are its runner's, and what an event asked for meanwhile, when nobody knew them, holds for them as
 * for the machine that they are of.
 */
const takeAttempts = (sql: Sql, { ticket, runnerId }: Row, outcome: Outcome): void => {
  if (outcome.result !== 'done' || outcome.attempts === undefined) return
  // A runner has a say in its ticket alone.
  const keys = outcome.attempts
    .map(attempt => attempt.ticket)
    .filter(key => attemptOf(key) !== null && ticketOf(key) === ticketOf(ticket))
  const asked = listActions(sql, { ticket, state: 'pending' }).filter(
    ({ action }) =>
      (action.kind === 'stop' || action.kind === 'delete') &&
      // What is to follow the promote of an attempt is for that attempt alone.
      action.promoted === undefined &&
      action.by.cause !== undefined &&
      action.by.cause !== 'command',
  )
  for (const key of keys) {
    sql.run('insert into pin (ticket, runner_id, given) values (?, ?, 1) on conflict do nothing', key, runnerId)
    for (const { id, correlation, action } of asked)
      enqueue(sql, { id: `${id}:${key}`, correlation, action: { ...action, ticket: key, replyTo: null } })
  }
}

/** A runner that has not moved the ticket's machine yet uses its former key, also for what it made and deleted. */
const withCurrentKeys = (sql: Sql, outcome: Outcome): Outcome => {
  const environment = outcome.environment && withCurrentTicket(sql, outcome.environment)
  if (outcome.result !== 'done') return { ...outcome, environment }
  const { attempts, deleted } = outcome
  return {
    ...{ ...outcome, environment },
    ...(attempts && { attempts: attempts.map(each => withCurrentTicket(sql, each)) }),
    ...(deleted && { deleted: deleted.map(each => withCurrentTicket(sql, each)) }),
  }
}

/** Ends an active action of this token, or a pending one (`token` null). False when it is neither. */
const end = (
  sql: Sql,
  { id, token }: { id: string; token: string | null },
  state: 'done' | 'dead',
  outcome: Outcome,
  messages: readonly Message[],
): boolean => {
  const row = openRow(sql, id)
  if (row === undefined || row.state !== (token === null ? 'pending' : 'active') || row.leaseToken !== token)
    return false
  const { ticket, correlation, kind, runnerId } = row
  unpinUnmade(sql, row, outcome.environment)
  const known = withCurrentKeys(sql, outcome)
  moveToEnded(sql, id, state, known)
  if (kind === 'fork') takeAttempts(sql, row, known)
  recordAfter(sql, { id, ticket, kind, runnerId }, known)
  endRequest(sql, id, known)
  putMessages(sql, messages, correlation)
  return true
}

/** Records what an outcome says about the ticket's environment. A failure without one says nothing. */
const recordAfter = (
  sql: Sql,
  { id, ticket, kind, runnerId }: { id: string; ticket: Ticket; kind: Action['kind']; runnerId: string | null },
  { result, environment }: Outcome,
): void => {
  if (environment !== null) recordEnvironment(sql, environment, runnerId)
  else if (kind === 'delete' && result === 'done') {
    const at = sql.get<{ at: number }>('select at from request where id = ?', id)?.at ?? sql.clock()
    environmentDeleted(sql, ticket, at)
  } else if (result !== 'failed') environmentGone(sql, ticket)
}

const failedOutcome = (failure: Failure, environment: Outcome['environment']): Outcome => ({
  result: 'failed',
  failure,
  environment,
})

/** Ends an action that nobody can do any more, whoever has it. The caller tells it. */
export const endFailed = (sql: Sql, id: string, failure: Failure): void => {
  const outcome = failedOutcome(failure, null)
  moveToEnded(sql, id, 'dead', outcome)
  endRequest(sql, id, outcome)
}
/** Any runner can do it now, also when one that is gone has it. */
export const releaseAction = (sql: Sql, id: string): void =>
  void sql.run(
    `update action set state = 'pending', not_before = 0, lease_token = null, lease_until = null where id = ?`,
    id,
  )

const toPending = (
  sql: Sql,
  id: string,
  token: string,
  notBefore: number,
  { progress = null, needs = null }: { progress?: AttemptProgress | null; needs?: MachineSize | null } = {},
): boolean =>
  sql.run(
    // Waiting for room is no attempt.
    `update action set state = 'pending', not_before = ?1, progress = ?2, lease_token = null, lease_until = null,
       needs = ?3, attempt = attempt - (?3 is not null)
     where id = ?4 and state = 'active' and lease_token = ?5`,
    ...[notBefore, progress === null ? null : JSON.stringify(progress)],
    ...[needs === null ? null : JSON.stringify(needs), id, token],
  ) === 1

/** People read why an attempt failed while the next one waits, and runs. */
const afterFailure = (sql: Sql, { message }: Failure): AttemptProgress => ({
  ...{ phase: 'after a failed attempt', at: new Date(sql.clock()).toISOString(), failed: message.slice(0, 500) },
})

const whyBeyondLimit = (sql: Sql, id: string, { machinesPerPerson = null }: StoreLimits): Ticket[] | null => {
  const row = machinesPerPerson === null ? undefined : openRow(sql, id)
  const makesMachines = row?.kind === 'create' || row?.kind === 'fork'
  if (row === undefined || machinesPerPerson === null || !makesMachines || row.state !== 'pending') return null
  return beyondLimit(sql, machinesPerPerson).includes(row.seq) ? machinesOfOwner(sql, row.seq) : null
}

const cancelAction = (sql: Sql, id: string): boolean => {
  if (openRow(sql, id)?.state !== 'pending') return false
  moveToEnded(sql, id, 'cancelled', null)
  endRequest(sql, id, null)
  return true
}

/** Pending deletes that an event before `before` (ISO 8601) asked for. */
export const cancelDeletes = (sql: Sql, ticket: Ticket, before: string): void => {
  const rows = sql.all<Row>(`select * from action where ticket = ? and state = 'pending' and kind = 'delete'`, ticket)
  for (const { id, action } of rows.map(actionRowOf))
    if (action.replyTo === null && (action.at ?? '') < before) cancelAction(sql, id)
}

export const openQueue = (sql: Sql, limits: StoreLimits = {}): Store['queue'] => ({
  enqueue: async action => (enqueue(sql, action) ? 'added' : 'duplicate'),
  claim: async (runnerId, offer) => sql.transaction(() => claim(sql, runnerId, offer, limits)),
  beyondLimit: async id => whyBeyondLimit(sql, id, limits),
  renew: async (id, token, progress) =>
    sql.run(
      // What it waits for is reported each time; why the attempt before it failed stays.
      `update action set lease_until = ?, progress = json_patch(coalesce(progress, '{}'), ?)
       where id = ? and state = 'active' and lease_token = ?`,
      ...[sql.clock() + LEASE_MS, JSON.stringify({ waitsFor: null, ...progress }), id, token],
    ) === 1
      ? 'ok'
      : 'lost',
  complete: async (id, token, outcome, messages) =>
    sql.transaction(() => (end(sql, { id, token }, 'done', outcome, messages) ? 'ok' : 'lost')),
  fail: async (id, token, { failure, retry, environment, messages }) =>
    sql.transaction(() => {
      const row = openRow(sql, id)
      const attempt = row?.attempt ?? 0
      // A fork does not wait for room: the stop or delete that would make it would wait behind it.
      if (failure.needs !== undefined && row?.kind !== 'fork') {
        // The offer may be of another hypervisor than the machine's.
        if (!toPending(sql, id, token, sql.clock() + ROOM_RETRY_MS, { needs: failure.needs })) return 'lost'
        if (row !== undefined) unpinUnmade(sql, row, environment)
        return 'retry'
      }
      if (retry && attempt < MAX_ATTEMPTS) {
        const notBefore = sql.clock() + retryAfter(Math.max(0, attempt - 1))
        if (!toPending(sql, id, token, notBefore, { progress: afterFailure(sql, failure) })) return 'lost'
        if (row !== undefined) unpinUnmade(sql, row, environment)
        return 'retry'
      }
      return end(sql, { id, token }, 'dead', failedOutcome(failure, environment), messages) ? 'dead' : 'lost'
    }),
  reject: async (id, failure, messages) =>
    sql.transaction(() =>
      end(sql, { id, token: null }, 'dead', failedOutcome(failure, null), messages) ? 'dead' : 'too-late',
    ),
  cancel: async id => sql.transaction(() => (cancelAction(sql, id) ? 'cancelled' : 'too-late')),
  expired: async () =>
    sql
      .all<Row>(
        `select * from action where state = 'active' and not lease_until between ?1 + 1 and ?1 + ${LEASE_MS} order by seq`,
        sql.clock(),
      )
      .map(actionRowOf),
  nextDueAt: async () =>
    sql.get<{ at: number | null }>(
      `select min(at) as at from (
         select min(lease_until) as at from action where state = 'active'
         union all select min(not_before) from action where state = 'pending' and not_before > ?)`,
      sql.clock(),
    )?.at ?? null,
  giveBack: async (id, token) => (toPending(sql, id, token, 0) ? 'ok' : 'lost'),
  pinnedTo: async ticket =>
    sql.get<{ runnerId: string }>('select runner_id from pin where ticket = ?', ticket)?.runnerId ?? null,
  get: async id => {
    const row = openRow(sql, id) ?? sql.get<Row>('select * from ended_action where id = ?', id)
    return row === undefined ? null : actionRowOf(row)
  },
  list: async filter => listActions(sql, filter),
})
