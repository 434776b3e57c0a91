import { setImmediate as nextTurn } from 'node:timers/promises'
import { DAY_MS } from '../../clock.ts'
import { attemptOf, type EnvironmentKey, type Ticket } from '../../domain.ts'
import type { Action, ActionKind } from '../../schema/action.ts'
import type { Environment } from '../../schema/environment.ts'
import type { HeartbeatRequest, ManualOperation, Offer } from '../../schema/runner-protocol.ts'
import { jiraNoteMessage, statusMessage } from '../messages.ts'
import { HEARTBEAT_CHUNK, isConnected, MAX_BROUGHT, type Store } from '../port.ts'
import { environmentGone, knownAttempts, knownEnvironment, recordEnvironment } from './environments.ts'
import { forgetRunner } from './forget-runner.ts'
import { putMessages } from './outbox.ts'
import { recordRequest } from './requests.ts'
import { unschedule } from './scheduled.ts'
import { json, type Sql } from './sql.ts'
import { withCurrentTicket } from './tickets.ts'

/** What a runner tells of later than this is no news. Milliseconds. */
const NEWS_MS = DAY_MS

type Row = { id: string; host: string; seenAt: number; offer: string | null }

type Pin = { runnerId: string; given: number }
const pinOf = (sql: Sql, ticket: Ticket) => sql.get<Pin>('select runner_id, given from pin where ticket = ?', ticket)
const hostOf = (sql: Sql, runnerId: string | null) => sql.get<Row>('select * from runner where id = ?', runnerId)

/** The host of the other runner that the bot gave the ticket, or that is connected and has its machine; null when there is none. */
const holderOf = (sql: Sql, ticket: Ticket, runnerId: string): string | null => {
  const pin = pinOf(sql, ticket)
  if (pin?.given === 1 && pin.runnerId !== runnerId) return hostOf(sql, pin.runnerId)?.host ?? pin.runnerId
  const known = knownEnvironment(sql, ticket)
  if (known === null || known.goneAt !== null || known.runnerId === runnerId) return null
  const other = hostOf(sql, known.runnerId)
  return other !== undefined && isConnected(other.seenAt, sql.clock()) ? other.host : null
}

/** The action that a state change stands for; null for other kinds. */
export const bareAction = ({
  kind,
  ticket,
  by,
  at,
  force = false,
}: Pick<ManualOperation, 'ticket' | 'by' | 'at' | 'force'> & { kind: ActionKind }): Action | null => {
  const common = { ticket, by, at, replyTo: null }
  if (kind === 'create' || kind === 'start' || kind === 'stop' || kind === 'restart') return { kind, ...common }
  if (kind === 'delete') return { kind, ...common, force }
  return kind === 'restore' ? { kind, ...common, name: null } : null
}

/** People read in Jira that somebody deleted the machine by hand, unless that is long ago. */
const tellDelete = (sql: Sql, operation: ManualOperation, { id, at }: { id: string; at: number }): void => {
  const { ticket, by, force = false, outcome } = operation
  // An attempt that goes is news where its work was saved.
  const isNews = attemptOf(ticket) === null || outcome?.rescued !== undefined
  if (outcome === undefined || !isNews || sql.clock() - at > NEWS_MS) return
  const action = { kind: 'delete', ticket, by, at: operation.at, replyTo: null, force } as const
  const { rescued = null } = outcome
  putMessages(sql, [jiraNoteMessage(ticket, `deleted:${id}`, { kind: 'deleted', action, rescued })], null)
}

/** Tickets whose scheduled delivery the operation cancels: it is about an event before the operation. */
const recordManualOperation = (sql: Sql, operation: ManualOperation, runnerId: string): Ticket[] => {
  const { id, ticket, kind, by } = operation
  // A clock that is ahead would make every later event look old.
  const at = Math.min(Date.parse(operation.at), sql.clock())
  if (Number.isNaN(at)) return []
  const isNew = recordRequest(sql, {
    ...{
      id: `cli:${runnerId}:${id}`,
      at,
      by,
      person: by.via !== 'clock',
      place: 'cli',
      command: null,
      ticket,
      what: kind,
    },
    ...{ action: bareAction(operation), verdict: 'allowed', reason: null, answer: null, ok: null },
  })
  if (!isNew) return []
  const { outcome } = operation
  sql.run(
    'update request set ended_at = at, ok = 1, outcome = ?, history = ? where id = ?',
    ...[outcome === undefined ? null : JSON.stringify(outcome), Number(outcome !== undefined), `cli:${runnerId}:${id}`],
  )
  tellDelete(sql, operation, { id: `cli:${runnerId}:${id}`, at })
  // The reconciler of the runner is nobody.
  if (by.via === 'clock') return []
  return unschedule(sql, ticket, at) ? [ticket] : []
}

/** Pins the ticket to the runner that has its machine. False when the runner has brought too many that the bot never gave it. */
const pinTo = (sql: Sql, ticket: Ticket, runnerId: string): boolean => {
  if (pinOf(sql, ticket)?.runnerId === runnerId) return true
  const brought = sql.get<{ n: number }>('select count(*) as n from pin where runner_id = ? and given = 0', runnerId)
  if ((brought?.n ?? 0) >= MAX_BROUGHT) return false
  sql.put('pin', { ticket }, { runnerId, given: 0 })
  return true
}

const NOTHING_QUEUED = `not exists (
  select 1 from action indexed by action_head where action.ticket = pin.ticket and state in ('pending','active'))`
/** A ticket whose machine is gone and that has nothing queued is free. */
const unpin = (sql: Sql, ticket: Ticket, runnerId: string): void =>
  void sql.run(`delete from pin where ticket = ? and runner_id = ? and ${NOTHING_QUEUED}`, ticket, runnerId)
const unpinAllBut = (sql: Sql, kept: ReadonlySet<Ticket>, runnerId: string): void =>
  void sql.run(
    `delete from pin where runner_id = ? and ticket not in (select value from json_each(?)) and ${NOTHING_QUEUED}`,
    ...[runnerId, JSON.stringify([...kept])],
  )

/** `before`: when the runner was heard before. `onUnsure`: a machine is missing for the first time. */
type Comparison = { before: number; wasAway: boolean; isMissing: (row: Present) => boolean; onUnsure: () => void }
/** Whether a ticket looks different now: its environment is gone, or its runner is back after an absence. */
const compareWithHeartbeat = (
  sql: Sql,
  row: Present,
  reported: ReadonlySet<Ticket>,
  { before, wasAway, isMissing, onUnsure }: Comparison,
): boolean => {
  const { ticket, missing } = row
  // Its status comment said that the runner was away.
  if (reported.has(ticket) || !isMissing(row)) return wasAway
  if (missing === 1) return environmentGone(sql, ticket)
  // This heartbeat may have been written before the machine was created; the next one is not.
  sql.run('update environment set missing = 1, heard_at = max(heard_at, ?) where ticket = ?', before, ticket)
  onUnsure()
  return false
}

type Present = { ticket: Ticket; vmId: string; missing: number }
type Result = Awaited<ReturnType<Store['runners']['heartbeat']>>
/** A heartbeat that is being written: what its transactions found so far. */
type Progress = Omit<Result, 'changed'> & {
  heartbeat: HeartbeatRequest
  reported: ReadonlySet<Ticket>
  own: Set<Ticket>
  changed: Set<Ticket>
}

const note = (sql: Sql, progress: Progress, changed: readonly Ticket[]): void => {
  const news = [...new Set(changed)].filter(ticket => !progress.changed.has(ticket))
  putMessages(sql, news.map(statusMessage), null)
  for (const ticket of news) progress.changed.add(ticket)
}

/** Returns when the runner was heard before; 0 when never. */
const recordRunner = (sql: Sql, { heartbeat: { runnerId, host, offer } }: Progress): number => {
  const before = hostOf(sql, runnerId)?.seenAt ?? 0
  sql.put('runner', { id: runnerId }, { host, offer: JSON.stringify(offer), seenAt: sql.clock() })
  return before
}

const recordOperations = (sql: Sql, progress: Progress, operations: readonly ManualOperation[]): void => {
  const { runnerId } = progress.heartbeat
  const own = operations
    .map(item => withCurrentTicket(sql, item))
    .filter(({ ticket }) => holderOf(sql, ticket, runnerId) === null)
  note(
    sql,
    progress,
    own.flatMap(operation => recordManualOperation(sql, operation, runnerId)),
  )
}

const recordEnvironments = (sql: Sql, progress: Progress, environments: readonly Environment[]): void => {
  const { heartbeat, reported, own, heldElsewhere, tooMany } = progress
  const { runnerId, host } = heartbeat
  const changed: Ticket[] = []
  for (const given of environments) {
    const environment = withCurrentTicket(sql, given)
    const { ticket, vmId } = environment
    // The machine of a former key that was not moved, beside one that was made under the present key since.
    const isLeftBehind = given.ticket !== ticket && reported.has(ticket)
    const holder = holderOf(sql, ticket, runnerId) ?? (isLeftBehind ? host : null)
    if (holder !== null) heldElsewhere.push({ ticket: given.ticket, vmId, host: holder })
    else if (!pinTo(sql, ticket, runnerId)) tooMany.push(given.ticket)
    else {
      own.add(ticket)
      if (recordEnvironment(sql, environment, runnerId)) changed.push(ticket)
    }
  }
  note(sql, progress, changed)
}

/** Under its present key: a machine that was moved is gone under its former one only. */
const goneOf = (sql: Sql, given: { ticket: Ticket; vmId: string }): [Ticket, string] => [
  withCurrentTicket(sql, given).ticket,
  given.vmId,
]

const chunksOf = <T>(items: readonly T[]): T[][] =>
  Array.from({ length: Math.ceil(items.length / HEARTBEAT_CHUNK) }, (_, index) =>
    items.slice(index * HEARTBEAT_CHUNK, (index + 1) * HEARTBEAT_CHUNK),
  )

const PRESENT = 'select ticket, vm_id, missing from environment where runner_id = ? and gone_at is null'

/** What the runner does not have any more. A partial heartbeat names it; a full one has all the rest. */
const openMissing = (sql: Sql, { runnerId, changes, beginning }: HeartbeatRequest, own: ReadonlySet<Ticket>) => {
  if (changes === undefined) {
    const others = new Map((beginning?.others ?? []).map(given => goneOf(sql, given)))
    return {
      isMissing: ({ ticket, vmId }: Present) => others.get(ticket) !== vmId,
      rows: () => sql.all<Present>(PRESENT, runnerId),
      unpin: () => unpinAllBut(sql, new Set([...own, ...others.keys()]), runnerId),
    }
  }
  const gone = new Map(changes.gone.map(given => goneOf(sql, given)))
  const rows = () => [...gone.keys()].flatMap(ticket => sql.all<Present>(`${PRESENT} and ticket = ?`, runnerId, ticket))
  const isMissing = ({ ticket, vmId }: Present) => gone.get(ticket) === vmId
  return {
    isMissing,
    rows,
    unpin: () => {
      // A ticket keeps its pin while another machine of it is here.
      const kept = new Set(
        rows()
          .filter(row => !isMissing(row))
          .map(({ ticket }) => ticket),
      )
      for (const ticket of gone.keys()) if (!own.has(ticket) && !kept.has(ticket)) unpin(sql, ticket, runnerId)
    },
  }
}

/** Work in proportion to what the heartbeat names: nothing is read of what it does not. */
const recordHeartbeat = async (sql: Sql, heartbeat: HeartbeatRequest, isStopped: () => boolean): Promise<Result> => {
  const { runnerId, changes, beginning, manualOperations } = heartbeat
  const environments = heartbeat.environments ?? beginning?.environments ?? changes?.changed ?? []
  const progress: Progress = {
    ...{ heartbeat, changed: new Set(), heldElsewhere: [], tooMany: [], isUnsure: false, own: new Set() },
    reported: new Set(environments.map(({ ticket }) => ticket)),
  }
  let before = 0
  /** Each item in a transaction of its own, with other work before the next. */
  const each = async <T>(items: readonly T[], write: (item: T) => void): Promise<void> => {
    for (const item of items) {
      if (isStopped()) return
      sql.transaction(() => write(item))
      await nextTurn()
    }
  }
  const [first = [], ...others] = chunksOf(environments)
  const [operations = [], ...otherOperations] = chunksOf(manualOperations)
  // A small heartbeat, the usual case, is one transaction, or two.
  await each([first], chunk => {
    recordOperations(sql, progress, operations)
    before = recordRunner(sql, progress)
    recordEnvironments(sql, progress, chunk)
  })
  await each(otherOperations, chunk => recordOperations(sql, progress, chunk))
  await each(others, chunk => recordEnvironments(sql, progress, chunk))
  const wasAway = !isConnected(before, sql.clock())
  const { isMissing, rows, unpin } = openMissing(sql, heartbeat, progress.own)
  const present = isStopped() ? [] : wasAway ? sql.all<Present>(PRESENT, runnerId) : rows()
  const [last = [], ...more] = chunksOf(
    present.filter(row => wasAway || (isMissing(row) && !progress.own.has(row.ticket))),
  )
  const onUnsure = () => {
    // A partial one is followed by others that name it again.
    progress.isUnsure = changes === undefined
  }
  const compare = (chunk: readonly Present[]) =>
    note(
      sql,
      progress,
      chunk
        .filter(row => compareWithHeartbeat(sql, row, progress.own, { before, wasAway, isMissing, onUnsure }))
        .map(({ ticket }) => ticket),
    )
  const mayMiss = changes === undefined || changes.gone.length > 0 || wasAway
  await each(mayMiss ? [last] : [], chunk => {
    unpin()
    compare(chunk)
  })
  await each(more, compare)
  const { changed, heldElsewhere, tooMany, isUnsure } = progress
  return { changed: [...changed], heldElsewhere, tooMany, isUnsure }
}

export const openRunners = (sql: Sql): Store['runners'] => ({
  heartbeat: (heartbeat, isStopped = () => false) => recordHeartbeat(sql, heartbeat, isStopped),
  list: async () =>
    sql.all<Row>('select * from runner order by seen_at desc, id').map(({ id, host, seenAt, offer }) => ({
      ...{ id, host, seenAt },
      connected: isConnected(seenAt, sql.clock()),
      offer: json<Offer>(offer),
    })),
  environment: async ticket => knownEnvironment(sql, ticket),
  attempts: async ticket => knownAttempts(sql, ticket),
  withMachine: async () =>
    sql
      .all<{ ticket: EnvironmentKey }>(
        'select ticket from environment indexed by environment_runner where gone_at is null order by ticket',
      )
      .map(row => row.ticket),
  forget: async (nameOrId, { dryRun }) => forgetRunner(sql, nameOrId, dryRun),
})
