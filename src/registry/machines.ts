/** Machines without a ticket, and the operations on them. */
import type { ProviderName, Ticket } from '../domain.ts'
import { checkName } from '../errors.ts'
import type { Requester } from '../schema/action.ts'
import type { Database } from './database.ts'

export type MachineRow = { vmId: string; provider: ProviderName; purpose: 'base' | 'pool' | 'selftest' }
/** The operation that creates one. */
export type MachineOperation = { kind: 'build-base' | 'selftest'; by: Requester; at: string }

export const machineQueries = ({ all, first, run, transaction }: Database) => ({
  machines: (): MachineRow[] => all<MachineRow>('select vm_id as vmId, provider, purpose from machine order by vm_id'),
  /** Whether this home created the machine, with a ticket or without. */
  knowsMachine: (vmId: string): boolean =>
    first(
      'select 1 from environment where vm_id = ? union all select 1 from machine where vm_id = ?',
      ...[vmId, vmId],
    ) !== undefined,
  /** For what the journal says that it was made; null when it says nothing. `ticket` null: to build an image. */
  madeFor: (vmId: string): { kind: string; ticket: Ticket | null } | null =>
    (first('select kind, ticket from operation where vm_id = ? order by id desc limit 1', vmId) as
      | { kind: string; ticket: Ticket | null }
      | undefined) ?? null,
  /** When a machine was last made from an image of this name (ISO 8601), among the newest 5,000 operations. */
  imageUsedAt: (name: string): string | null =>
    (first(
      `select max(started_at) as at from operation
       where id > (select max(id) from operation) - 5000 and kind = 'create'
         and json_extract(outcome, '$.environment.baseImage') = ?`,
      name,
    )?.at as string | null | undefined) ?? null,
  /** The intent to create the machine for an operation, on disk before the first outside command. */
  beginMachine: ({ vmId, provider, purpose }: MachineRow, { kind, by, at }: MachineOperation): void =>
    transaction(() => {
      checkName('machine', vmId)
      checkName('provider', provider)
      run('insert into machine (vm_id, provider, purpose) values (?, ?, ?)', vmId, provider, purpose)
      run(
        'insert into operation (vm_id, kind, asked_by, started_at) values (?, ?, ?, ?)',
        ...[vmId, kind, JSON.stringify(by), at],
      )
    }),
  /** The machine is deleted, and its operation has ended. */
  endMachine: (vmId: string, at: string, result: 'done' | 'failed' | 'interrupted'): void =>
    transaction(() => {
      run('delete from machine where vm_id = ?', vmId)
      run(
        'update operation set ended_at = ?, result = ? where vm_id = ? and ticket is null and ended_at is null',
        ...[at, result, vmId],
      )
    }),
})
