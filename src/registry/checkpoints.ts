import type { CheckpointName, Ticket } from '../domain.ts'
import type { Checkpoint } from '../schema/environment.ts'
import type { Database, Row } from './database.ts'

const checkpointFrom = (row: Row): Checkpoint => ({
  name: row.name as string,
  why: row.why as Checkpoint['why'],
  commit: row.commit_sha as string | null,
  createdAt: row.created_at as string,
  withMemory: row.with_memory === 1,
  sizeBytes: row.size_bytes as number | null,
})

export const checkpointQueries = ({ all, run }: Database) => ({
  /** Oldest first. */
  checkpoints: (ticket: Ticket): Checkpoint[] =>
    all('select * from checkpoint where ticket = ? order by created_at, name', ticket).map(checkpointFrom),
  /** Of all tickets in one query, each ticket's oldest first. */
  checkpointsByTicket: (): Map<Ticket, Checkpoint[]> =>
    new Map(
      [
        ...Map.groupBy(all('select * from checkpoint order by ticket, created_at, name'), row => row.ticket as Ticket),
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
