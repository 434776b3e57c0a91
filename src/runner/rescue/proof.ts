/** Proves a bundle by reading it back with git on this host. */
import { closeSync, openSync, readSync } from 'node:fs'
import { rm, stat, writeFile } from 'node:fs/promises'
import { devNull } from 'node:os'
import { join } from 'node:path'
import { explainBy, fail } from '../../errors.ts'
import type { Run } from '../../exec.ts'
import { type BundleReport, countStashes, isSha256, RESCUED } from './bundle-report.ts'
import type { UnsavedRepository } from './unsaved-work.ts'

const DEADLINE_MS = 10 * 60_000
const MIB = 1024 ** 2

/**
 * What each git process may take to read a bundle of this size. git streams files above `core.bigFileThreshold`, so that an
 * honest bundle needs little: the memory for its index of objects and for a few deltas. Packs unfold a thousandfold.
 */
const limitsFor = (bundleBytes: number) => ({
  memoryBytes: Math.min(256 * MIB + 2 * bundleBytes, 2048 * MIB),
  cpuSeconds: Math.min(60 + bundleBytes / MIB, DEADLINE_MS / 1000),
  // The pack, or its index: 32 bytes for each object.
  fileBytes: bundleBytes + 64 * MIB,
})

const explainGit = explainBy([
  [
    // git 2.39, and the signals of the kernel for processor time and file size
    /out of memory|malloc failed|cannot allocate memory|unable to create thread|SIGXCPU|SIGXFSZ|died of signal 2[45]|file too large/i,
    'unsaved-work',
    null,
    'git on this host would need more memory, processor time or disk space for it than one machine may take',
  ],
])

/** A complete bundle: one with `@filter` may lack objects, and one with `-<id>` lines needs commits that it does not hold. */
const HEADER = /^# v(?:2 git bundle\n|3 git bundle\n(?:@object-format=sha(?:1|256)\n)?)(?=[0-9a-f])/

const readHeader = (file: string): string => {
  const bytes = Buffer.alloc(256)
  const handle = openSync(file, 'r')
  try {
    return bytes.subarray(0, readSync(handle, bytes, 0, bytes.length, 0)).toString('latin1')
  } finally {
    closeSync(handle)
  }
}

/** `bundleBytes`: the size of the bundle that it reads. `maxOutput`: characters. Returns git's standard output. */
export type HostGit = (
  doing: string,
  argv: readonly string[],
  bundleBytes: number,
  maxOutput?: number,
) => Promise<string>

/** Every object stays in its pack: loose objects would be written as large as they unfold. */
const GIT_CONFIG = [
  ...[`core.hooksPath=${devNull}`, 'core.bigFileThreshold=32m', 'core.deltaBaseCacheLimit=32m', 'pack.threads=1'],
  ...['fetch.unpackLimit=1', 'fetch.fsckObjects=false', 'gc.auto=0', 'maintenance.auto=false'],
].flatMap(setting => ['-c', setting])

/**
 * git on this host under limits, with no configuration, hook or protocol that a bundle could use. `left` gives the milliseconds
 * that are left for everything. `more`: environment variables.
 */
export const openHostGit =
  (run: Run, signal: AbortSignal, left: () => number, more: Record<string, string> = {}): HostGit =>
  async (doing, argv, bundleBytes, maxOutput) => {
    const env = {
      GIT_CONFIG_GLOBAL: devNull,
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_TERMINAL_PROMPT: '0',
      GIT_NO_REPLACE_OBJECTS: '1',
      GIT_ALLOW_PROTOCOL: 'file',
      ...more,
    }
    const deadline = Math.min(DEADLINE_MS, left())
    const options = {
      ...{ doing, deadline, signal, env, explain: explainGit, limits: limitsFor(bundleBytes) },
      ...(maxOutput === undefined ? {} : { maxOutput }),
    }
    return (await run('git', [...GIT_CONFIG, ...argv], options)).stdout
  }

const splitLines = (text: string): string[] => text.split('\n').filter(line => line !== '')
const unproven = (reason: string) => fail('unsaved-work', `the bundle from the machine is not proven: ${reason}`)

/** The number of files that differ between the checked-out commit and the saved working tree or index. */
const countChangedFiles = async (
  git: (...argv: string[]) => Promise<string>,
  { refs }: BundleReport,
): Promise<number> => {
  const base = refs.get(`${RESCUED}head`) ?? (await git('hash-object', '-t', 'tree', devNull)).trim()
  const changed = new Set<string>()
  for (const name of ['worktree', 'staged']) {
    const oid = refs.get(RESCUED + name)
    if (oid === undefined) continue
    const names = await git('diff-tree', '-r', '-z', '--name-only', '--no-renames', base, oid)
    for (const name of names.split('\0')) if (name !== '') changed.add(name)
  }
  return changed.size
}

/** The number of commits that no branch, tag or stash holds. */
const countLost = async (git: (...argv: string[]) => Promise<string>): Promise<number> => {
  const held = ['--branches', '--tags', `--glob=${RESCUED}head`, `--glob=${RESCUED}stash-*`]
  return Number(await git('rev-list', '--count', `--glob=${RESCUED}reflog-*`, '--not', ...held))
}

/**
 * Fetches a bundle into an empty repository below `folder`: git hashes every object again (index-pack) and checks that each
 * object a ref needs exists (fsck). The refs must be those that the guest reported, and hold at least the unsaved work that was
 * found. Throws otherwise.
 */
export const proveBundle = async (
  hostGit: HostGit,
  folder: string,
  bundle: string,
  report: BundleReport,
  unsaved: UnsavedRepository,
): Promise<{ commits: number; files: number }> => {
  if (!HEADER.test(readHeader(bundle))) throw unproven('it is not a complete git bundle')
  const proof = join(folder, 'proof')
  const { size } = await stat(bundle)
  const git = (...argv: string[]) => hostGit('reading the bundle back', ['--git-dir', proof, ...argv], size)
  const reported = [...report.refs].map(([name, oid]) => `${oid} ${name}`)
  const requireReported = (lines: string) => {
    // A bundle holds HEAD beside its refs.
    const actual = splitLines(lines).filter(line => !line.endsWith(' HEAD'))
    if (actual.sort().join('\n') !== reported.sort().join('\n'))
      throw unproven('its refs are not those that the machine reported')
  }
  try {
    const format = isSha256(report) ? ['--object-format=sha256'] : []
    const init = ['init', '--quiet', '--bare', '--template=', ...format, proof]
    await hostGit('making a repository to read the bundle back', init, size)
    if (report.shallow.length > 0) await writeFile(join(proof, 'shallow'), `${report.shallow.join('\n')}\n`)
    const quiet = ['--quiet', '--no-tags', '--no-write-fetch-head', '--no-recurse-submodules']
    // Each ref becomes a file: not before it is known how many they are.
    requireReported(await git('bundle', 'list-heads', bundle))
    await git('fetch', ...quiet, bundle, '+refs/*:refs/*')
    await git('fsck', '--connectivity-only', '--no-dangling', '--no-progress')

    requireReported(await git('for-each-ref', '--format=%(objectname) %(refname)'))
    const stashes = countStashes(report)
    if (stashes < unsaved.stashes) throw unproven(`it has ${stashes} of ${unsaved.stashes} stashes`)
    const commits = Number(await git('rev-list', '--count', '--all'))
    if (!(commits >= unsaved.unpushed)) throw unproven(`it has ${commits} of ${unsaved.unpushed} unpushed commits`)
    const { reflog = 0 } = unsaved
    const lost = reflog === 0 ? 0 : await countLost(git)
    if (!(lost >= reflog)) throw unproven(`it has ${lost} of ${reflog} commits of the reflog`)
    const files = await countChangedFiles(git, report)
    const expected = unsaved.uncommitted + unsaved.untracked
    if (files < expected) throw unproven(`it has ${files} of ${expected} changed files`)
    return { commits, files }
  } finally {
    await rm(proof, { recursive: true, force: true })
  }
}
