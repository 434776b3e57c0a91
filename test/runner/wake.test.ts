/** A guest to which no time has passed since is set right, also when whoever brought it back died on the way. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fail } from '../../src/errors.ts'
import { recoverAll } from '../../src/runner/recovery.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../support/context.ts'

let it: TestContext
/** Why it stands still, for the hypervisor. */
let paused: string | null
/** How often a guest was set right. */
let times: number
let isCutOff: boolean
beforeEach(async () => {
  it = await openTestContext()
  paused = null
  times = 0
  isCutOff = false
  wrapProviders(it.context, provider => {
    // A folder has the clock of this system.
    const { ownSystem: _, ...saving } = provider
    return {
      ...saving,
      listVms: async () => (await saving.listVms()).map(vm => (paused === null ? vm : { ...vm, paused })),
      startVm: async (...call) => {
        paused = null
        await saving.startVm(...call)
        if (isCutOff) throw fail('timeout', 'the hypervisor did not answer')
      },
      runInGuest: async (id, script, options) => {
        if (!script.includes('random reseeded')) return provider.runInGuest?.(id, script, options) ?? never()
        times += 1
        return { stdout: `clock ${Date.now() / 1000}\nrandom reseeded\n`, stderr: '', exitCode: 0 }
      },
    }
  })
  await it.do(actions.create('DROP-1'))
  times = 0
})
afterEach(() => it.close())
/** For a provider without a shell in its machines. */
const never = () => {
  throw new Error('it has no guest')
}
const sleep = () => it.do({ ...actions.stop('DROP-1'), save: true } as ReturnType<typeof actions.stop>)

const isSaved = async () => (await (await it.context.provider('synthetic')).listVms())[0]?.saved === true

test('one that was paused', async () => {
  paused = 'disk full'
  expect(await it.do(actions.start('DROP-1'))).toMatchObject({ result: 'done' })
  expect(times).toBe(1)
})

test('one whose memory was saved, once', async () => {
  await sleep()
  expect(await isSaved()).toBe(true)
  expect(await it.do(actions.start('DROP-1'))).toMatchObject({
    summary: 'DROP-1 is running again, with its saved memory',
  })
  expect(times).toBe(1)
})

test('by the next try, when the first one died after the memory was back', async () => {
  await sleep()
  isCutOff = true
  const again = { actionId: 'github:1:0' }
  expect(await it.do(actions.start('DROP-1'), again)).toMatchObject({ result: 'failed' })
  expect(await isSaved()).toBe(false)
  isCutOff = false
  expect(await it.do(actions.start('DROP-1'), again)).toMatchObject({ result: 'done' })
  expect(times).toBe(1)
})

test('by recovery, when a command died after the memory was back', async () => {
  const { registry } = it.context
  await sleep()
  const id = registry.startOperation({
    ...{ actionId: null, correlation: null, ticket: 'DROP-1', kind: 'checkpoint' },
    ...{ by: { via: 'cli', who: 'tester' }, at: new Date().toISOString() },
  })
  registry.setDetail(id, { wakes: true })
  await (await it.provider()).startVm(it.vmIdOf('DROP-1'))
  expect(await recoverAll(it.context)).toEqual([])
  expect(times).toBe(1)
  expect(registry.environment('DROP-1')?.status).toBe('running')
})

test('the address that it answers at now is compared with those of others', async () => {
  await it.do(actions.create('DROP-2'))
  await sleep()
  const at = { host: '192.0.2.9', port: 22, user: 'agent' }
  it.context.registry.setAddress('DROP-2', at)
  const own = await it.context.provider('synthetic')
  const { run } = it.context
  it.context.run = async (program, argv, options) => {
    if (program !== 'ssh') return run(program, argv, options)
    const { stdout } = (await own.runInGuest?.('', options?.input ?? '', options ?? {})) ?? never()
    return { stdout, stderr: '', exitCode: 0, milliseconds: 0 }
  }
  wrapProviders(it.context, ({ runInGuest: _, ...provider }) => ({ ...provider, sshInfo: async () => at }))
  expect(await it.do(actions.start('DROP-1'))).toMatchObject({
    summary: expect.stringContaining('Its address 192.0.2.9 is that of DROP-2, too'),
  })
})
