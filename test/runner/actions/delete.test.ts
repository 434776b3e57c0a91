/** When a machine is deleted, and when it is kept. delete.process.test.ts has real repositories and what is rescued of them. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fail } from '../../../src/errors.ts'
import { planAction } from '../../../src/runner/plan.ts'
import { recoverAll } from '../../../src/runner/recovery.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

/** A unit test runs no git, which would prove what is saved. */
const kept = {
  result: 'failed',
  failure: { kind: 'unsaved-work', message: expect.stringContaining('is kept and stopped: 1 untracked file') },
}

test('a stop records what it found, and a machine that was stopped without unsaved work is deleted', async () => {
  await it.do(actions.create('DROP-2'))
  it.addUnsavedWork('DROP-2')
  expect(await it.do(actions.stop('DROP-1'))).toMatchObject({
    environment: { unsavedWork: { known: true, repositories: [] } },
  })
  expect(await it.do(actions.stop('DROP-2'))).toMatchObject({
    environment: { unsavedWork: { known: true, repositories: [{ untracked: 1 }] } },
  })
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
})

describe('"nothing unsaved" counts only while the machine stays off', () => {
  const workAndLosePower = async () => {
    it.addUnsavedWork('DROP-1')
    await it.losePower('DROP-1')
  }
  const expectKept = async () => {
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject(kept)
    expect(it.machines()).toHaveLength(1)
  }

  test('after a stop that was cancelled when it had looked', async () => {
    const cancel = new AbortController()
    const onPhase = (phase: string) => phase === 'looking for unsaved work' && cancel.abort()
    expect(await it.do(actions.stop('DROP-1'), { signal: cancel.signal, onPhase })).toMatchObject({
      failure: { kind: 'cancelled' },
      environment: { status: 'running' },
    })
    await workAndLosePower()
    await expectKept()
  })

  test('after a start that did not finish', async () => {
    await it.do(actions.stop('DROP-1'))
    expect(await it.dieAt('address', actions.start('DROP-1'))).toBe(true)
    await workAndLosePower()
    await expectKept()
  })

  test('after a restore that did not finish', async () => {
    it.addUnsavedWork('DROP-1')
    await it.do(actions.checkpoint('DROP-1', 'one'))
    it.removeUnsavedWork('DROP-1')
    await it.do(actions.stop('DROP-1'))
    expect(await it.dieAt('address', actions.restore('DROP-1', 'one'))).toBe(true)
    await it.losePower('DROP-1')
    await expectKept()
  })

  test('after a delete that failed', async () => {
    const allowDelete = it.preventDelete('DROP-1')
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'failed' })
    allowDelete()
    await workAndLosePower()
    await expectKept()
  })

  test('after somebody else started it', async () => {
    await it.do(actions.stop('DROP-1'))
    await (await it.provider()).startVm(it.vmIdOf('DROP-1'))
    await it.do(actions.status('DROP-1'))
    await workAndLosePower()
    await expectKept()
  })
})

test('another attempt of a delete that failed finishes it when the machine is off', async () => {
  const allowDelete = it.preventDelete('DROP-1')
  const attempt = () => it.do(actions.delete('DROP-1'), { actionId: 'github:1:0' })
  expect(await attempt()).toMatchObject({ result: 'failed' })
  allowDelete()
  it.addUnsavedWork('DROP-1')
  await it.losePower('DROP-1')
  expect(await attempt()).toMatchObject({ result: 'done' })
  expect(it.machines()).toEqual([])
})

test.for([
  ['nobody asked, since the host lost its power', async () => it.losePower('DROP-1')],
  [
    'a stop could not ask',
    async () => {
      await it.do(actions.stop('DROP-1'))
      it.context.registry.setUnsavedWork('DROP-1', { known: false, reason: 'no answer' })
    },
  ],
] as const)('a stopped machine that %s is started, asked and deleted', async ([, turnOff]) => {
  await turnOff()
  const phases: string[] = []
  const outcome = await it.do(actions.delete('DROP-1'), { onPhase: phase => phases.push(phase) })
  expect(outcome).toMatchObject({ result: 'done' })
  expect(phases).toEqual([
    'starting it to look for unsaved work',
    'start',
    'address',
    'looking for unsaved work',
    'delete',
  ])
  expect(it.machines()).toEqual([])
})

test('a stopped machine that does not start is kept', async () => {
  await it.losePower('DROP-1')
  const provider = await it.provider()
  it.context.provider = async () => ({
    ...provider,
    startVm: async () => Promise.reject(fail('capacity', 'no memory is left')),
  })
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({
    failure: { kind: 'unsaved-work', message: 'DROP-1 is kept and stopped: no memory is left' },
    environment: { status: 'stopped' },
  })
  expect(it.machines()).toHaveLength(1)
})

test('a create that is cancelled after the machine answered over SSH leaves it: somebody may work in it', async () => {
  const cancel = new AbortController()
  const { run } = it.context
  wrapProviders(it.context, ({ runInGuest: _, ...provider }) => ({
    ...provider,
    sshInfo: async () => ({ host: '127.0.0.1', port: 22, user: 'agent' }),
  }))
  it.context.run = async (program, argv, options = {}) => {
    if (program !== 'ssh') return run(program, argv, options)
    if (options.input === undefined) return { stdout: 'no hash', stderr: '', exitCode: 0, milliseconds: 0 }
    // It answered; our files are being put into it.
    cancel.abort()
    throw fail('cancelled', 'ssh was ended')
  }
  expect(await it.do(actions.create('DROP-2'), { signal: cancel.signal })).toMatchObject({
    failure: { kind: 'cancelled', message: expect.stringContaining('the machine may still be starting') },
    environment: { status: 'running' },
  })
  expect(it.machines()).toHaveLength(2)
})

describe('a machine that somebody else removed', () => {
  beforeEach(() => {
    it.addUnsavedWork('DROP-1')
    it.forgetMachine('DROP-1')
  })

  test('whose disk is left: it is made again, started and asked, and kept when its work cannot be saved', async () => {
    const phases: string[] = []
    const outcome = await it.do(actions.delete('DROP-1'), { onPhase: phase => phases.push(phase) })
    expect(outcome).toMatchObject(kept)
    expect(phases.slice(0, 3)).toEqual([
      'making the machine again from its disk',
      'starting it to look for unsaved work',
      'start',
    ])
    expect(await it.markedTicket(it.vmIdOf('DROP-1'))).toBe('DROP-1')
  })

  test('whose disk is left: a create brings it back with its work', async () => {
    await it.do(actions.start('DROP-1'))
    expect(it.context.registry.environment('DROP-1')?.status).toBe('lost')
    const vmId = it.vmIdOf('DROP-1')
    expect(await it.do(actions.create('DROP-1'))).toMatchObject({ environment: { vmId, status: 'running' } })
    expect(it.read('DROP-1', 'unsaved')).toBe('')
  })

  test('whose disk is left, where no machine can be made of it: it is kept, told, and deleted with --force alone', async () => {
    wrapProviders(it.context, ({ recoverVm: _, ...provider }) => provider)
    const keptDisk = {
      result: 'failed',
      failure: {
        kind: 'no-such-vm',
        message: expect.stringContaining('Its disk is kept: it may hold unsaved work'),
        remedy: expect.stringContaining('agent-swarm delete DROP-1 --force'),
      },
    }
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject(keptDisk)
    await it.do(actions.start('DROP-1'))
    expect(it.context.registry.environment('DROP-1')?.status).toBe('lost')
    expect(await it.do(actions.create('DROP-1'))).toMatchObject(keptDisk)
    expect(it.machines()).toHaveLength(1)
    expect(await it.do(actions.delete('DROP-1', true))).toMatchObject({ result: 'done' })
    expect(it.machines()).toEqual([])
  })

  test('whose disk makes no machine: it is kept', async () => {
    const recoverVm = () => Promise.reject(new Error('the disk is damaged'))
    wrapProviders(it.context, provider => ({ ...provider, recoverVm }))
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({
      failure: { kind: 'no-such-vm', message: expect.stringMatching(/Its disk is kept.*the disk is damaged/) },
    })
    expect(it.machines()).toHaveLength(1)
  })
})

test('a machine that somebody else removed after a stop that found nothing unsaved: the disk is deleted', async () => {
  await it.do(actions.stop('DROP-1'))
  it.forgetMachine('DROP-1')
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
  expect(it.machines()).toEqual([])
})

describe('a plan of a delete, and of a create, tells', () => {
  const LOOK = 'look for unsaved work; if there is some, save it first, or keep the machine'
  const READY = 'wait until it answers over SSH'
  const plan = (action = actions.delete('DROP-1')) => planAction(it.context, action)

  test('that a stopped machine is started to be asked, unless it was asked at its stop', async () => {
    const vmId = it.vmIdOf('DROP-1')
    await it.losePower('DROP-1')
    const last = `delete ${vmId} with its disk`
    expect(await plan()).toEqual({ would: [`start ${vmId}`, READY, LOOK, last] })
    expect(await plan(actions.delete('DROP-1', true))).toEqual({ would: [last] })
    await it.do(actions.start('DROP-1'))
    await it.do(actions.stop('DROP-1'))
    expect(await plan()).toEqual({ would: [last] })
  })

  test('that a lost machine is made again from its disk', async () => {
    const vmId = it.vmIdOf('DROP-1')
    it.forgetMachine('DROP-1')
    const again = [`make ${vmId} again from the disk that it left`, `start ${vmId}`, READY]
    expect(await plan()).toEqual({ would: [...again, LOOK, `delete ${vmId} with its disk`] })
    await it.do(actions.start('DROP-1'))
    expect(await plan(actions.create('DROP-1'))).toEqual({ would: again })
    wrapProviders(it.context, ({ recoverVm: _, ...provider }) => provider)
    await expect(plan()).rejects.toThrow('Its disk is kept')
    await expect(plan(actions.create('DROP-1'))).rejects.toThrow('Its disk is kept')
  })
})

describe('a delete that was decided when its process died', () => {
  test.for(['', 'github:1:0'])(
    'is told as if nothing had happened, when recovery finishes it (action "%s")',
    async id => {
      const actionId = id === '' ? null : id
      expect(await it.dieAt('delete', actions.delete('DROP-1'), actionId)).toBe(true)
      // Of the queue: another command comes before the next attempt.
      if (actionId !== null) await it.do(actions.status('DROP-1'))
      const finished: string[] = []
      await recoverAll(it.context, (_, summary) => finished.push(summary))
      const summary = 'Deleted the machine of DROP-1, its disk and its checkpoints'
      if (actionId === null) expect(finished).toEqual([summary])
      const operations = it.context.registry.operations('DROP-1', 9)
      expect(operations.find(({ kind }) => kind === 'delete')).toMatchObject({
        result: 'done',
        outcome: { result: 'done', summary, environment: null },
      })
      if (actionId === null)
        expect(it.context.registry.manualOperations(9)).toMatchObject([{ kind: 'delete', outcome: { summary } }])
      else expect(await it.do(actions.delete('DROP-1'), { actionId })).toMatchObject({ result: 'done', summary })
    },
  )

  test.for(['', 'github:1:0'])('looks again at a machine that still runs (action "%s")', async id => {
    const actionId = id === '' ? null : id
    expect(await it.dieAt('delete', actions.delete('DROP-1'), actionId)).toBe(true)
    it.addUnsavedWork('DROP-1')
    if (actionId === null)
      expect(await recoverAll(it.context)).toMatchObject([{ ticket: 'DROP-1', failure: kept.failure }])
    else expect(await it.do(actions.delete('DROP-1'), { actionId })).toMatchObject(kept)
    // It is off now, and no longer what its delete was decided about.
    expect(await recoverAll(it.context)).toEqual([])
    expect(it.context.registry.environment('DROP-1')).toMatchObject({ status: 'stopped', desired: 'stopped' })
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject(kept)
  })

  test('is reported when its machine was gone already, and only its end was missing', async () => {
    expect(await it.dieAt('delete', actions.delete('DROP-1'), 'github:1:0')).toBe(true)
    const row = it.context.registry.environment('DROP-1')
    await (await it.provider()).deleteVm(row?.vmId ?? '')
    it.context.registry.remove('DROP-1')
    expect(await it.do(actions.delete('DROP-1'), { actionId: 'github:1:0' })).toMatchObject({
      result: 'done',
      summary: 'Deleted the machine of DROP-1, its disk and its checkpoints',
    })
  })
})

describe('a cancelled delete', () => {
  test('that had not begun keeps the machine, with --force too', async () => {
    expect(await it.do(actions.delete('DROP-1', true), { signal: AbortSignal.abort() })).toMatchObject({
      result: 'failed',
      failure: { kind: 'cancelled', message: 'delete of DROP-1: cancelled; nothing had begun' },
    })
    expect(it.machines()).toHaveLength(1)
  })

  test('that was looking for unsaved work keeps the machine', async () => {
    const cancel = new AbortController()
    const onPhase = (phase: string) => phase === 'looking for unsaved work' && cancel.abort()
    expect(await it.do(actions.delete('DROP-1'), { signal: cancel.signal, onPhase })).toMatchObject({
      failure: { kind: 'cancelled', message: expect.stringContaining('the machine still exists') },
    })
    expect(it.machines()).toHaveLength(1)
  })

  test('that cannot be finished is reported', async () => {
    it.preventDelete('DROP-1')
    const cancel = new AbortController()
    const onPhase = (phase: string) => phase === 'delete' && cancel.abort()
    expect(await it.do(actions.delete('DROP-1'), { signal: cancel.signal, onPhase })).toMatchObject({
      failure: { kind: 'unknown', message: expect.stringMatching(/^deleting DROP-1, which had begun: /) },
    })
  })
})
