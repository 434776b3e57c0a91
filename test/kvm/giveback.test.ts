/** What a guest frees goes back to its host: memory after its use, disk after a delete. */
import { beforeAll, expect, test } from 'vitest'
import { giveBack, shown } from '../../bench/giveback.ts'
import { isLong } from '../support/samples.ts'
import { ensureMachines, FIRST, listed, swarmEnvironment } from './cli.ts'

const MIB = 1024 ** 2

beforeAll(async () => {
  if (isLong) await ensureMachines(FIRST)
})

test.skipIf(!isLong)('an idle machine gives back the memory and the disk that it used', async () => {
  const { vmId } = await listed(FIRST)
  const figures = await giveBack({ ticket: FIRST, vmId, environment: swarmEnvironment })
  const { memory, disk } = figures
  for (const [name, text] of Object.entries(shown(figures))) process.stdout.write(`${name}: ${text}\n`)
  expect(memory.during - memory.before).toBeGreaterThan(300 * MIB)
  expect(memory.after - memory.before).toBeLessThan(0.5 * (memory.during - memory.before))
  expect(disk.written - disk.before).toBeGreaterThan(250 * MIB)
  expect(disk.deleted - disk.before).toBeLessThan(100 * MIB)
  // Zeroes take no disk space.
  expect(disk.zeroes).toBeLessThan(50 * MIB)
})
