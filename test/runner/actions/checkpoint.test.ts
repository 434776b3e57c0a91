import { afterEach, beforeEach, expect, test } from 'vitest'
import { actions, openTestWorld } from '../../support/world.ts'

let it: Awaited<ReturnType<typeof openTestWorld>>
beforeEach(async () => {
  it = await openTestWorld()
})
afterEach(() => it.close())

beforeEach(() => it.do(actions.create('DROP-1')))

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
