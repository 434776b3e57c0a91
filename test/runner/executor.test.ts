import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Action, CheckpointRetention } from '../../src/schema/action.ts'
import { actions, openTestContext, type TestContext } from '../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
})
afterEach(() => it.close())

describe('an action', () => {
  test('a life: create, write, checkpoint, write, restore, read, stop, start, delete', async () => {
    expect(await it.do(actions.create('DROP-1'))).toMatchObject({
      result: 'done',
      environment: { status: 'running', provider: 'synthetic', ssh: null },
    })
    it.write('DROP-1', 'state', 'before')
    expect(await it.do(actions.checkpoint('DROP-1', 'one'))).toMatchObject({
      result: 'done',
      environment: { checkpoints: [{ name: 'one', why: 'command' }] },
    })
    it.write('DROP-1', 'state', 'after')
    const restored = await it.do(actions.restore('DROP-1'))
    expect(restored).toMatchObject({
      result: 'done',
      summary: expect.stringMatching(/^Restored DROP-1 to one; its previous state is kept as pre-restore-\d{8}-\d{6}$/),
    })
    expect(it.read('DROP-1', 'state')).toBe('before')
    expect(await it.do(actions.stop('DROP-1'))).toMatchObject({ result: 'done', environment: { status: 'stopped' } })
    expect(await it.do(actions.start('DROP-1'))).toMatchObject({ result: 'done', environment: { status: 'running' } })
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done', environment: null })
    expect(it.machines()).toEqual([])
    expect(it.context.registry.environments()).toEqual([])
  })

  test('begins when no other process has the registry locked, and the event loop goes on until then', async () => {
    const other = new DatabaseSync(join(it.home, 'registry.db'))
    other.exec('begin exclusive')
    let ended = false
    const created = it.do(actions.create('DROP-1')).finally(() => {
      ended = true
    })
    // A wait of SQLite's own would stop these turns of the event loop.
    for (let turn = 0; turn < 100; turn++) await nextTurn()
    expect(ended).toBe(false)
    other.exec('commit')
    other.close()
    expect(await created).toMatchObject({ result: 'done' })
  })

  test('what is impossible fails with a remedy', async () => {
    expect(await it.do(actions.start('DROP-1'))).toMatchObject({
      result: 'failed',
      failure: { kind: 'no-such-environment', remedy: 'Create one: agent-swarm create DROP-1' },
    })
    await it.do(actions.create('DROP-1'))
    expect(await it.do(actions.create('DROP-1'))).toMatchObject({
      result: 'skipped',
      reason: expect.stringMatching(/^DROP-1 already has a machine: as-drop-1-[0-9a-f]{8} on synthetic$/),
    })
    expect(await it.do(actions.restore('DROP-1'))).toMatchObject({
      result: 'failed',
      failure: { kind: 'no-such-checkpoint' },
    })
    await it.do(actions.checkpoint('DROP-1', 'one'))
    expect(await it.do(actions.checkpoint('DROP-1', 'one'))).toMatchObject({
      result: 'failed',
      failure: { kind: 'already-exists' },
    })
    expect(await it.do(actions.restore('DROP-1', 'two'))).toMatchObject({
      result: 'failed',
      failure: { message: 'DROP-1 has no checkpoint two', remedy: 'Available checkpoints: one' },
    })
  })

  test('a manual operation wins over an event before it, also when the bot does not know of it', async () => {
    const at = (offset: number) => new Date(Date.now() + offset).toISOString()
    const queued = (action: Action, eventAt: string) =>
      it.do({ ...action, by: { via: 'github', who: 'dev' }, at: eventAt }, { actionId: randomUUID() })
    const before = at(-1)
    await it.do(actions.create('DROP-1'))
    const outcome = { result: 'skipped', reason: 'tester ran create by hand after that' }
    expect(await queued(actions.delete('DROP-1'), before)).toMatchObject(outcome)
    expect(await queued(actions.stop('DROP-1'), before)).toMatchObject(outcome)
    expect(it.machines()).toHaveLength(1)
    expect(await queued(actions.delete('DROP-1'), at(0))).toMatchObject({ result: 'done' })
  })

  test('the newest five automatic checkpoints are kept, and all that people made', async () => {
    await it.do(actions.create('DROP-1'))
    await it.do(actions.checkpoint('DROP-1', 'mine'))
    for (const n of [1, 2, 3, 4, 5, 6, 7]) await it.do(actions.push('DROP-1', `abcdef${n}000`))
    expect(await it.do(actions.push('DROP-1', 'abcdef7999'))).toMatchObject({ result: 'skipped' })
    const outcome = await it.do(actions.status('DROP-1'))
    expect(outcome.environment?.checkpoints.map(({ name }) => name)).toEqual([
      'mine',
      'push-abcdef3',
      'push-abcdef4',
      'push-abcdef5',
      'push-abcdef6',
      'push-abcdef7',
    ])
  })

  test.for([
    [{ cpus: 3 }, /asks for 3 CPUs, and this runner allows at most 2/],
    [{ memoryMiB: 1e9 }, /asks for 1000000000 MiB of memory/],
    [{ diskGiB: -1 }, /asks for -1 GiB of disk/],
    [{ baseImage: '../../etc/passwd' }, /is not a valid name of a base image/],
  ] as const)(
    'a machine beyond the limits of the runner is refused, and leaves nothing: %j',
    async ([machine, message]) => {
      const outcome = await it.do({ ...actions.create('DROP-1'), machine } as Action)
      expect(outcome).toMatchObject({
        result: 'failed',
        failure: { kind: 'refused', message: expect.stringMatching(message) },
      })
      expect(it.context.registry.environments()).toEqual([])
    },
  )

  test('a machine within the limits is created as requested', async () => {
    const machine = { cpus: 1, baseImage: 'node-24' }
    const outcome = await it.do({ ...actions.create('DROP-1'), machine } as Action)
    expect(outcome).toMatchObject({ result: 'done', environment: { baseImage: 'node-24' } })
  })

  test('an action says how many automatic checkpoints are kept, and for how long', async () => {
    const push = (n: number, keep: CheckpointRetention) =>
      it.do({ ...actions.push('DROP-1', `abcdef${n}000`), keep } as Action)
    const kept = async () =>
      (await it.do(actions.status('DROP-1'))).environment?.checkpoints.map(({ name }) =>
        name.replace('push-abcdef', ''),
      )
    await it.do(actions.create('DROP-1'))
    for (const n of [1, 2, 3]) await push(n, { newest: 2, days: null })
    expect(await kept()).toEqual(['2', '3'])
    const now = Date.now()
    it.context.clock = () => new Date(now + 8 * 24 * 60 * 60_000)
    await push(4, { newest: 2, days: 7 })
    expect(await kept()).toEqual(['4'])
  })

  test('a push makes no checkpoint of a machine that is stopped', async () => {
    await it.do(actions.create('DROP-1'))
    await it.do(actions.stop('DROP-1'))
    expect(await it.do(actions.push('DROP-1', 'abcdef1'))).toMatchObject({
      result: 'skipped',
      reason: 'DROP-1 is not running',
    })
  })

  test('an action of the queue takes effect once, however often it is handed out', async () => {
    const caller = { actionId: 'github:1:0' }
    await it.do(actions.create('DROP-1'))
    await it.do(actions.checkpoint('DROP-1'), caller)
    await it.do(actions.checkpoint('DROP-1'), caller)
    expect(it.context.registry.checkpoints('DROP-1')).toHaveLength(1)
  })

  test('a machine that vanished is reported as lost, and a create makes a new one', async () => {
    await it.do(actions.create('DROP-1'))
    await (await it.provider()).deleteVm(it.vmIdOf('DROP-1'))
    expect(await it.do(actions.start('DROP-1'))).toMatchObject({
      result: 'failed',
      failure: { kind: 'no-such-vm' },
      environment: { status: 'lost' },
    })
    expect(await it.do(actions.create('DROP-1'))).toMatchObject({ result: 'done', environment: { status: 'running' } })
  })

  test('a create that is cancelled leaves nothing', async () => {
    const cancel = new AbortController()
    const outcome = await it.do(actions.create('DROP-1'), {
      signal: cancel.signal,
      onPhase: phase => phase === 'disk' && cancel.abort(),
    })
    expect(outcome).toMatchObject({ result: 'failed', failure: { kind: 'cancelled' } })
    expect(it.machines()).toEqual([])
    expect(it.context.registry.environments()).toEqual([])
  })
})

test('two actions of one ticket never overlap, and those of others do not wait', async () => {
  const phases: string[] = []
  const at = (name: string) => ({ onPhase: (phase: string) => void phases.push(`${name}/${phase}`) })
  await Promise.all([
    it.do(actions.create('DROP-1'), at('first')),
    it.do(actions.checkpoint('DROP-1', 'a'), at('second')),
    it.do(actions.create('DROP-2'), at('other')),
  ])
  expect(phases).toContain('second/waiting for another command on this ticket')
  expect(phases.indexOf('second/checkpoint')).toBeGreaterThan(phases.indexOf('first/address'))
  expect(phases).not.toContain('other/waiting for another command on this ticket')
  expect(it.context.registry.environments().map(({ status }) => status)).toEqual(['running', 'running'])
})
