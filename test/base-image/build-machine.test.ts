/** How a build reaches its machines: until one answers, and what is said of one that does not. */
import { expect, test } from 'vitest'
import { type BuildMachines, bootMachine } from '../../base-image/build-machine.ts'
import { fail, isFailure } from '../../src/errors.ts'

const SSH = { host: '192.0.2.1', port: 22, user: 'agent' }
const VM = 'as-base-0000000a'
const answer = { stdout: 'yes', stderr: '', exitCode: 0 }

type Step = 'no address' | 'refused' | 'answers' | 'wrong key' | 'timeout'
/** A machine that takes these steps, one at each look or script; the last one stays. */
const boot = async (steps: Step[], own: Partial<BuildMachines> = {}, abort = new AbortController()) => {
  const calls: string[] = []
  const now = () => steps[0] ?? 'answers'
  const next = () => {
    const step = now()
    if (steps.length > 1) steps.shift()
    return step
  }
  const machines: BuildMachines = {
    start: async vmId => void calls.push(`start ${vmId}`),
    sshInfo: async () => {
      if (now() !== 'no address') return SSH
      next()
      throw fail('no-address-yet', 'it has none')
    },
    bootDeadline: 60_000,
    pollMs: 0,
    noAnswer: 'Look at its screen.',
    ...own,
  }
  const run = async (_: unknown, script: string) => {
    calls.push(script)
    const step = next()
    if (step === 'answers') return answer
    if (step === 'wrong key') throw fail('permission', 'another host key')
    throw fail(step === 'refused' ? 'refused' : 'timeout', `ssh: ${step}`)
  }
  const inGuest = await bootMachine(machines, { name: 'node', signal: abort.signal, guest: { run } }, VM)
  return { inGuest, calls }
}
const failureOf = (promise: Promise<unknown>) =>
  promise.then(
    () => null,
    error => (isFailure(error) ? error.failure : error),
  )

test('it starts the machine, and waits through no address and refused connections', async () => {
  const { inGuest, calls } = await boot(['no address', 'no address', 'refused', 'answers'])
  expect(calls).toEqual([`start ${VM}`, 'true', 'true'])
  expect(await inGuest('hostname', { deadline: 1_000 })).toEqual(answer)
})

test('a failure that is not about reaching the machine ends the wait', async () => {
  expect(await failureOf(boot(['refused', 'wrong key', 'answers']))).toMatchObject({ message: 'another host key' })
})

test('a machine that does not answer in time: how long, what it printed last, and the remedy of its hypervisor', async () => {
  expect(
    await failureOf(boot(['refused'], { bootDeadline: 1, lastWords: vmId => `. ${vmId} printed: panic` })),
  ).toEqual({
    kind: 'guest-unreachable',
    message: `building node: its machine did not answer over SSH within 1 minutes. ${VM} printed: panic`,
    remedy: 'Look at its screen.',
  })
})

test('a cancelled build waits no longer, and runs nothing more', async () => {
  const cancelled = { kind: 'cancelled', message: 'building node: cancelled' }
  const abort = new AbortController()
  const { inGuest, calls } = await boot(['answers'], {}, abort)
  abort.abort()
  expect(await failureOf(inGuest('hostname', { deadline: 1_000 }))).toMatchObject(cancelled)
  expect(calls).not.toContain('hostname')
  expect(await failureOf(boot(['no address'], {}, abort))).toMatchObject(cancelled)
})

test('a script that does not end is reported in the words of the hypervisor, and else in those of SSH', async () => {
  const noEnd = { what: 'did not end its work', remedy: 'Try again.' }
  const { inGuest } = await boot(['answers', 'timeout'], { noEnd })
  expect(await failureOf(inGuest('sleep', { deadline: 90_000 }))).toEqual({
    kind: 'guest-unreachable',
    message: 'building node: its machine did not end its work within 2 minutes',
    remedy: 'Try again.',
  })
  const plain = await boot(['answers', 'timeout'])
  expect(await failureOf(plain.inGuest('sleep', { deadline: 90_000 }))).toMatchObject({ message: 'ssh: timeout' })
})
