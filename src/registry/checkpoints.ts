import type { CheckpointName, Ticket } from '../domain.ts'
import type { Checkpoint } from '../schema/environment.ts'
import type { Database, Row } from './database.ts'

const COLUMNS = `ticket, name, why, commit_sha as "commit", created_at as createdAt, with_memory as withMemory,
  size_bytes as sizeBytes`
const checkpointFrom = ({ ticket: _, ...row }: Row) => ({ ...row, withMemory: row.withMemory === 1 }) as Checkpoint

export const checkpointQueries = ({ all, run }: Database) => ({
  /** Oldest first. */
  checkpoints: (ticket: Ticket): Checkpoint[] =>
    all(`select ${COLUMNS} from checkpoint where ticket = ? order by created_at, name`, ticket).map(checkpointFrom),
  /** Of all tickets in one query, each ticket's oldest first. */
  checkpointsByTicket: (): Map<Ticket, Checkpoint[]> =>
    new Map(
      [
        ...Map.groupBy(
          all(`select ${COLUMNS} from checkpoint order by ticket, created_at, name`),
          row => row.ticket as Ticket,
        ),
      ].map(([ticket, rows]) => [ticket, rows.map(checkpointFrom)]),
    ),
  addCheckpoint: (ticket: Ticket, checkpoint: Checkpoint) => {
    const { name, why, commit, createdAt, withMemory, sizeBytes } = checkpoint
    run(
      `insert or replace into checkpoint (ticket, name, why, commit_sha, created_at, with_memory, size_bytes)
       values (?, ?, ?, ?, ?, ?, ?)`,
      ...[ticket, name, why, commit, createdAt, withMemory ? 1 : 0, sizeBytes],
    )
  },
  removeCheckpoint: (ticket: Ticket, name: CheckpointName) =>
    void run('delete from checkpoint where ticket = ? and name = ?', ticket, name),
})
