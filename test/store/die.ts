/** A process that accepts and enqueues as fast as it can, and says what it was told is stored: `die.ts PATH FIRST`. It is killed from outside. */
import { openQueue } from '../../src/store/sqlite/queue.ts'
import { action, delivery } from './fixtures.ts'

const [path = '', first = '0'] = process.argv.slice(2)
const queue = openQueue(path, Date.now)
for (let n = Number(first); ; n += 1) {
  queue.accept([delivery(`d${n}`, `lane-${n}`)])
  queue.enqueue(action(`a${n}`, `DROP-${(n % 9) + 1}`))
  process.stdout.write(`${n}\n`)
}
