import { afterEach, beforeEach, expect, test } from 'vitest'
import { actions, openTestWorld } from '../../support/context.ts'

let it: Awaited<ReturnType<typeof openTestWorld>>
beforeEach(async () => {
  it = await openTestWorld()
})
afterEach(() => it.close())

const queued = { actionId: 'github:1:0' }
beforeEach(() => it.do(actions.create('DROP-1')))

test('a name that was taken stays taken, however often the same action is handed out', async () => {
  await it.do(actions.checkpoint('DROP-1', 'one'))
  for (const _ of ['once', 'once more']) {
    expect(await it.do(actions.checkpoint('DROP-1', 'one'), queued)).toMatchObject({
      result: 'failed',
      failure: { kind: 'already-exists' },
    })
  }
})

test('one that is not there is not told as deleted, however often the same action is handed out', async () => {
  const action = { kind: 'delete-checkpoint', ticket: 'DROP-1', name: 'one', replyTo: null } as const
  for (const _ of ['once', 'once more']) {
    expect(await it.do({ ...action, by: { via: 'github', who: 'dev' } }, queued)).toMatchObject({
      result: 'failed',
      failure: { kind: 'no-such-checkpoint' },
    })
  }
})

test('who lets go of one that cannot be undone hears that', async () => {
  const cancel = new AbortController()
  const outcome = await it.do(actions.checkpoint('DROP-1', 'one'), {
    signal: cancel.signal,
    onPhase: phase => {
      if (phase !== 'checkpoint') return
      cancel.abort()
      it.forgetMachine('DROP-1')
    },
  })
  expect(outcome).toMatchObject({
    failure: { kind: 'unknown', message: expect.stringMatching(/^undoing the checkpoint one of DROP-1: /) },
  })
})
