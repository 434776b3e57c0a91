/**
 * A process of its own for what reads a whole database: `read-database.ts check|backup PATH NOW`. It prints JSON. The server that
 * starts it answers meanwhile, and can end it at any time. See database-care.ts.
 */
import { setPriority } from 'node:os'
import { writeBackup } from './backups.ts'
import { damageOf } from './damage.ts'
import type { WholeRead } from './database-care.ts'
import { failureOf } from './errors.ts'

const [what, path = '', now] = process.argv.slice(2)
const read = (): WholeRead => {
  try {
    const damage = damageOf(path)
    if (what === 'backup' && damage === null) writeBackup(path, Number(now))
    return { damage, failure: null }
  } catch (error) {
    return { damage: null, failure: failureOf(error, `reading ${path}`) }
  }
}
// The server and its machines come first.
setPriority(10)
process.stdout.write(JSON.stringify(read()))
