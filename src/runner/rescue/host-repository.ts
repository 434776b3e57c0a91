/**
 * A repository on this host, made of a bundle that a machine sent. The bundle is hostile: git checks each object (fsck), runs no
 * hook and no filter, follows no submodule, reads no configuration of the bundle's, and writes nothing outside its folder.
 */
import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fail } from '../../errors.ts'
import type { NoteEntry } from '../../schema/rescue-note.ts'
import { RESCUED } from './bundle-report.ts'
import type { HostGit } from './proof.ts'

const MIB = 1024 ** 2
const KEPT_FREE_BYTES = 1024 * MIB
/** Characters of the list of all files: about half a million files. */
const MAX_LIST = 64 * MIB

/** What git reports of old and honest history; everything else that it reports refuses the bundle. */
const HARMLESS = [
  ...['zeroPaddedFilemode', 'zeroPaddedDate', 'badTimezone', 'badDate', 'badDateOverflow', 'missingSpaceBeforeDate'],
  ...['missingSpaceBeforeEmail', 'missingEmail', 'badEmail', 'badName', 'missingNameBeforeEmail', 'badFilemode'],
  ...['missingTaggerEntry', 'badTagName', 'nulInCommit'],
]
const SETTINGS = [
  ...['core.symlinks=false', 'core.protectHFS=true', 'core.protectNTFS=true'],
  ...['submodule.recurse=false', 'core.logAllRefUpdates=true', 'advice.detachedHead=false'],
  ...['user.name=agent-swarm', 'user.email=agent-swarm@localhost'],
  ...HARMLESS.map(message => `fsck.${message}=ignore`),
].flatMap(setting => ['-c', setting])

/** git in one repository. `bytes`: what it may read or write. */
export type RepositoryGit = (doing: string, argv: readonly string[], bytes?: number) => Promise<string>
export const gitIn =
  (git: HostGit, folder: string, bundleBytes: number): RepositoryGit =>
  (doing, argv, bytes = bundleBytes) =>
    git(doing, [...SETTINGS, '-C', folder, ...argv], bytes, MAX_LIST)

const SHALLOW = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/

/**
 * Makes the new repository `folder` of all refs of the bundle, without files. `git`: with the bundle's size as its limit. Stashes
 * and other work that no branch holds have the names that they have in the bundle.
 */
export const fetchBundle = async (
  git: HostGit,
  folder: string,
  bundle: string,
  { refs, bytes }: Pick<NoteEntry, 'refs' | 'bytes'>,
): Promise<RepositoryGit> => {
  const isSha256 = Object.values(refs).some(oid => oid.length === 64)
  const format = isSha256 ? ['--object-format=sha256'] : []
  await git('making a repository', ['init', '--quiet', '--template=', ...format, folder], bytes)
  const repository = gitIn(git, folder, bytes)
  const shallow = bundle.replace(/bundle$/, 'shallow')
  if (existsSync(shallow)) {
    const lines = (await readFile(shallow, 'utf8')).trimEnd().split('\n')
    if (!lines.every(line => SHALLOW.test(line)))
      throw fail('unsaved-work', `reading ${shallow}: it holds other things than commits`)
    await writeFile(join(folder, '.git', 'shallow'), `${lines.join('\n')}\n`)
  }
  await repository('checking the bundle', ['bundle', 'verify', '--quiet', bundle])
  const quiet = ['--quiet', '--no-tags', '--no-write-fetch-head', '--no-recurse-submodules', '--update-head-ok']
  // Neither replaced objects, which would change what git shows, nor the stash, which needs its log.
  const wanted = ['+refs/*:refs/*', '^refs/replace/*', '^refs/stash']
  await repository('reading the bundle', ['fetch', ...quiet, bundle, ...wanted])
  // A fetch from a bundle checks no object before git 2.46.
  await repository('checking its objects', ['fsck', '--strict', '--no-reflogs', '--no-dangling', '--no-progress'])
  return repository
}

/** The commit of a ref; null when there is none. */
export const commitOf = async (git: RepositoryGit, ref: string): Promise<string | null> =>
  (await git('looking for a ref', ['for-each-ref', '--format=%(objectname)', ref])).trim() || null

/** Refs and their commits. */
export const refsOf = async (git: RepositoryGit, prefix: string): Promise<Map<string, string>> =>
  new Map(
    (await git('listing refs', ['for-each-ref', '--format=%(objectname) %(refname)', prefix]))
      .split('\n')
      .filter(line => line !== '')
      .map(line => [line.slice(line.indexOf(' ') + 1), line.slice(0, line.indexOf(' '))]),
  )

/** The size of all files of a tree, and its symbolic links. Fails when the disk has no room for them. */
const measure = async (git: RepositoryGit, folder: string, tree: string): Promise<{ bytes: number; links: number }> => {
  let bytes = 0
  let links = 0
  for (const line of (await git('measuring its files', ['ls-tree', '-r', '-l', '-z', tree])).split('\0')) {
    const [mode = '', , , size = '0'] = line.slice(0, line.indexOf('\t')).split(/ +/)
    if (mode === '120000') links += 1
    bytes += Number.parseInt(size, 10) || 0
  }
  const disk = await statfs(folder)
  if (bytes + KEPT_FREE_BYTES > disk.bavail * disk.bsize)
    throw fail(
      'disk-full',
      `the disk of ${folder} has no room for ${bytes} bytes of files`,
      'Free disk space and try again.',
    )
  return { bytes, links }
}

/**
 * Writes the files as they were, and the index. A symbolic link becomes a file that holds its target. Returns how many there are.
 */
export const writeFiles = async (git: RepositoryGit, folder: string): Promise<number> => {
  const [head, worktree, staged] = await Promise.all(
    ['head', 'worktree', 'staged'].map(part => commitOf(git, `${RESCUED}${part}`)),
  )
  const files = worktree ?? head ?? null
  const index = staged ?? head ?? null
  let links = 0
  if (files !== null) {
    const measured = await measure(git, folder, files)
    links = measured.links
    const bytes = measured.bytes + 64 * MIB
    if (links > 0) await git('configuring it', ['config', 'core.symlinks', 'false'])
    // As they were on disk: the attributes of the tree convert nothing.
    const info = join(folder, '.git', 'info')
    await mkdir(info)
    await writeFile(join(info, 'attributes'), '* -text -ident -filter -working-tree-encoding\n')
    await git('writing its files', ['read-tree', '-u', '--reset', files], bytes)
    await rm(info, { recursive: true })
  }
  if (index !== files || index === null)
    await git('writing the index', ['read-tree', ...(index === null ? ['--empty'] : [index])])
  return links
}
