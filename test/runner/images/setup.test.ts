/** What goes into an image, as the command line says it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isFailure } from '../../../src/errors.ts'
import { readChecksums, readSetup } from '../../../src/runner/images/setup.ts'

const HEX = 'ab'.repeat(32)
let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-setup-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const read = (skip: string | null, environment: Record<string, string> = {}) =>
  readSetup({ folder: { path: folder, required: false }, skip, checksums: { node: HEX }, environment })
const failureOf = (work: () => unknown) => {
  try {
    return work()
  } catch (error) {
    return isFailure(error) ? error.failure : error
  }
}

test.for<[string, string | null, unknown]>([
  ['none', null, { image: null, files: {} }],
  ["the image's", HEX.toUpperCase(), { image: HEX, files: {} }],
  ['of files and of the image', `node=${HEX},${HEX},rustup=${HEX}`, { image: HEX, files: { node: HEX, rustup: HEX } }],
])('checksums: %s', ([, text, expected]) => expect(readChecksums(text)).toEqual(expected))

test.for(['', 'abc', `${HEX},${HEX}`, `${HEX}0`, `a b=${HEX}`, `node=${HEX};reboot`])('no checksum: %j', text =>
  expect(failureOf(() => readChecksums(text))).toMatchObject({ kind: 'usage' }),
)

test('own steps, what is left out, and mirrors of the environment', () => {
  writeFileSync(join(folder, '50-elixir.sh'), 'true\n', { mode: 0o600 })
  const environment = { SWARM_APT_MIRROR: 'http://mirror/debian', SWARM_NODE_URL: '', SWARM_OTHER: 'x', PATH: '/bin' }
  expect(read('gcloud,50-elixir', environment)).toEqual({
    extra: [{ name: '50-elixir', text: 'true\n' }],
    skip: ['gcloud', '50-elixir'],
    sha256: { node: HEX },
    mirrors: { SWARM_APT_MIRROR: 'http://mirror/debian' },
  })
})

test('a step that there is not, is wrong usage with those that there are', () =>
  expect(failureOf(() => read('gclud'))).toMatchObject({
    kind: 'usage',
    message: '--skip: there is no step "gclud"',
    remedy: expect.stringContaining('gcloud, pubsub'),
  }))

test('an own step with the name of one of ours is refused before anything boots', () => {
  writeFileSync(join(folder, 'redis.sh'), 'true\n', { mode: 0o600 })
  expect(failureOf(() => read(null))).toMatchObject({ message: expect.stringContaining('redis is the name of a step') })
})
