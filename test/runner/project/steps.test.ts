/** The wait for setup, in a machine whose answers are made up. */
import { expect, test } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
import type { Guest } from '../../../src/runner/project/guest.ts'
import { runSetup, waitForStart } from '../../../src/runner/project/steps.ts'

/** A machine that gives these answers about a step, the last one again and again. */
const machineAt = (name: 'setup' | 'start', ...answers: string[]) => {
  let looks = 0
  const runInGuest: Provider['runInGuest'] = async () => {
    const text = answers[Math.min(looks, answers.length - 1)] ?? ''
    looks += 1
    return { stdout: `${name}\t${Buffer.from(text).toString('base64')}\nend\n`, stderr: '', exitCode: 0 }
  }
  const guest = { context: {}, provider: { runInGuest }, row: { vmId: 'as-drop-1-00000001', ssh: null } }
  return { guest: guest as unknown as Guest, looks: () => looks }
}
const machineThatSays = (...answers: string[]) => machineAt('setup', ...answers)
const step = { commands: 'make', source: 'config.yaml' }
const options = (limitMinutes?: number) => ({
  ...{ signal: new AbortController().signal, clock: () => new Date(), onLost: async () => {} },
  ...(limitMinutes === undefined ? {} : { limitMinutes }),
})

test('a machine that always says that setup is running is given up at the limit of the host', async () => {
  const { guest, looks } = machineThatSays('running - 0 -')
  await expect(runSetup(guest, '~/shop', step, options(0.001))).rejects.toMatchObject({
    failure: { kind: 'timeout', message: 'setup did not end within 0.001 minutes' },
  })
  expect(looks()).toBeLessThan(10)
})

test('one that ends at a later look has ended', async () => {
  const { guest } = machineThatSays('running - 100 -', 'ended 0 100 160')
  expect(await runSetup(guest, '~/shop', step, options())).toMatchObject({ state: 'done', exit: 0, seconds: 60 })
})

test('a cancelled wait ends between two looks', async () => {
  const cancel = new AbortController()
  const { guest, looks } = machineThatSays('running - 100 -')
  const clock = () => {
    cancel.abort()
    return new Date()
  }
  await expect(runSetup(guest, '~/shop', step, { ...options(), clock, signal: cancel.signal })).rejects.toThrow('abort')
  expect(looks()).toBe(1)
})

test.for([
  ['running', 'running - 100 -'],
  ['done', 'ended 0 100 101'],
] as const)('ports that nobody opens are waited for within a limit, while start is %s', async ([state, answer]) => {
  const { guest } = machineAt('start', answer)
  expect(await waitForStart(guest, { path: '~/shop', ports: [3000] }, step, options(0.001))).toMatchObject({ state })
})
