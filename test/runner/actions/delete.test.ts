/** When a machine is deleted, and when it is kept. delete.process.test.ts has real repositories and what is rescued of them. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

const unknown = {
  result: 'failed',
  failure: { kind: 'unsaved-work', message: expect.stringContaining('could not check for unsaved work') },
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
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject(unknown)
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

describe('a machine that somebody else removed', () => {
  test('whose disk is left: the disk is kept, told, and deleted with --force alone', async () => {
    it.addUnsavedWork('DROP-1')
    it.forgetMachine('DROP-1')
    const kept = {
      result: 'failed',
      failure: {
        kind: 'no-such-vm',
        message: expect.stringContaining('Its disk is kept: it may hold unsaved work'),
        remedy: expect.stringContaining('agent-swarm delete DROP-1 --force'),
      },
    }
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject(kept)
    await it.do(actions.start('DROP-1'))
    expect(it.context.registry.environment('DROP-1')?.status).toBe('lost')
    expect(await it.do(actions.create('DROP-1'))).toMatchObject(kept)
    expect(it.machines()).toHaveLength(1)
    expect(await it.do(actions.delete('DROP-1', true))).toMatchObject({ result: 'done' })
    expect(it.machines()).toEqual([])
  })

  test('after a stop that found nothing unsaved: the disk is deleted', async () => {
    await it.do(actions.stop('DROP-1'))
    it.forgetMachine('DROP-1')
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
    expect(it.machines()).toEqual([])
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
