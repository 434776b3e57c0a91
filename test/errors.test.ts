import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { allow, explainBy, fail, failureOf } from '../src/errors.ts'

const explain = explainBy([
  [/Domain is already active/, 'already-running'],
  [/failed to connect/, 'hypervisor-unreachable', 'Start libvirt.', 'libvirt does not answer'],
  [/failed/, 'busy', null, 'later'],
])

test.for([
  ['error: Domain is already active', 'already-running', 'starting x: error: Domain is already active', null],
  [
    'failed to connect: No such file',
    'hypervisor-unreachable',
    'starting x: libvirt does not answer',
    'Start libvirt.',
  ],
  ['it failed', 'busy', 'starting x: later', null],
  ['something new', 'unknown', 'starting x: something new', null],
] as const)('the text %j is explained by the first row that matches', ([text, kind, message, remedy]) =>
  expect(explain('starting x', text).failure).toEqual({ kind, message, remedy }),
)

test('anything thrown becomes a failure; fetch gives its reason only as the cause', () => {
  const failure = fail('capacity', 'creating DROP-1: it needs 4 GiB, 2 GiB are free', 'Stop another environment.')
  expect(failureOf(failure, 'never shown')).toBe(failure.failure)
  expect(failureOf(new Error('no', { cause: new Error('why') }), 'trying')).toMatchObject({ message: 'trying: no' })
  expect(failureOf('text', 'trying')).toEqual({ kind: 'unknown', message: 'trying: text', remedy: null })
  const refused = Object.assign(new Error(''), { code: 'ECONNREFUSED' })
  expect(failureOf(new TypeError('fetch failed', { cause: refused }), 'polling').message).toBe(
    'polling: fetch failed: ECONNREFUSED',
  )
})

test('what a signal ended is cancelled, and a deadline is not', async () => {
  const reasonOf = (signal: AbortSignal) => failureOf(signal.reason, 'waiting')
  expect(reasonOf(AbortSignal.abort())).toEqual({ kind: 'cancelled', message: 'waiting: cancelled', remedy: null })
  const ended = await delay(1, undefined, { signal: AbortSignal.abort() }).catch(error => failureOf(error, 'waiting'))
  expect(ended).toMatchObject({ kind: 'cancelled' })
  expect(reasonOf(AbortSignal.abort(new DOMException('late', 'TimeoutError')))).toMatchObject({ kind: 'unknown' })
})

test('allowed kinds become undefined, all others are thrown', async () => {
  expect(await Promise.reject(fail('no-such-vm', 'x')).catch(allow('no-such-vm', 'busy'))).toBeUndefined()
  await expect(Promise.reject(fail('unknown', 'x')).catch(allow('no-such-vm'))).rejects.toThrow('x')
  await expect(Promise.reject(new Error('y')).catch(allow('unknown'))).rejects.toThrow('y')
})
