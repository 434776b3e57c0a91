/** A runner that is gone for good: its tickets become free, and it does not come back by itself. */
import type { Ticket } from '../../domain.ts'
import { type Action, threadOf } from '../../schema/action.ts'
import type { Environment } from '../../schema/environment.ts'
import type { Failure } from '../../schema/failure.ts'
import { makeAgain } from '../../words.ts'
import { jiraNoteMessage, reactionMessages, replyMessage, statusMessage } from '../messages.ts'
import { type ForgottenRunner, isConnected, type Message, type Store } from '../port.ts'
import { environmentGone } from './environments.ts'
import { putMessages } from './outbox.ts'
import { endFailed, releaseAction } from './queue.ts'
import type { Sql } from './sql.ts'

type Known = Pick<ForgottenRunner, 'id' | 'name' | 'host' | 'seenAt'>

/** By the name of its token, or by its id. */
const findRunner = (sql: Sql, nameOrId: string): Known | null => {
  const id =
    sql.get<{ id: string }>(`select runner_id as id from runner_token where name = ? and name <> ''`, nameOrId)?.id ??
    nameOrId
  const token = sql.get<{ name: string }>('select name from runner_token where runner_id = ? order by name desc', id)
  const runner = sql.get<{ host: string; seenAt: number }>('select host, seen_at from runner where id = ?', id)
  if (token === undefined && runner === undefined) return null
  return { id, name: token?.name || null, host: runner?.host ?? null, seenAt: runner?.seenAt ?? null }
}

type OpenAction = { id: string; kind: Action['kind']; ticket: Ticket; payload: string }
/** Those that only this runner could do, or that it does now. */
const openActions = (sql: Sql, runnerId: string): OpenAction[] =>
  sql.all<OpenAction>(
    `select a.id, a.kind, a.ticket, a.payload from action a left join pin p on p.ticket = a.ticket
     where p.runner_id = ?1 or (a.state = 'active' and a.runner_id = ?1) order by a.seq`,
    runnerId,
  )

/** A create can be done by any runner. Everything else is about the machine that is gone with this one. */
const isReleased = ({ kind }: OpenAction): boolean => kind === 'create'

const planOf = (sql: Sql, known: Known): ForgottenRunner => {
  const { id } = known
  const rows = sql.all<{ body: string; heardAt: number }>(
    'select body, heard_at from environment where runner_id = ? and gone_at is null order by ticket',
    id,
  )
  const machines = rows.map(({ body, heardAt }) => {
    const { ticket, vmId, provider, status, unsavedWork } = JSON.parse(body) as Environment
    return { ticket, vmId, provider, status, unsavedWork, heardAt }
  })
  const pinned = sql.all<{ ticket: Ticket }>('select ticket from pin where runner_id = ? order by ticket', id)
  const withMachine = new Set(machines.map(({ ticket }) => ticket))
  const actions = openActions(sql, id)
  const named = ({ kind, ticket }: OpenAction) => ({ kind, ticket })
  return {
    ...known,
    machines,
    tickets: pinned.map(({ ticket }) => ticket).filter(ticket => !withMachine.has(ticket)),
    released: actions.filter(isReleased).map(named),
    ended: actions.filter(action => !isReleased(action)).map(named),
  }
}

const hostOf = ({ host, name, id }: Known): string => host ?? name ?? id

const failureOf = (known: Known, { kind, ticket }: OpenAction): Failure => ({
  kind: 'no-such-environment',
  message: `${kind} of ${ticket}: the runner on ${hostOf(known)}, which had its machine, is gone for good`,
  remedy: `Make a new machine: ${makeAgain(ticket)}`,
})

/** The reply to the command, and its reaction once all commands of the comment have ended. */
const repliesTo = (sql: Sql, { payload }: OpenAction): Message[] => {
  const { replyTo } = JSON.parse(payload) as Action
  if (replyTo === null) return []
  const isOpen = sql.get('select 1 as n from request where thread = ? and ended_at is null', threadOf(replyTo))
  return isOpen === undefined ? [replyMessage(replyTo), ...reactionMessages(replyTo, 'confused')] : []
}

const endActions = (sql: Sql, known: Known): void => {
  for (const action of openActions(sql, known.id)) {
    if (isReleased(action)) releaseAction(sql, action.id)
    else {
      endFailed(sql, action.id, failureOf(known, action))
      putMessages(sql, repliesTo(sql, action), null)
    }
  }
}

/** Each ticket that loses a machine, or an action, reads why. */
const tellTickets = (sql: Sql, { machines, ended, ...known }: ForgottenRunner): void => {
  const kinds = Map.groupBy(ended, ({ ticket }) => ticket)
  const about = new Set([...machines.map(({ ticket }) => ticket), ...kinds.keys()])
  for (const ticket of about) {
    const machine = machines.find(each => each.ticket === ticket) ?? null
    putMessages(
      sql,
      [
        jiraNoteMessage(ticket, `runner-gone:${known.id}:${ticket}`, {
          kind: 'runner-gone',
          host: hostOf(known),
          machine: machine && { vmId: machine.vmId, provider: machine.provider },
          ended: (kinds.get(ticket) ?? []).map(({ kind }) => kind),
        }),
        statusMessage(ticket),
      ],
      null,
    )
  }
}

const forget = (sql: Sql, plan: ForgottenRunner): void => {
  const { id, machines } = plan
  endActions(sql, plan)
  for (const { ticket } of machines) environmentGone(sql, ticket)
  sql.run('delete from pin where runner_id = ?', id)
  sql.run('delete from runner_token where runner_id = ?', id)
  sql.run('delete from runner where id = ?', id)
  sql.put('forgotten_runner', { id }, { at: sql.clock() })
  tellTickets(sql, plan)
}

/** Whether the runner was forgotten: it needs a token that was made after that. */
export const isForgotten = (sql: Sql, id: string): boolean =>
  sql.get('select 1 as n from forgotten_runner where id = ?', id) !== undefined

export const forgetRunner = (
  sql: Sql,
  nameOrId: string,
  dryRun: boolean,
): Awaited<ReturnType<Store['runners']['forget']>> =>
  sql.transaction(() => {
    const known = findRunner(sql, nameOrId)
    if (known === null) return { problem: 'unknown-runner' }
    const { seenAt } = known
    if (seenAt !== null && isConnected(seenAt, sql.clock())) return { problem: 'connected', host: known.host }
    const plan = planOf(sql, known)
    if (!dryRun) forget(sql, plan)
    return plan
  })
