/** What a hostile guest may send, proven with git on this host. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { devNull, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { openRun } from '../../../src/exec.ts'
import { rescue } from '../../../src/runner/rescue/rescue.ts'
import type { UnsavedRepository } from '../../../src/runner/rescue/unsaved-work.ts'

const unsaved = { line: 1, path: '/home/agent/shop', uncommitted: 0, untracked: 1, stashes: 0, unpushed: 0 }
const machine = { ticket: 'DROP-1', provider: 'synthetic', vmId: 'as-drop-1-00000001', baseImage: 'base' }

/** The bundle and the report of an honest guest: one commit, and one untracked file. */
const makeBundle = (folder: string): { bundle: Buffer; report: string } => {
  const env = { PATH: process.env.PATH, HOME: folder, GIT_CONFIG_GLOBAL: devNull, GIT_CONFIG_NOSYSTEM: '1' }
  const git = (...argv: string[]) =>
    execFileSync('git', ['-c', 'user.name=n', '-c', 'user.email=e', ...argv], { cwd: folder, env })
      .toString()
      .trim()
  git('init', '-q', '-b', 'main')
  git('commit', '-q', '--allow-empty', '-m', 'one')
  git('update-ref', 'refs/agent-swarm/rescued/head', 'HEAD')
  writeFileSync(join(folder, 'file'), 'x\n')
  git('add', 'file')
  git('update-ref', 'refs/agent-swarm/rescued/worktree', git('commit-tree', '-p', 'HEAD', '-m', 'w', git('write-tree')))
  const file = join(folder, 'out.bundle')
  git('bundle', 'create', '-q', file, '--all')
  const refs = git('for-each-ref', '--format=ref\t%(objectname)\t%(refname)')
  return { bundle: readFileSync(file), report: `path\t${unsaved.path}\n${refs}\nend\n` }
}

let honest: ReturnType<typeof makeBundle>
beforeAll(() => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
  honest = makeBundle(folder)
  rmSync(folder, { recursive: true })
})

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))
const rescued = () => (existsSync(join(home, 'rescued')) ? readdirSync(join(home, 'rescued')) : [])

const save = (
  bundle: Buffer | string,
  report: string,
  repository: UnsavedRepository = unsaved,
  run = openRun(process.env),
) =>
  rescue({ home, run, clock: () => new Date('2026-11-24T10:00:00Z') }, machine, [repository], {
    stream: async (_script, { file }) => {
      writeFileSync(file, bundle, { mode: 0o600 })
      return { stderr: report }
    },
    lookAgain: async () => ({ known: true, repositories: [] }),
    by: { via: 'cli', who: 'dev' },
    signal: new AbortController().signal,
    onPhase: () => {},
  })
const noteIn = (folder: string) => JSON.parse(readFileSync(join(folder, 'rescued.json'), 'utf8'))

test('an honest bundle is saved with a note, for its owner alone', async () => {
  const folder = await save(honest.bundle, honest.report)
  expect(folder).toBe(join(home, 'rescued', 'DROP-1-20261124-100000'))
  expect(readdirSync(folder)).toEqual(['1-shop.bundle', 'rescued.json'])
  const modes = [folder, ...readdirSync(folder).map(name => join(folder, name))].map(
    path => statSync(path).mode & 0o777,
  )
  expect(modes).toEqual([0o700, 0o600, 0o600])
  const { line: _, ...work } = unsaved
  const { how, ...note } = noteIn(folder)
  expect(note).toMatchObject({
    ticket: 'DROP-1',
    savedAt: '2026-11-24T10:00:00.000Z',
    by: { via: 'cli', who: 'dev' },
    machine: { provider: 'synthetic', vmId: 'as-drop-1-00000001', baseImage: 'base' },
    repositories: [
      {
        ...work,
        commits: 2,
        files: 1,
        bundle: '1-shop.bundle',
        bytes: honest.bundle.length,
        getBack: expect.any(Array),
      },
    ],
  })
  expect(how).toContain('refs/agent-swarm/rescued/worktree')
})

test('a second rescue in the same second has a folder of its own', async () => {
  await save(honest.bundle, honest.report)
  expect(await save(honest.bundle, honest.report)).toMatch(/DROP-1-20261124-100000-2$/)
})

const HEADER = '# v2 git bundle\n'
/** The bundle with another header. The rest is binary. */
const withHeader = (bundle: Buffer, header: string) =>
  Buffer.concat([Buffer.from(header), bundle.subarray(HEADER.length)])
const withFlippedBit = (bundle: Buffer) => {
  const copy = Buffer.from(bundle)
  copy[copy.length - 30] = (copy[copy.length - 30] ?? 0) ^ 1
  return copy
}
const ONES = '1'.repeat(40)

type Lie = Partial<{ bundle: (honest: Buffer) => Buffer | string; report: (honest: string) => string; more: object }>
test.for<[string, Lie, string]>([
  ['nothing', { bundle: () => '' }, 'not a complete git bundle'],
  ['not a bundle', { bundle: () => 'hello' }, 'not a complete git bundle'],
  ['a bundle that was cut off', { bundle: bundle => bundle.subarray(0, -40) }, 'reading the bundle back'],
  ['a bundle with a flipped bit', { bundle: withFlippedBit }, 'reading the bundle back'],
  [
    'a bundle that needs another commit',
    { bundle: bundle => withHeader(bundle, `${HEADER}-${ONES} x\n`) },
    'not a complete git bundle',
  ],
  [
    'a bundle that may lack objects',
    { bundle: bundle => withHeader(bundle, '# v3 git bundle\n@filter=blob:none\n') },
    'not a complete git bundle',
  ],
  ['a path instead of a bundle', { bundle: () => tmpdir() }, 'not a complete git bundle'],
  ['a ref that the bundle lacks', { report: text => text.replace('heads/main', 'heads/other') }, 'its refs are not'],
  [
    'fewer refs than the bundle has',
    { report: text => text.replace(/^ref\t.*heads\/main\n/m, '') },
    'its refs are not',
  ],
  [
    'a commit that the bundle lacks',
    { report: text => text.replace(/^ref\t[0-9a-f]{40}/m, `ref\t${ONES}`) },
    'its refs are not',
  ],
  ['an incomplete report', { report: text => text.replace(/end\n$/, '') }, 'incomplete'],
  ['fewer files than were found', { more: { untracked: 2 } }, 'it has 1 of 2 changed files'],
  ['fewer stashes than were found', { more: { stashes: 1 } }, 'it has 0 of 1 stashes'],
  ['fewer commits than were found', { more: { unpushed: 100 } }, 'it has 2 of 100 unpushed commits'],
])('refused, and nothing is left: %s', async ([, { bundle, report, more }, message]) => {
  const sent = bundle?.(honest.bundle) ?? honest.bundle
  await expect(save(sent, report?.(honest.report) ?? honest.report, { ...unsaved, ...more })).rejects.toMatchObject({
    failure: { message: expect.stringMatching(new RegExp(`^/home/agent/shop: .*${message}`)) },
  })
  expect(rescued()).toEqual([])
})

test.for(['/home/../../..', '/x/$(reboot);`id`', "/x/a'b c", '/', '/x/-rf'])(
  'the path %j becomes a plain file name, and no part of a command',
  async path => {
    const folder = await save(
      honest.bundle,
      honest.report.replace(unsaved.path, () => path),
      { ...unsaved, path },
    )
    const [{ bundle, getBack }] = noteIn(folder).repositories
    expect(bundle).toMatch(/^1-[A-Za-z0-9_][A-Za-z0-9._-]*\.bundle$/)
    expect(existsSync(join(folder, bundle))).toBe(true)
    expect(getBack.join('\n')).not.toMatch(/[$`;]|reboot\)/)
    expect(rescued()).toEqual(['DROP-1-20261124-100000'])
  },
)

test('without git on this host, nothing is transferred', async () => {
  const run = openRun({ PATH: '/nowhere' })
  await expect(save('the guest must not be asked', '', unsaved, run)).rejects.toMatchObject({
    failure: { kind: 'provider-missing', message: expect.stringContaining('git is not installed') },
  })
  expect(rescued()).toEqual([])
})
