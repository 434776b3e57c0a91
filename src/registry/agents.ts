/** The agents of the machines, one a ticket, and the messages that wait for them. Who asks writes here; the runner does the rest. */
import { type EnvironmentKey, type Ticket, ticketOf } from '../domain.ts'
import type { Requester, Task } from '../schema/action.ts'
import type { AgentReport } from '../schema/environment.ts'
import { type Database, type Row, readJson } from './database.ts'
import { ITS_ATTEMPTS } from './environments.ts'

/** What agents may use: tokens and US dollars of all runs of the ticket, its attempts included (null: no bound), minutes of one run. */
type AgentLimits = { minutes: number; tokens: number; usd: number | null; rounds: number }
/** How a run shall end. It is written down before its unit is stopped. */
export type AgentEnding = Pick<AgentReport, 'result' | 'reason'>
export type AgentProgress = {
  /** Those of the present run; null before the first start. */
  limits: AgentLimits | null
  /** Turns of earlier runs. */
  turnsBefore: number
  /** The last operation on the ticket that the run knows of: a later restore ends it. */
  operation: number
  /** The machine's boot that the unit was started in. */
  boot: string | null
  /** How often this work was started again without being asked: after a restore, or a restart of the machine. */
  restarts: number
  ending: AgentEnding | null
}
/** `session`: the program's own name for the conversation, null before it has one. `workedMs`: how long the present run has worked. */
export type AgentRow = AgentReport & { task: Task; session: string | null; workedMs: number; progress: AgentProgress }
/** What all agents of a ticket have used, those of its attempts too: the budget is for them together. */
export type AgentUse = { tokens: number; usd: number }
export type AgentMessage = { id: number; text: string; by: Requester; at: string; round: number | null }

/** Messages that wait for one agent. */
export const MAX_WAITING_MESSAGES = 50

export const NEW_PROGRESS: AgentProgress = {
  ...{ limits: null, turnsBefore: 0, operation: 0, boot: null, restarts: 0, ending: null },
}

const agentFrom = ({ report, task, session, workedMs, progress }: Row): AgentRow => ({
  ...(readJson<AgentReport>(report) as AgentReport),
  task: readJson<Task>(task) as Task,
  session: session as string | null,
  workedMs: workedMs as number,
  progress: { ...NEW_PROGRESS, ...readJson<AgentProgress>(progress) },
})
const messageFrom = ({ id, text, by, at, round }: Row) =>
  ({ id, text, by: readJson<Requester>(by), at, round }) as AgentMessage
const COLUMNS = 'report, task, session, worked_ms as workedMs, progress'
const MESSAGES = `select id, text, asked_by as "by", at, round from agent_message`

export const agentQueries = ({ all, first, run, transaction }: Database) => {
  const agent = (ticket: Ticket): AgentRow | null => {
    const row = first(`select ${COLUMNS} from agent where ticket = ?`, ticket)
    return row === undefined ? null : agentFrom(row)
  }
  /** Writes all of it. The ticket has an environment. */
  const setAgent = (ticket: Ticket, { task, session, workedMs, progress, ...report }: AgentRow): void =>
    void run(
      `insert into agent (ticket, report, task, session, worked_ms, progress) values (?, ?, ?, ?, ?, ?)
       on conflict (ticket) do update set report = excluded.report, task = excluded.task, session = excluded.session,
         worked_ms = excluded.worked_ms, progress = excluded.progress`,
      ...[ticket, JSON.stringify(report), JSON.stringify(task), session, workedMs, JSON.stringify(progress)],
    )
  /** `agentRun` has this message. */
  const takeMessage = (id: number, agentRun: string): void =>
    void run('update agent_message set run = ? where id = ?', agentRun, id)
  return {
    agent,
    setAgent,
    agentUse: (key: EnvironmentKey): AgentUse =>
      first<AgentUse>('select tokens, usd from agent_use where ticket = ?', ticketOf(key)) ?? { tokens: 0, usd: 0 },
    /** The ticket pays, also when another run has begun meanwhile, or the machine is gone. `usd` null: nobody knows what it costs. */
    payAgent: (key: EnvironmentKey, { tokens, usd }: { tokens: number; usd: number | null }): void =>
      transaction(() => {
        run(
          `insert into agent_use (ticket, tokens, usd)
           select ?1, ?2, ?3 where exists (select 1 from environment where ticket = ?1 or (${ITS_ATTEMPTS}))
           on conflict (ticket) do update set tokens = tokens + ?2, usd = usd + ?3`,
          ...[ticketOf(key), tokens, usd ?? 0],
        )
        const row = agent(key)
        if (row === null) return
        setAgent(key, { ...row, tokens: row.tokens + tokens, usd: usd === null ? row.usd : (row.usd ?? 0) + usd })
      }),
    /** By ticket: all, or that of this ticket alone. */
    agentReports: (ticket?: Ticket): Map<Ticket, AgentReport> =>
      new Map(
        all(
          `select ticket, report from agent ${ticket === undefined ? '' : 'where ticket = ?'}`,
          ...(ticket === undefined ? [] : [ticket]),
        ).map(row => [row.ticket as Ticket, readJson<AgentReport>(row.report) as AgentReport]),
      ),
    /** Tickets whose agent is at work or wanted, has messages waiting, or knows nothing of a restore since. */
    agentsToLookAt: (): Ticket[] =>
      all(
        `select ticket from agent where json_extract(report, '$.state') <> 'ended'
           or exists (select 1 from agent_message m where m.ticket = agent.ticket and m.run is null)
           or exists (select 1 from operation o where o.ticket = agent.ticket and o.kind = 'restore' and o.result = 'done'
             and o.id > json_extract(progress, '$.operation'))
         order by ticket`,
      ).map(row => row.ticket as Ticket),
    /**
     * Changes members of the agent while it is at `agentRun`; false when it is not any more. Others write meanwhile: a person who
     * stops it, the gateway that counts.
     */
    updateAgent: (ticket: Ticket, agentRun: string, change: (row: AgentRow) => Partial<AgentRow>): boolean =>
      transaction(() => {
        const row = agent(ticket)
        if (row === null || row.run !== agentRun) return false
        setAgent(ticket, { ...row, ...change(row) })
        return true
      }),
    /** The next run, with its messages: both or neither. */
    nextRun: (ticket: Ticket, row: AgentRow, messages: readonly AgentMessage[]): void =>
      transaction(() => {
        setAgent(ticket, row)
        for (const { id } of messages) takeMessage(id, row.run)
      }),

    addMessage: (ticket: Ticket, { text, by, at, round }: Omit<AgentMessage, 'id'>): number =>
      run(
        'insert into agent_message (ticket, text, asked_by, at, round) values (?, ?, ?, ?, ?)',
        ...[ticket, text, JSON.stringify(by), at, round],
      ),
    /** That no run was given yet, oldest first. */
    waitingMessages: (ticket: Ticket): AgentMessage[] =>
      all(`${MESSAGES} where ticket = ? and run is null order by id`, ticket).map(messageFrom),
    /** That this run was given, oldest first. */
    messagesOf: (ticket: Ticket, agentRun: string): AgentMessage[] =>
      all(`${MESSAGES} where ticket = ? and run = ? order by id`, ticket, agentRun).map(messageFrom),
    /** The newest operation on the ticket; 0 when there is none. */
    lastOperation: (ticket: Ticket): number =>
      Number(first('select coalesce(max(id), 0) as id from operation where ticket = ?', ticket)?.id ?? 0),
    /** The newest restore after that operation: its id and the checkpoint's name. */
    restoredSince: (ticket: Ticket, operation: number): { id: number; name: string | null } | null =>
      first<{ id: number; name: string | null }>(
        `select id, json_extract(detail, '$.name') as name from operation
         where ticket = ? and kind = 'restore' and result = 'done' and id > ? order by id desc limit 1`,
        ...[ticket, operation],
      ) ?? null,
  }
}
