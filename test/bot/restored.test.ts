/** A bot whose store was replaced by a backup of yesterday. What the store itself does then: test/store/restored.test.ts. */
import { copyFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { writeBackup } from '../../src/backups.ts'
import { findBot } from '../../src/bot/http/operator.ts'
import type { Outcome } from '../../src/schema/outcome.ts'
import type { Store } from '../../src/store/port.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { until } from '../support/wait.ts'
import { environmentOf, openStage, type Stage } from './stage.ts'

const DAY = 24 * 60 * 60_000
let stage: Stage
let store: Store | null
afterEach(async () => {
  await store?.close()
  await stage.close()
})

const done = (ticket: string, vm?: string) => (): Outcome => ({
  result: 'done',
  summary: 'done',
  environment: vm === undefined ? null : environmentOf(ticket, { vmId: vm }),
  seconds: 1,
})
const create = async (ticket: string, vm: string) => {
  await stage.jira.move(ticket, 'In Progress')
  const { action } = await stage.work(done(ticket, vm))
  expect(action).toMatchObject({ kind: 'create', ticket })
}
const command = async (number: number, text: string) => {
  await stage.github.comment(number, text)
  await until('the action', async () => (await stage.store.queue.list({ state: 'pending' })).length > 0)
}

test('does nothing that was queued, asked or merged before, reports it, and goes on with what comes', async () => {
  // The bot's clock: yesterday at first.
  let ahead = -DAY
  stage = await openStage({
    people: { dev: 'push' },
    issues: { 'DROP-1': 'one', 'DROP-2': 'two', 'DROP-3': 'three', 'DROP-4': 'four' },
    clock: () => Date.now() + ahead,
  })
  const { github, jira, home } = stage
  await stage.heartbeat([])
  const numbers: Record<string, number> = {}
  for (const ticket of ['DROP-1', 'DROP-2', 'DROP-3']) {
    await create(ticket, `as-${ticket.toLowerCase()}-00000001`)
    numbers[ticket] = await github.open(`${ticket.toLowerCase()}-x`, ticket)
  }
  await stage.decided()
  // A delete that was done, and one that waits when the backup is made.
  await command(numbers['DROP-3'] ?? 0, '/swarm delete --force')
  await stage.work(done('DROP-3'))
  await command(numbers['DROP-1'] ?? 0, '/swarm delete --force')
  const path = join(home, 'bot.db')
  const { file } = writeBackup(path, Date.now())

  // After the backup: it is done, and the tickets have new machines with new work.
  await stage.work(done('DROP-1'))
  for (const ticket of ['DROP-1', 'DROP-3']) {
    await jira.move(ticket, 'To Do')
    await stage.decided()
    await create(ticket, `as-${ticket.toLowerCase()}-00000002`)
  }
  // Nobody hears these.
  await stage.stopBot()
  github.lose('failed')
  jira.lose(true)
  await github.merge(numbers['DROP-2'] ?? 0)
  await github.comment(numbers['DROP-3'] ?? 0, '/swarm delete --force')
  await jira.move('DROP-4', 'In Progress')
  github.lose(null)
  jira.lose(false)

  for (const end of ['', '-wal', '-shm']) rmSync(`${path}${end}`, { force: true })
  copyFileSync(file, path)
  ahead = 0
  await stage.startBot()
  store = openStore(path, () => Date.now() + ahead)
  const restored = store
  const machines = [
    environmentOf('DROP-1', { vmId: 'as-drop-1-00000002' }),
    environmentOf('DROP-2', { vmId: 'as-drop-2-00000001' }),
    environmentOf('DROP-3', { vmId: 'as-drop-3-00000002' }),
  ]
  await stage.heartbeat(machines)
  await stage.caughtUp()
  const reasons = async () => (await restored.inbox.list([], 100)).map(({ reason }) => reason ?? '')
  for (const would of ['would delete DROP-2', 'would delete DROP-3', 'would create DROP-4'])
    await until(would, async () => (await reasons()).some(reason => reason.startsWith(would)))
  await until('an empty inbox', async () => (await restored.counts()).inbox === 0)
  expect(await restored.queue.list({ state: 'pending' })).toEqual([])
  expect(await restored.queue.list({ state: 'active' })).toEqual([])
  const held = (await restored.held.list(50)).flatMap(({ action }) => action ?? [])
  expect(held).toMatchObject([{ kind: 'delete', ticket: 'DROP-1', force: true }])

  // One of them, because an operator says so.
  const row = (await restored.inbox.list([], 100)).find(({ reason }) => reason?.startsWith('would create DROP-4'))
  const ask = await findBot(home)
  expect(await ask?.({ ask: 'replay', id: row?.id ?? '' })).toBe('again')
  expect((await stage.work(done('DROP-4', 'as-drop-4-00000001'))).action).toMatchObject({ kind: 'create' })
  expect(await ask?.({ ask: 'replay', id: 'held:1' })).toBe('again')
  expect((await stage.work(done('DROP-1'))).action).toMatchObject({ kind: 'delete', ticket: 'DROP-1' })

  // What is asked from now on is done.
  await github.comment(numbers['DROP-3'] ?? 0, '/swarm stop')
  expect((await stage.work(done('DROP-3', 'as-drop-3-00000002'))).action).toMatchObject({ kind: 'stop' })
})
