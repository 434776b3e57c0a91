/** What a build makes of what its machines print. */
import { expect, test } from 'vitest'
import { listContents, proveGuest, proveMachine, readProof, setUpGuest } from '../../base-image/stages.ts'
import { isFailure } from '../../src/errors.ts'

const guest =
  (stdout: string, exitCode = 0, stderr = '') =>
  async (_: string, { onLine }: { onLine?: (line: string) => void }) => {
    for (const line of stdout.split('\n')) onLine?.(line)
    return { stdout, stderr, exitCode }
  }
const setUp = async (...answer: Parameters<typeof guest>) => {
  const phases: string[] = []
  const onPhase = (phase: string) => void phases.push(phase)
  const failure = await setUpGuest(guest(...answer), { profile: 'full', extra: [] }, { name: 'node', onPhase }).then(
    () => null,
    error => (isFailure(error) ? error.failure : error),
  )
  return { phases, failure }
}

test('each step is a phase as it begins', async () => {
  const { phases, failure } = await setUp('step git\nGet:1 http://deb.debian.org\nstep postgresql\n')
  expect(failure).toBeNull()
  expect(phases).toEqual(['set up', 'set up: git', 'set up: postgresql'])
})

test('what a guest prints besides, or without end, is no phase', async () => {
  const { phases } = await setUp(
    `step \x1b[31mred\nstep a b\n step c\nstep ${'x'.repeat(99)}\n${'step a\n'.repeat(1_000)}`,
  )
  expect(phases).toHaveLength(201)
  expect(new Set(phases)).toEqual(new Set(['set up', 'set up: a']))
})

test('a failure names the step, and ends with its reason', async () => {
  const { failure } = await setUp('step git\nstep rust\n', 1, 'static.rust-lang.org: \x1b[2Jno answer; use --skip rust')
  expect(failure).toMatchObject({
    message: 'building node: the step rust failed: static.rust-lang.org: ?[2Jno answer; use --skip rust',
  })
})

test('a failed build does not take what the set-up prints for a failure of SSH', async () => {
  const { failure } = await setUp('step apt', 100, 'Could not connect to mirror: Connection timed out')
  expect(failure).toMatchObject({ kind: 'unknown', message: expect.stringContaining('the step apt failed') })
})

test('packages are lines of two words', async () => {
  expect(await listContents(guest('git 1:2.39\nwarning: something else\nbash 5.2\n'), 'node')).toEqual([
    'bash 5.2',
    'git 1:2.39',
  ])
})

test('proven and unproven pieces, and nothing else', () => {
  const output = 'proven postgresql a vector query\nunproven gcloud not installed \x1b[31m\nnoise\nproven\nproven X y\n'
  expect(readProof(output)).toEqual({
    proven: [{ piece: 'postgresql', how: 'a vector query' }],
    unproven: [{ piece: 'gcloud', why: 'not installed ?[31m' }],
  })
  expect(readProof('proven a b\n'.repeat(1_000)).proven).toHaveLength(100)
})

test('a piece that does not work fails the build', async () => {
  expect(await proveGuest(guest('proven git a commit\n'), 'node', 'minimal')).toMatchObject({ unproven: [] })
  const failure = await proveGuest(guest('unproven redis no answer\n', 1, 'redis-cli: refused'), 'node', 'full').catch(
    error => error.failure,
  )
  expect(failure).toMatchObject({ message: 'proving node: redis: no answer\nredis-cli: refused' })
})

test('the machine that proves an image must have taken its own name', async () => {
  const build = { name: 'node', setup: { profile: 'minimal', extra: [] }, onPhase: () => {} } as const
  const prove = (...answer: Parameters<typeof guest>) => proveMachine(guest(...answer), 'as-base-0000000b', build)
  await expect(prove('0123\nas-base-0000000a\n')).rejects.toThrow(
    'proving node: the machine answered "0123\nas-base-0000000a\n"',
  )
  await expect(prove('', 1, 'cat: /etc/machine-id: No such file')).rejects.toThrow('No such file')
  expect(await prove('0123\nas-base-0000000b\nproven ssh logged in\n')).toMatchObject({ proven: [{ piece: 'ssh' }] })
})
