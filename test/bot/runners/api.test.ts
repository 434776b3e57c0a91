/** What a runner may tell: of its own machines, and of nobody else's, whatever it says. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openMemory } from '../../../src/store/sqlite/memory.ts'
import { environmentOf, openStage, type Stage } from '../stage.ts'

let stage: Stage
let now = Date.now()
beforeAll(async () => {
  stage = await openStage({
    people: { dev: 'push' },
    issues: { 'DROP-1': 'one', 'DROP-2': 'two' },
    clock: () => now,
  })
})
afterAll(() => stage.close())

const other = { runnerId: 'runner-2', host: 'laptop' }
const mine = environmentOf('DROP-1', { vmId: 'as-drop-1-11111111' })
const theirs = environmentOf('DROP-1', { vmId: 'as-drop-1-22222222' })
const known = () => {
  const memory = openMemory(join(stage.home, 'memory.db'), () => now)
  try {
    return {
      vmId: memory.mirrored('DROP-1')?.environment.vmId,
      wish: memory.wish('DROP-1', 'people')?.kind,
      pin: stage.queue.pinnedTo('DROP-1'),
    }
  } finally {
    memory.close()
  }
}

test('a ticket stays with the runner that has its machine, while that is there', async () => {
  await stage.heartbeat([mine])
  const by = { via: 'cli', who: 'somebody' } as const
  const asked = [{ id: 1, ticket: 'DROP-1', kind: 'delete' as const, by, at: new Date(now).toISOString() }]
  for (let n = 0; n < 2; n += 1) {
    expect((await stage.heartbeat([theirs], { ...other, asked })).status).toBe(204)
    expect(known()).toEqual({ vmId: mine.vmId, wish: undefined, pin: 'runner-1' })
    await stage.heartbeat([mine])
  }
  now += 20_000
  await stage.heartbeat([theirs], { ...other, asked })
  expect(known()).toEqual({ vmId: theirs.vmId, wish: 'delete', pin: 'runner-2' })
})

test('an outcome tells of its own ticket alone', async () => {
  await stage.jira.move('DROP-2', 'In Progress')
  const lease = await stage.work(() => ({ result: 'done', summary: 'made', environment: mine, seconds: 1 }))
  expect(lease.action.ticket).toBe('DROP-2')
  expect(stage.told('DROP-2')).toEqual(['create active'])
  expect(known().vmId).toBe(theirs.vmId)
})
