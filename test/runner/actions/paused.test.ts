/** A machine that its hypervisor paused: it runs, but nothing in it does. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fail } from '../../../src/errors.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'

let it: TestContext
/** The hypervisor's reason; null once the machine goes on. */
let paused: string | null
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
  paused = 'disk full'
  wrapProviders(it.context, provider => ({
    ...provider,
    listVms: async () => (await provider.listVms()).map(vm => (paused === null ? vm : { ...vm, paused })),
    startVm: async id => {
      paused = null
      await provider.startVm(id)
    },
    runInGuest: async (...call) => {
      if (paused !== null) throw fail('guest-unreachable', 'no SSH reply')
      return provider.runInGuest?.(...call) ?? { stdout: '', stderr: '', exitCode: 0 }
    },
  }))
})
afterEach(() => it.close())

const push = actions.push('DROP-1', '92aa11bcc')

test('it gets no checkpoint of a push', async () => {
  expect(await it.do(push)).toMatchObject({ result: 'skipped', reason: 'DROP-1 is paused (disk full)' })
  paused = null
  expect(await it.do(push)).toMatchObject({ result: 'done' })
})

test('a person still gets a checkpoint of it', async () => {
  expect(await it.do(actions.checkpoint('DROP-1', 'one'))).toMatchObject({ result: 'done' })
})

test('start lets it go on, and does nothing the second time', async () => {
  const start = actions.start('DROP-1')
  expect(await it.do(start)).toMatchObject({
    result: 'done',
    summary: 'DROP-1 is running again; it was paused (disk full)',
  })
  expect(paused).toBe(null)
  expect(await it.do(start)).toMatchObject({ result: 'skipped', reason: 'DROP-1 is already running' })
})

test('whether it has unsaved work is unknown, for that reason: it is kept', async () => {
  expect(await it.do(actions.stop('DROP-1'))).toMatchObject({ result: 'done' })
  expect(it.context.registry.environment('DROP-1')?.unsavedWork).toMatchObject({
    known: false,
    reason: 'the machine is paused (disk full)',
  })
})
