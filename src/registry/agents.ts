/** The agents of the machines, one a ticket, and the messages that wait for them. Who asks writes here; the runner does the rest. */
import type { Ticket } from '../domain.ts'
import type { Requester, Task } from '../schema/action.ts'
import type { AgentReport } from '../schema/environment.ts'
import { type Database, type Row, readJson } from './database.ts'

/** `session`: the program's own name for the conversation, null before it has one. `workedMs`: how long the present run has worked. */
export type AgentRow = AgentReport & { task: Task; session: string | null; workedMs: number }
export type AgentMessage = { id: number; text: string; by: Requester; at: string; round: number | null }

/** Messages that wait for one agent. */
export const MAX_WAITING_MESSAGES = 50

const agentFrom = ({ report, task, session, workedMs }: Row): AgentRow => ({
  ...(readJson<AgentReport>(report) as AgentReport),
  task: readJson<Task>(task) as Task,
  session: session as string | null,
  workedMs: workedMs as number,
})
const messageFrom = ({ id, text, by, at, round }: Row) =>
  ({ id, text, by: readJson<Requester>(by), at, round }) as AgentMessage
const COLUMNS = 'report, task, session, worked_ms as workedMs'

export const agentQueries = ({ all, first, run }: Database) => ({
  agent: (ticket: Ticket): AgentRow | null => {
    const row = first(`select ${COLUMNS} from agent where ticket = ?`, ticket)
    return row === undefined ? null : agentFrom(row)
  },
  /** In the order of their tickets. */
  agents: (): (AgentRow & { ticket: Ticket })[] =>
    all(`select ticket, ${COLUMNS} from agent order by ticket`).map(row => ({
      ...agentFrom(row),
      ticket: row.ticket as Ticket,
    })),
  /** Writes all of it. The ticket has an environment. */
  setAgent: (ticket: Ticket, { task, session, workedMs, ...report }: AgentRow): void =>
    void run(
      `insert into agent (ticket, report, task, session, worked_ms) values (?, ?, ?, ?, ?)
       on conflict (ticket) do update set report = excluded.report, task = excluded.task, session = excluded.session,
         worked_ms = excluded.worked_ms`,
      ...[ticket, JSON.stringify(report), JSON.stringify(task), session, workedMs],
    ),

  addMessage: (ticket: Ticket, { text, by, at, round }: Omit<AgentMessage, 'id'>): number =>
    run(
      'insert into agent_message (ticket, text, asked_by, at, round) values (?, ?, ?, ?, ?)',
      ...[ticket, text, JSON.stringify(by), at, round],
    ),
  /** That no run was given yet, oldest first. */
  waitingMessages: (ticket: Ticket): AgentMessage[] =>
    all(
      `select id, text, asked_by as "by", at, round from agent_message where ticket = ? and run is null order by id`,
      ticket,
    ).map(messageFrom),
  /** `agentRun` has this message. */
  takeMessage: (id: number, agentRun: string): void =>
    void run('update agent_message set run = ? where id = ?', agentRun, id),
})
