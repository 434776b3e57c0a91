/** What a build makes of what its machines print. */
import { expect, test } from 'vitest'
import { listContents, proveGuest, proveMachine, readProof, sealGuest, setUpGuest } from '../../base-image/stages.ts'
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

const [BUILDER_ID, PROVER_ID] = ['a'.repeat(32), 'b'.repeat(32)]

test('the machine-id of the machine that becomes an image is known when it is sealed', async () => {
  expect(await sealGuest(guest(`machine-id ${BUILDER_ID}\nsealed\n`), 'node')).toBe(BUILDER_ID)
  await expect(sealGuest(guest('machine-id \nsealed\n'), 'node')).rejects.toThrow('has no machine-id')
})

const identity = (more: Record<string, string> = {}): string =>
  Object.entries({
    'machine-id': PROVER_ID,
    hostname: 'as-base-0000000b',
    'host-keys': '1',
    'login-keys': '1',
    ...more,
  })
    .map(line => `${line.join(' ')}\n`)
    .join('')
const proveWith = (...answer: Parameters<typeof guest>) =>
  proveMachine(
    guest(...answer),
    'as-base-0000000b',
    { name: 'node', setup: { profile: 'minimal', extra: [] }, onPhase: () => {} },
    BUILDER_ID,
  )

test.for([
  ['another name', { hostname: 'as-base-0000000a' }, 'the machine answered "machine-id bbb'],
  ['the machine-id of the image', { 'machine-id': BUILDER_ID }, 'the machine-id of the machine that became the image'],
  ['no machine-id', { 'machine-id': 'uninitialized' }, 'has no machine-id'],
  ['a host key of the image', { 'host-keys': '2' }, 'has 2 host keys'],
  ['a login key of the image', { 'login-keys': '2' }, 'lets 2 keys log in'],
] as const)('a machine that proves an image and has %s fails the build', ([, more, reason]) =>
  expect(proveWith(identity(more))).rejects.toThrow(reason),
)

test('one that is only itself proves it', async () => {
  await expect(proveWith('', 1, 'sh: hostname: not found')).rejects.toThrow('not found')
  expect(await proveWith(`${identity()}proven ssh logged in\n`)).toMatchObject({ proven: [{ piece: 'ssh' }] })
})
