import type { Store } from '../port.ts'
import { json, type Sql } from './sql.ts'

export const openCursors = (sql: Sql): Store['cursors'] => ({
  get: async <T>(name: string) =>
    json<T>(sql.get<{ value: string }>('select value from cursor where name = ?', name)?.value),
  set: async (name, value) => sql.put('cursor', { name }, { value: JSON.stringify(value) }),
})
