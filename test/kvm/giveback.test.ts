/** What a guest frees goes back to its host: memory after a stress, disk after a delete. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { giveBack, shown } from '../../bench/giveback.ts'
import { ensureBase, swarm, swarmEnvironment } from './cli.ts'

const MIB = 1024 ** 2

beforeAll(ensureBase)
afterAll(async () => {
  await swarm('delete', 'GIVE-1', '--force')
})

test('an idle machine gives back the memory and the disk that it used', async () => {
  expect(await swarm('create', 'GIVE-1')).toMatchObject({ code: 0 })
  const [{ vmId }] = JSON.parse((await swarm('list', '--json')).stdout)
  const found = await giveBack({ ticket: 'GIVE-1', vmId, environment: swarmEnvironment })
  const { memory, disk } = found
  for (const [what, figures] of Object.entries(shown(found))) process.stdout.write(`${what}: ${figures}\n`)
  expect(memory.during - memory.before).toBeGreaterThan(300 * MIB)
  expect(memory.after - memory.before).toBeLessThan(0.5 * (memory.during - memory.before))
  expect(disk.written - disk.before).toBeGreaterThan(250 * MIB)
  expect(disk.deleted - disk.before).toBeLessThan(100 * MIB)
  // Zeroes take no room at all.
  expect(disk.zeroes).toBeLessThan(50 * MIB)
})
