import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Action, CheckpointRetention } from '../../src/schema/action.ts'
import { actions, openTestWorld } from '../support/context.ts'

let it: Awaited<ReturnType<typeof openTestWorld>>
beforeEach(async () => {
  it = await openTestWorld()
})
afterEach(() => it.close())

describe('a life', () => {
  test('create, write, checkpoint, write, restore, read, stop, start, delete', async () => {
    expect(await it.do(actions.create('DROP-1'))).toMatchObject({
      result: 'done',
      environment: { status: 'running', provider: 'synthetic', ssh: null },
    })
    await it.inside('DROP-1', 'echo before > state')
    expect(await it.do(actions.checkpoint('DROP-1', 'one'))).toMatchObject({
      result: 'done',
      environment: { checkpoints: [{ name: 'one', why: 'command' }] },
    })
    await it.inside('DROP-1', 'echo after > state')
    const restored = await it.do(actions.restore('DROP-1'))
    expect(restored).toMatchObject({
      result: 'done',
      said: expect.stringMatching(
        /^DROP-1 is back at one; what it replaced is kept as pre-restore-\d{8}-\d{6}\. What has left the machine stays as it is/,
      ),
    })
    expect(await it.inside('DROP-1', 'cat state')).toBe('before')
    expect(await it.do(actions.stop('DROP-1'))).toMatchObject({ result: 'done', environment: { status: 'stopped' } })
    expect(await it.do(actions.start('DROP-1'))).toMatchObject({ result: 'done', environment: { status: 'running' } })
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done', environment: null })
    expect(it.machines()).toEqual([])
    expect(it.world.registry.environments()).toEqual([])
  })

  test('what cannot be is said with what can', async () => {
    expect(await it.do(actions.start('DROP-1'))).toMatchObject({
      result: 'failed',
      failure: { kind: 'no-such-environment', remedy: 'Make one: agent-swarm create DROP-1' },
    })
    await it.do(actions.create('DROP-1'))
    expect(await it.do(actions.create('DROP-1'))).toMatchObject({
      result: 'skipped',
      because: expect.stringMatching(/^DROP-1 has a machine already: as-drop-1-[0-9a-f]{8} on synthetic$/),
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
      failure: { message: 'DROP-1 has no checkpoint two', remedy: 'It has one.' },
    })
  })

  test('what somebody did by hand holds against what happened before it, also when nobody had heard of it', async () => {
    const at = (later: number) => new Date(Date.now() + later).toISOString()
    const asked = (action: Action, when: string) =>
      it.do({ ...action, by: { via: 'github', who: 'dev' }, at: when }, { actionId: randomUUID() })
    const before = at(-1)
    await it.do(actions.create('DROP-1'))
    const outcome = { result: 'skipped', because: 'tester asked for create by hand after that' }
    expect(await asked(actions.delete('DROP-1'), before)).toMatchObject(outcome)
    expect(await asked(actions.stop('DROP-1'), before)).toMatchObject(outcome)
    expect(it.machines()).toHaveLength(1)
    expect(await asked(actions.delete('DROP-1'), at(0))).toMatchObject({ result: 'done' })
  })

  test('the newest five checkpoints of pushes are kept, and those that people made', async () => {
    await it.do(actions.create('DROP-1'))
    await it.do(actions.checkpoint('DROP-1', 'mine'))
    for (const n of [1, 2, 3, 4, 5, 6, 7]) await it.do(actions.push('DROP-1', `abcdef${n}000`))
    expect(await it.do(actions.push('DROP-1', 'abcdef7999'))).toMatchObject({ result: 'skipped' })
    const outcome = await it.do(actions.status('DROP-1'))
    expect(outcome.environment?.checkpoints.map(one => one.name)).toEqual([
      'mine',
      'push-abcdef3',
      'push-abcdef4',
      'push-abcdef5',
      'push-abcdef6',
      'push-abcdef7',
    ])
  })

  test.for([
    [{ cpus: 3 }, /3 CPUs are asked for, and this runner gives a repository 2 at most/],
    [{ memoryMiB: 1e9 }, /MiB of memory are asked for/],
    [{ diskGiB: -1 }, /GiB of disk are asked for/],
    [{ baseImage: '../../etc/passwd' }, /is no name of a base image/],
  ] as const)('a machine beyond what the runner allows is refused, and leaves nothing: %j', async ([machine, said]) => {
    const outcome = await it.do({ ...actions.create('DROP-1'), machine } as Action)
    expect(outcome).toMatchObject({
      result: 'failed',
      failure: { kind: 'refused', message: expect.stringMatching(said) },
    })
    expect(it.world.registry.environments()).toEqual([])
  })

  test('a machine within it is what was asked for', async () => {
    const machine = { cpus: 1, baseImage: 'node-24' }
    const outcome = await it.do({ ...actions.create('DROP-1'), machine } as Action)
    expect(outcome).toMatchObject({ result: 'done', environment: { baseImage: 'node-24' } })
  })

  test('as many checkpoints of pushes are kept as is asked, and for so long', async () => {
    const push = (n: number, keep: CheckpointRetention) =>
      it.do({ ...actions.push('DROP-1', `abcdef${n}000`), keep } as Action)
    const kept = async () =>
      (await it.do(actions.status('DROP-1'))).environment?.checkpoints.map(one => one.name.replace('push-abcdef', ''))
    await it.do(actions.create('DROP-1'))
    for (const n of [1, 2, 3]) await push(n, { newest: 2, days: null })
    expect(await kept()).toEqual(['2', '3'])
    const now = Date.now()
    it.world.clock = () => new Date(now + 8 * 24 * 60 * 60_000)
    await push(4, { newest: 2, days: 7 })
    expect(await kept()).toEqual(['4'])
  })

  test('a push makes no checkpoint of a machine that is stopped', async () => {
    await it.do(actions.create('DROP-1'))
    await it.do(actions.stop('DROP-1'))
    expect(await it.do(actions.push('DROP-1', 'abcdef1'))).toMatchObject({
      result: 'skipped',
      because: 'DROP-1 is not running',
    })
  })

  test('one action of the queue is done once, however often it is handed out', async () => {
    const asked = { actionId: 'github:1:0' }
    await it.do(actions.create('DROP-1'))
    await it.do(actions.checkpoint('DROP-1'), asked)
    await it.do(actions.checkpoint('DROP-1'), asked)
    expect(it.world.registry.checkpoints('DROP-1')).toHaveLength(1)
  })

  test('a machine that vanished is told as lost, and made anew when asked for', async () => {
    await it.do(actions.create('DROP-1'))
    await (await it.world.provider('synthetic')).deleteVm(it.world.registry.environment('DROP-1')?.vmId ?? '')
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
    expect(it.world.registry.environments()).toEqual([])
  })
})

test('two actions of one ticket never overlap, and those of others do not wait', async () => {
  const seen: string[] = []
  const at = (ticket: string, n: number) => ({ onPhase: (phase: string) => void seen.push(`${ticket}/${n}/${phase}`) })
  await Promise.all([
    it.do(actions.create('DROP-1'), at('DROP-1', 1)),
    it.do(actions.checkpoint('DROP-1', 'a'), at('DROP-1', 2)),
    it.do(actions.create('DROP-2'), at('DROP-2', 3)),
  ])
  // The second says that it waits, and its own work comes after all of the first.
  expect(seen).toContain('DROP-1/2/waiting for another command on this ticket')
  expect(seen.indexOf('DROP-1/2/checkpoint')).toBeGreaterThan(seen.indexOf('DROP-1/1/address'))
  expect(it.world.registry.environments().map(one => one.status)).toEqual(['running', 'running'])
})
