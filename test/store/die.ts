/** Accepts deliveries and queues actions as fast as it can, and prints each number that is stored: `die.ts PATH FIRST`. */
import { openStore } from '../../src/store/sqlite/index.ts'
import { delivery, queued } from './fixtures.ts'

const [path = '', first = '0'] = process.argv.slice(2)
const store = openStore(path, Date.now)
for (let n = Number(first); ; n += 1) {
  await store.inbox.accept([delivery(`d${n}`, `lane-${n}`)])
  await store.queue.enqueue(queued(`a${n}`, 'stop', `DROP-${(n % 9) + 1}`))
  process.stdout.write(`${n}\n`)
}
