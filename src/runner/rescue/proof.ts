/** Proves a bundle by reading it back with git on this host. */
import { closeSync, openSync, readSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { devNull } from 'node:os'
import { join } from 'node:path'
import { fail } from '../../errors.ts'
import type { Run } from '../../exec.ts'
import { type BundleReport, countStashes, isSha256, RESCUED } from './bundle-report.ts'
import type { UnsavedRepository } from './unsaved-work.ts'

const DEADLINE_MS = 10 * 60_000

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

export type HostGit = (doing: string, argv: readonly string[]) => Promise<string>

/** git on this host, with no configuration, hook or protocol that a bundle could use. Returns its standard output. */
export const openHostGit =
  (run: Run, signal: AbortSignal): HostGit =>
  async (doing, argv) => {
    const config = [
      ...['-c', `core.hooksPath=${devNull}`, '-c', 'core.bigFileThreshold=32m', '-c', 'gc.auto=0'],
      ...['-c', 'maintenance.auto=false', '-c', 'fetch.fsckObjects=false'],
    ]
    const env = {
      GIT_CONFIG_GLOBAL: devNull,
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_TERMINAL_PROMPT: '0',
      GIT_NO_REPLACE_OBJECTS: '1',
      GIT_ALLOW_PROTOCOL: 'file',
    }
    return (await run('git', [...config, ...argv], { doing, deadline: DEADLINE_MS, signal, env })).stdout
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
  const git = (...argv: string[]) => hostGit('reading the bundle back', ['--git-dir', proof, ...argv])
  try {
    await hostGit('making a repository to read the bundle back', [
      ...['init', '--quiet', '--bare', '--template=', ...(isSha256(report) ? ['--object-format=sha256'] : []), proof],
    ])
    if (report.shallow.length > 0) await writeFile(join(proof, 'shallow'), `${report.shallow.join('\n')}\n`)
    const quiet = ['--quiet', '--no-tags', '--no-write-fetch-head', '--no-recurse-submodules']
    await git('fetch', ...quiet, bundle, '+refs/*:refs/*')
    await git('fsck', '--connectivity-only', '--no-dangling', '--no-progress')

    const actual = splitLines(await git('for-each-ref', '--format=%(objectname) %(refname)'))
    const reported = [...report.refs].map(([name, oid]) => `${oid} ${name}`)
    if (actual.sort().join('\n') !== reported.sort().join('\n'))
      throw unproven('its refs are not those that the machine reported')
    const stashes = countStashes(report)
    if (stashes < unsaved.stashes) throw unproven(`it has ${stashes} of ${unsaved.stashes} stashes`)
    const commits = Number(await git('rev-list', '--count', '--all'))
    if (!(commits >= unsaved.unpushed)) throw unproven(`it has ${commits} of ${unsaved.unpushed} unpushed commits`)
    const files = await countChangedFiles(git, report)
    const expected = unsaved.uncommitted + unsaved.untracked
    if (files < expected) throw unproven(`it has ${files} of ${expected} changed files`)
    return { commits, files }
  } finally {
    await rm(proof, { recursive: true, force: true })
  }
}
