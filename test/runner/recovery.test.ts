/** kill -9 in the middle of an action, and what the next start makes of it. */
import { existsSync, mkdirSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { recoverAll } from '../../src/runner/recovery.ts'
import type { Action } from '../../src/schema/action.ts'
import { actions, openTestWorld } from '../support/context.ts'

let it: Awaited<ReturnType<typeof openTestWorld>>
beforeEach(async () => {
  it = await openTestWorld()
})
afterEach(() => it.close())

test.for(['disk', 'start', 'address'])('in a create of the CLI at "%s": the next start leaves nothing', async phase => {
  expect(await it.dieAt(phase, actions.create('DROP-1'))).toBe(true)
  expect(it.world.registry.environments()).toMatchObject([{ ticket: 'DROP-1', status: 'creating' }])
  await recoverAll(it.world)
  expect(it.world.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
  expect(it.world.registry.operations('DROP-1', 1)).toMatchObject([{ kind: 'create', result: 'interrupted' }])
})

test.for(['disk', 'start', 'address'])(
  'in a create of the queue at "%s": the same action goes on, with one machine',
  async phase => {
    expect(await it.dieAt(phase, actions.create('DROP-1'), 'jira:1:0')).toBe(true)
    await recoverAll(it.world)
    expect(it.world.registry.environments()).toHaveLength(1)
    expect(await it.do(actions.create('DROP-1'), { actionId: 'jira:1:0' })).toMatchObject({
      result: 'done',
      environment: { status: 'running' },
    })
    expect(it.machines()).toHaveLength(1)
  },
)

test('in a create of the queue, and another action comes first: nothing half-made is left', async () => {
  expect(await it.dieAt('start', actions.create('DROP-1'), 'jira:1:0')).toBe(true)
  expect(await it.do(actions.stop('DROP-1'))).toMatchObject({
    result: 'failed',
    failure: { kind: 'no-such-environment' },
  })
  expect(it.machines()).toEqual([])
})

test('in a delete: the next start ends it', async () => {
  await it.do(actions.create('DROP-1'))
  expect(await it.dieAt('delete', actions.delete('DROP-1'))).toBe(true)
  await recoverAll(it.world)
  expect(it.world.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('before a delete was decided: nothing is deleted', async () => {
  await it.do(actions.create('DROP-1'))
  expect(await it.dieAt('looking for work at risk', actions.delete('DROP-1'))).toBe(true)
  await recoverAll(it.world)
  expect(it.world.registry.environments()).toMatchObject([{ ticket: 'DROP-1', status: 'running' }])
})

test('in a restore: the same action ends it, and each try keeps what it finds', async () => {
  await it.do(actions.create('DROP-1'))
  await it.inside('DROP-1', 'echo one > state')
  await it.do(actions.checkpoint('DROP-1', 'one'))
  await it.inside('DROP-1', 'echo two > state')
  expect(await it.dieAt('restore', actions.restore('DROP-1', 'one'), 'github:1:0')).toBe(true)
  await it.inside('DROP-1', 'echo three > state')
  expect(await it.do(actions.restore('DROP-1', 'one'), { actionId: 'github:1:0' })).toMatchObject({ result: 'done' })
  expect(await it.inside('DROP-1', 'cat state')).toBe('one')
  const kept = it.world.registry.checkpoints('DROP-1').filter(one => one.why === 'before restore')
  for (const [at, state] of ['two', 'three'].entries()) {
    await it.do(actions.restore('DROP-1', kept[at]?.name))
    expect(await it.inside('DROP-1', 'cat state')).toBe(state)
  }
})

test('in a checkpoint without a name: the same action makes one, not two', async () => {
  await it.do(actions.create('DROP-1'))
  expect(await it.dieAt('checkpoint', actions.checkpoint('DROP-1'), 'github:1:0')).toBe(true)
  await it.do(actions.checkpoint('DROP-1'), { actionId: 'github:1:0' })
  expect(it.world.registry.checkpoints('DROP-1')).toHaveLength(1)
})

test('in a create that cannot be undone at the next start: it is told, and undone at the one after that', async () => {
  expect(await it.dieAt('address', actions.create('DROP-1'))).toBe(true)
  const mend = it.cannotDelete('DROP-1')
  for (const _ of ['once', 'once more']) {
    expect(await recoverAll(it.world)).toMatchObject([
      { ticket: 'DROP-1', failure: { message: expect.stringContaining('undoing the create of DROP-1') } },
    ])
    expect(it.world.registry.environments()).toMatchObject([{ status: 'failed' }])
  }
  mend()
  expect(await recoverAll(it.world)).toEqual([])
  expect(it.world.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('what cannot be settled of one ticket keeps no other waiting', async () => {
  expect(await it.dieAt('address', actions.create('DROP-1'))).toBe(true)
  expect(await it.dieAt('address', actions.create('DROP-2'))).toBe(true)
  it.cannotDelete('DROP-1')
  await recoverAll(it.world).catch(() => {})
  expect(it.world.registry.environments()).toMatchObject([{ ticket: 'DROP-1' }])
  expect(it.machines()).toHaveLength(1)
})

/** A create that failed, and left a machine that could not be deleted. */
const undoneInVain = async () => {
  const cancel = new AbortController()
  let mend = () => {}
  const onPhase = (phase: string) => {
    if (phase !== 'address') return
    mend = it.cannotDelete('DROP-1')
    cancel.abort()
  }
  const outcome = await it.do(actions.create('DROP-1'), { signal: cancel.signal, onPhase })
  expect(outcome).toMatchObject({
    failure: { kind: 'unknown', message: expect.stringMatching(/^undoing the create of DROP-1: /) },
    environment: { status: 'failed' },
  })
  return mend
}

test('in a create that makes a failed one anew: what was half-made does not become a machine', async () => {
  const mend = await undoneInVain()
  mend()
  expect(await it.dieAt('delete', actions.create('DROP-1'))).toBe(true)
  await recoverAll(it.world)
  expect(it.world.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('what could not be undone stays so when it is stopped', async () => {
  const mend = await undoneInVain()
  for (const _ of ['while it runs', 'when it is off']) {
    expect(await it.do(actions.stop('DROP-1'))).toMatchObject({ environment: { status: 'failed' } })
  }
  mend()
  const made = await it.do(actions.create('DROP-1'))
  expect(made).toMatchObject({ result: 'done', said: expect.stringMatching(/^DROP-1 has a machine: /) })
  expect(it.machines()).toHaveLength(1)
})

test('in a create of the queue that is refused when it goes on: nothing half-made is left', async () => {
  const create = { ...actions.create('DROP-1'), machine: { cpus: 2 } } as Action
  expect(await it.dieAt('start', create, 'jira:1:0')).toBe(true)
  const limits = { ...it.world.config.limits, cpus: 1 }
  it.world.config = { ...it.world.config, limits }
  expect(await it.do(create, { actionId: 'jira:1:0' })).toMatchObject({ failure: { kind: 'refused' } })
  expect(it.world.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('in a create of the queue that goes on while nothing can be noted: it is not forgotten', async () => {
  expect(await it.dieAt('start', actions.create('DROP-1'), 'jira:1:0')).toBe(true)
  const db = new DatabaseSync(join(it.home, 'registry.db'))
  db.exec(`create trigger full before insert on operation begin select raise(abort, 'disk full'); end`)
  const again = () => it.do(actions.create('DROP-1'), { actionId: 'jira:1:0' })
  expect(await again()).toMatchObject({ failure: { message: expect.stringContaining('disk full') } })
  db.exec('drop trigger full')
  db.close()
  // Something else comes first.
  expect(await it.do(actions.stop('DROP-1'))).toMatchObject({ failure: { kind: 'no-such-environment' } })
  expect(it.machines()).toEqual([])
})

test('in an action of the queue that is not handed out again: it is settled when the queue has given it up', async () => {
  expect(await it.dieAt('start', actions.create('DROP-1'), 'jira:1:0')).toBe(true)
  await recoverAll(it.world)
  expect(it.machines()).toHaveLength(1)
  const later = Date.now() + 61 * 60_000
  it.world.clock = () => new Date(later)
  await recoverAll(it.world)
  expect(it.world.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('in a checkpoint of a machine whose delete had failed: nothing is deleted', async () => {
  await it.do(actions.create('DROP-1'))
  const mend = it.cannotDelete('DROP-1')
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'failed' })
  mend()
  expect(await it.dieAt('checkpoint', actions.checkpoint('DROP-1'))).toBe(true)
  await recoverAll(it.world)
  expect(it.world.registry.environments()).toMatchObject([{ ticket: 'DROP-1', status: 'running' }])
})

test('a key that a process had in the making when it died is removed with the rest', async () => {
  const begun = join(it.home, 'ssh', 'new-dead')
  mkdirSync(begun, { recursive: true })
  utimesSync(begun, new Date(0), new Date(0))
  await recoverAll(it.world)
  expect(existsSync(begun)).toBe(false)
})
