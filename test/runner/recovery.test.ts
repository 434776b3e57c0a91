/** A process dies in the middle of an action, and the next start recovers. recovery.process.test.ts does so with kill -9. */
import { existsSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { CreateOptions } from '../../providers/provider.ts'
import { recoverAll } from '../../src/runner/recovery.ts'
import type { Action } from '../../src/schema/action.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
})
afterEach(() => it.close())

test.for(['disk', 'start', 'address'])(
  'a create of the CLI, at "%s": the next start removes everything',
  async phase => {
    expect(await it.dieAt(phase, actions.create('DROP-1'))).toBe(true)
    expect(it.context.registry.environments()).toMatchObject([{ ticket: 'DROP-1', status: 'creating' }])
    await recoverAll(it.context)
    expect(it.context.registry.environments()).toEqual([])
    expect(it.machines()).toEqual([])
    expect(it.context.registry.operations('DROP-1', 1)).toMatchObject([{ kind: 'create', result: 'interrupted' }])
  },
)

test('after a checkpoint that died, the provider removes what nothing needs of that machine', async () => {
  await it.do(actions.create('DROP-1'))
  expect(await it.dieAt('checkpoint', actions.checkpoint('DROP-1', 'one'))).toBe(true)
  const settled: unknown[] = []
  wrapProviders(it.context, provider => ({ ...provider, settle: async id => void settled.push(id) }))
  await recoverAll(it.context)
  expect(settled).toEqual([it.vmIdOf('DROP-1')])
})

test.for(['disk', 'start', 'address'])(
  'a create of the queue, at "%s": the next attempt continues with the same machine',
  async phase => {
    expect(await it.dieAt(phase, actions.create('DROP-1'), 'jira:1:0')).toBe(true)
    await recoverAll(it.context)
    expect(it.context.registry.environments()).toHaveLength(1)
    expect(await it.do(actions.create('DROP-1'), { actionId: 'jira:1:0' })).toMatchObject({
      result: 'done',
      environment: { status: 'running' },
    })
    expect(it.machines()).toHaveLength(1)
  },
)

test('a create that continues has the host key of the one that died, whose private half goes when the machine answers', async () => {
  expect(await it.dieAt('disk', actions.create('DROP-1'), 'jira:1:0')).toBe(true)
  const vmId = it.vmIdOf('DROP-1')
  const [pinned, half] = ['known_hosts', 'host_key'].map(end => join(it.home, 'ssh', `${vmId}.${end}`)) as [
    string,
    string,
  ]
  // The stand-in for ssh-keygen makes the same key each time.
  writeFileSync(half, 'the private half of the first key')
  writeFileSync(pinned, `${vmId} ssh-ed25519 FIRST\n`)
  await recoverAll(it.context)
  const given: CreateOptions[] = []
  wrapProviders(it.context, provider => ({
    ...provider,
    createVm: (ticket, image, options, onPhase) => {
      given.push(options)
      return provider.createVm(ticket, image, options, onPhase)
    },
  }))
  await it.do(actions.create('DROP-1'), { actionId: 'jira:1:0' })
  const hostKey = { privateKey: 'the private half of the first key', publicKey: 'ssh-ed25519 FIRST' }
  expect(given).toMatchObject([{ vmId, hostKey }])
  expect(readFileSync(pinned, 'utf8')).toBe(`${vmId} ssh-ed25519 FIRST\n`)
  expect(existsSync(half)).toBe(false)
})

test('a create of the queue, before another action: nothing half-made remains', async () => {
  expect(await it.dieAt('start', actions.create('DROP-1'), 'jira:1:0')).toBe(true)
  expect(await it.do(actions.stop('DROP-1'))).toMatchObject({
    result: 'failed',
    failure: { kind: 'no-such-environment' },
  })
  expect(it.machines()).toEqual([])
})

test('a delete: the next start finishes it', async () => {
  await it.do(actions.create('DROP-1'))
  expect(await it.dieAt('delete', actions.delete('DROP-1'))).toBe(true)
  await recoverAll(it.context)
  expect(it.context.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('a delete that was not decided: nothing is deleted', async () => {
  await it.do(actions.create('DROP-1'))
  expect(await it.dieAt('looking for unsaved work', actions.delete('DROP-1'))).toBe(true)
  await recoverAll(it.context)
  expect(it.context.registry.environments()).toMatchObject([{ ticket: 'DROP-1', status: 'running' }])
})

test('a restore: the next attempt finishes it, and each attempt keeps the state that it finds', async () => {
  await it.do(actions.create('DROP-1'))
  it.write('DROP-1', 'state', 'one')
  await it.do(actions.checkpoint('DROP-1', 'one'))
  it.write('DROP-1', 'state', 'two')
  expect(await it.dieAt('restore', actions.restore('DROP-1', 'one'), 'github:1:0')).toBe(true)
  it.write('DROP-1', 'state', 'three')
  expect(await it.do(actions.restore('DROP-1', 'one'), { actionId: 'github:1:0' })).toMatchObject({ result: 'done' })
  expect(it.read('DROP-1', 'state')).toBe('one')
  const kept = it.context.registry.checkpoints('DROP-1').filter(({ why }) => why === 'before restore')
  for (const [at, state] of ['two', 'three'].entries()) {
    await it.do(actions.restore('DROP-1', kept[at]?.name))
    expect(it.read('DROP-1', 'state')).toBe(state)
  }
})

test('a checkpoint without a name: the next attempt makes one, not two', async () => {
  await it.do(actions.create('DROP-1'))
  expect(await it.dieAt('checkpoint', actions.checkpoint('DROP-1'), 'github:1:0')).toBe(true)
  await it.do(actions.checkpoint('DROP-1'), { actionId: 'github:1:0' })
  expect(it.context.registry.checkpoints('DROP-1')).toHaveLength(1)
})

test('a create that cannot be undone at the next start is reported, and undone at a later one', async () => {
  expect(await it.dieAt('address', actions.create('DROP-1'))).toBe(true)
  const allowDelete = it.preventDelete('DROP-1')
  for (const _ of [1, 2]) {
    expect(await recoverAll(it.context)).toMatchObject([
      { ticket: 'DROP-1', failure: { message: expect.stringContaining('undoing the create of DROP-1') } },
    ])
    expect(it.context.registry.environments()).toMatchObject([{ status: 'failed' }])
  }
  allowDelete()
  expect(await recoverAll(it.context)).toEqual([])
  expect(it.context.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('a ticket that cannot be recovered does not keep others waiting', async () => {
  expect(await it.dieAt('address', actions.create('DROP-1'))).toBe(true)
  expect(await it.dieAt('address', actions.create('DROP-2'))).toBe(true)
  it.preventDelete('DROP-1')
  await recoverAll(it.context).catch(() => {})
  expect(it.context.registry.environments()).toMatchObject([{ ticket: 'DROP-1' }])
  expect(it.machines()).toHaveLength(1)
})

/** A create that failed, and could not delete its machine. */
const failToUndo = async () => {
  const cancel = new AbortController()
  let allowDelete = () => {}
  const onPhase = (phase: string) => {
    if (phase !== 'address') return
    allowDelete = it.preventDelete('DROP-1')
    cancel.abort()
  }
  const outcome = await it.do(actions.create('DROP-1'), { signal: cancel.signal, onPhase })
  expect(outcome).toMatchObject({
    failure: { kind: 'unknown', message: expect.stringMatching(/^undoing the create of DROP-1: /) },
    environment: { status: 'failed' },
  })
  return allowDelete
}

test('a create after a failed one: what was half-made does not become a machine', async () => {
  const allowDelete = await failToUndo()
  allowDelete()
  expect(await it.dieAt('delete', actions.create('DROP-1'))).toBe(true)
  await recoverAll(it.context)
  expect(it.context.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('an environment that could not be undone stays failed when it is stopped', async () => {
  const allowDelete = await failToUndo()
  for (const _ of ['running', 'stopped']) {
    expect(await it.do(actions.stop('DROP-1'))).toMatchObject({ environment: { status: 'failed' } })
  }
  allowDelete()
  const made = await it.do(actions.create('DROP-1'))
  expect(made).toMatchObject({ result: 'done', summary: expect.stringMatching(/^DROP-1 has a machine: /) })
  expect(it.machines()).toHaveLength(1)
})

test('a create of the queue that the limits refuse at its next attempt: nothing half-made remains', async () => {
  const create = { ...actions.create('DROP-1'), machine: { cpus: 2 } } as Action
  expect(await it.dieAt('start', create, 'jira:1:0')).toBe(true)
  const limits = { ...it.context.config.limits, cpus: 1 }
  it.context.config = { ...it.context.config, limits }
  expect(await it.do(create, { actionId: 'jira:1:0' })).toMatchObject({ failure: { kind: 'refused' } })
  expect(it.context.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('a create of the queue whose next attempt cannot be journalled is not forgotten', async () => {
  expect(await it.dieAt('start', actions.create('DROP-1'), 'jira:1:0')).toBe(true)
  const db = new DatabaseSync(join(it.home, 'registry.db'))
  db.exec(`create trigger full before insert on operation begin select raise(abort, 'disk full'); end`)
  const again = () => it.do(actions.create('DROP-1'), { actionId: 'jira:1:0' })
  expect(await again()).toMatchObject({ failure: { message: expect.stringContaining('disk full') } })
  db.exec('drop trigger full')
  db.close()
  expect(await it.do(actions.stop('DROP-1'))).toMatchObject({ failure: { kind: 'no-such-environment' } })
  expect(it.machines()).toEqual([])
})

test('an action of the queue that is not handed out again is recovered when the queue has given up', async () => {
  expect(await it.dieAt('start', actions.create('DROP-1'), 'jira:1:0')).toBe(true)
  await recoverAll(it.context)
  expect(it.machines()).toHaveLength(1)
  const later = Date.now() + 61 * 60_000
  it.context.clock = () => new Date(later)
  await recoverAll(it.context)
  expect(it.context.registry.environments()).toEqual([])
  expect(it.machines()).toEqual([])
})

test('a checkpoint of a machine whose delete had failed: nothing is deleted', async () => {
  await it.do(actions.create('DROP-1'))
  const allowDelete = it.preventDelete('DROP-1')
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'failed' })
  allowDelete()
  expect(await it.dieAt('checkpoint', actions.checkpoint('DROP-1'))).toBe(true)
  await recoverAll(it.context)
  expect(it.context.registry.environments()).toMatchObject([{ ticket: 'DROP-1', status: 'running' }])
})

test('the host key of a build that died a day ago is removed, and that of a machine is not', async () => {
  const folder = join(it.home, 'ssh')
  mkdirSync(folder, { recursive: true })
  const names = ['build-0a1b2c3d', 'as-drop-1-0a1b2c3d'].map(name => join(folder, `${name}.known_hosts`))
  for (const name of names) {
    writeFileSync(name, '')
    utimesSync(name, new Date(0), new Date(0))
  }
  await recoverAll(it.context)
  expect(names.map(name => existsSync(name))).toEqual([false, true])
})

test('a key that was being generated is removed', async () => {
  const unfinished = join(it.home, 'ssh', 'new-dead')
  mkdirSync(unfinished, { recursive: true })
  utimesSync(unfinished, new Date(0), new Date(0))
  await recoverAll(it.context)
  expect(existsSync(unfinished)).toBe(false)
})
