/** Environments as the runners report them. One that is gone stays until its ticket has another. */
import { attemptOf, type Ticket } from '../../domain.ts'
import type { Environment } from '../../schema/environment.ts'
import { jiraNoteMessage } from '../messages.ts'
import type { IdleNote, JiraNote, KnownEnvironment, Message } from '../port.ts'
import { decideAgain } from './decide-again.ts'
import { putMessages } from './outbox.ts'
import { acceptReports } from './reports.ts'
import type { Sql } from './sql.ts'
import { ticketEnded } from './tickets.ts'

/** How far a runner's clock and ours may differ. */
const CLOCKS_DIFFER_MS = 60_000

type Row = Omit<KnownEnvironment, 'environment' | 'runnerForgotten'> & { body: string; forgotten: number }

/** Everything that a reader would see differently: not when it was observed. */
const visible = (environment: Environment): string => JSON.stringify({ ...environment, observedAt: null })

export const knownEnvironment = (sql: Sql, ticket: Ticket): KnownEnvironment | null => {
  const row = sql.get<Row>(
    `select runner_id, body, heard_at, gone_at, runner_id in (select id from forgotten_runner) as forgotten
     from environment where ticket = ?`,
    ticket,
  )
  if (row === undefined) return null
  const { body, forgotten, ...known } = row
  const isForgotten = forgotten === 1 && known.goneAt !== null
  return { environment: JSON.parse(body), ...known, ...(isForgotten ? { runnerForgotten: true } : {}) }
}

const isAsleep = ({ idle }: Pick<Environment, 'idle'>): boolean => idle !== undefined && idle.state !== 'warned'

/** That nobody uses the machine, that it went to sleep, and that it is awake again. */
const idleNews = (
  before: Environment,
  { ticket, vmId, status, idle }: Pick<Environment, 'ticket' | 'vmId' | 'status' | 'idle'>,
): Message[] => {
  const note = (idle: IdleNote): Message[] => {
    const when = idle.state === 'warned' ? `${idle.becomes}:${idle.since}` : (idle.at ?? '')
    return [jiraNoteMessage(ticket, `idle:${vmId}:${idle.state}:${when}`, { kind: 'idle', idle })]
  }
  // A machine that could not be saved runs on: the earlier warning is out of date.
  if (idle?.state === 'warned')
    return before.idle?.state === 'warned' && before.idle.becomes === idle.becomes ? [] : note(idle)
  if (idle !== undefined) return isAsleep(before) ? [] : note(idle)
  const slept = before.idle
  // The saved memory of a machine whose sleep nobody was told of is no news either.
  return slept !== undefined && slept.state !== 'warned' && status === 'running'
    ? note({ state: 'awake', at: slept.at })
    : []
}

/** That the hypervisor takes the machine back, that it did, and that the machine runs again. */
const interruptionNews = (
  before: Environment,
  { ticket, vmId, status, interruption, observedAt }: Environment,
): Message[] => {
  const former = before.interruption
  const note = (interruption: Extract<JiraNote, { kind: 'interruption' }>['interruption']): Message[] => {
    // The report of an action says nothing of it: nobody reads the same news twice then.
    const about = `interruption:${vmId}:${interruption.state}:${observedAt.slice(0, 13)}`
    return [jiraNoteMessage(ticket, about, { kind: 'interruption', interruption })]
  }
  if (interruption !== undefined) return former?.state === interruption.state ? [] : note(interruption)
  return former?.state === 'stopped' && status === 'running' ? note({ state: 'over', by: former.by }) : []
}

/** What people read in Jira of a machine to which something happened that nobody asked for. */
const newsOf = (before: Environment | null, environment: Environment): Message[] => {
  const { ticket, vmId, provider, status, paused, observedAt, idle, ending } = environment
  // What becomes of an attempt, its ticket's status shows.
  if (before?.vmId !== vmId || attemptOf(ticket) !== null) return []
  const isLost = status === 'lost' && before.status !== 'lost'
  const reason = before.paused == null ? (paused ?? null) : null
  // The report of an action does not say that it is still paused.
  const day = observedAt.slice(0, 10)
  return [
    ...(isLost
      ? [
          jiraNoteMessage(ticket, `lost:${vmId}`, {
            kind: 'lost',
            vmId,
            provider,
            ...(ending === undefined ? {} : { ending }),
          }),
        ]
      : []),
    ...(reason === null
      ? []
      : [jiraNoteMessage(ticket, `paused:${vmId}:${reason}:${day}`, { kind: 'paused', reason })]),
    ...idleNews(before, { ticket, vmId, status, idle }),
    ...interruptionNews(before, environment),
  ]
}

/** Records a runner's report of one environment, and what is new in it as deliveries. True when a reader would see a difference. */
export const recordEnvironment = (sql: Sql, environment: Environment, runnerId: string | null): boolean => {
  const { ticket, vmId, observedAt } = environment
  // A heartbeat that was under way while the machine was deleted.
  if (sql.get('select 1 as n from deleted_machine where vm_id = ?', vmId) !== undefined) return false
  const known = knownEnvironment(sql, ticket)
  const present = known === null || known.goneAt !== null ? null : known.environment
  // An observation in the future was made by a clock that may have been set right since.
  const isOlder =
    present !== null &&
    present.vmId === vmId &&
    observedAt < present.observedAt &&
    Date.parse(present.observedAt) <= sql.clock() + CLOCKS_DIFFER_MS
  sql.run(
    `insert into environment (ticket, vm_id, runner_id, body, heard_at) values (?, ?, ?, ?, ?)
     on conflict (ticket) do update set vm_id = excluded.vm_id, runner_id = coalesce(excluded.runner_id, runner_id),
       body = excluded.body, heard_at = excluded.heard_at, missing = 0, gone_at = null`,
    ...[ticket, vmId, runnerId, JSON.stringify(isOlder ? present : environment), sql.clock()],
  )
  if (!isOlder) {
    acceptReports(sql, known?.environment ?? null, environment)
    putMessages(sql, newsOf(present, environment), null)
  }
  return !isOlder && (present === null || visible(present) !== visible(environment))
}

const setGone = (sql: Sql, ticket: Ticket): boolean =>
  sql.run('update environment set gone_at = ? where ticket = ? and gone_at is null', sql.clock(), ticket) === 1

/**
 * The ticket's environment is gone, and no action deleted it. True when that is news. It ended when it was last reported: a move
 * of the ticket may have come since.
 */
export const environmentGone = (sql: Sql, ticket: Ticket): boolean => {
  const endedAt = knownEnvironment(sql, ticket)?.heardAt ?? sql.clock()
  const isNews = setGone(sql, ticket)
  // Its ticket has its own machine, and may get another one.
  if (isNews && attemptOf(ticket) === null) {
    ticketEnded(sql, ticket, endedAt)
    decideAgain(sql, ticket, endedAt)
  }
  return isNews
}

/** An action deleted the ticket's machine. `at`: when that was asked for. */
export const environmentDeleted = (sql: Sql, ticket: Ticket, at: number): void => {
  sql.run(
    'insert into deleted_machine (vm_id, at) select vm_id, ? from environment where ticket = ? on conflict do nothing',
    ...[sql.clock(), ticket],
  )
  setGone(sql, ticket)
  if (attemptOf(ticket) === null) ticketEnded(sql, ticket, at)
}

/** The ticket's attempts that are there, in order. */
export const knownAttempts = (sql: Sql, ticket: Ticket): Environment[] =>
  sql
    .all<{ body: string }>(
      `select body from environment where ticket > ?1 || '~' and ticket < ?1 || '~:' and gone_at is null
       order by length(ticket), ticket`,
      ticket,
    )
    .map(({ body }) => JSON.parse(body) as Environment)
