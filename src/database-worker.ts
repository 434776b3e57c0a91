/** Runs in a thread of its own: what reads a whole database. See database-care.ts. */
import { parentPort, workerData } from 'node:worker_threads'
import { writeBackup } from './backups.ts'
import { damageOf } from './damage.ts'
import type { WholeRead, WholeReadResult } from './database-care.ts'
import { failureOf } from './errors.ts'

const { path, what, now } = workerData as WholeRead
const read = (): WholeReadResult => {
  try {
    const damage = damageOf(path)
    if (what === 'check' || damage !== null) return { damage, failure: null }
    writeBackup(path, now)
    return { damage: null, failure: null }
  } catch (error) {
    return { damage: null, failure: failureOf(error, `reading ${path}`) }
  }
}
parentPort?.postMessage(read())
