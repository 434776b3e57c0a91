/** Brings rescued work back into a folder of this host: one repository for each bundle, with its branches, stashes and changes. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import { fail, failureOf } from '../../errors.ts'
import type { Run } from '../../exec.ts'
import { branchName } from '../../schema/basics.ts'
import type { rescueNote } from '../../schema/rescue-note.ts'
import { countStashes, RESCUED } from './bundle-report.ts'
import { slugOf } from './folder.ts'
import { commitOf, fetchBundle, type RepositoryGit, refsOf, writeFiles } from './host-repository.ts'
import { readRescued } from './list.ts'
import { openHostGit } from './proof.ts'

const DEADLINE_MS = 60 * 60_000
const MAX_MESSAGE = 200

export type RestoreTools = { home: string; run: Run; signal: AbortSignal; onPhase: (phase: string) => void }
export type NotedRepository = v.InferOutput<typeof rescueNote>['repositories'][number]

/** Milliseconds that are left; throws when none are. */
export const openDeadline = (): (() => number) => {
  const until = performance.now() + DEADLINE_MS
  return () => {
    const left = until - performance.now()
    if (left > 0) return left
    throw fail('timeout', `restoring took more than ${DEADLINE_MS / 60_000} minutes`)
  }
}

/** The branch that was checked out. Earlier notes do not name it: then the first one on the checked-out commit. */
const checkedOut = (
  { branch }: NotedRepository,
  head: string | null,
  branches: ReadonlyMap<string, string>,
): string | null => {
  if (branch !== undefined) return branch
  const [ref] = [...branches].find(([, commit]) => commit === head) ?? []
  return ref?.slice('refs/heads/'.length) ?? null
}

/** HEAD as it was: a branch, which may have no commit yet, or a commit. */
const setHead = async (git: RepositoryGit, repository: NotedRepository): Promise<void> => {
  const head = await commitOf(git, `${RESCUED}head`)
  const branches = await refsOf(git, 'refs/heads')
  const branch = checkedOut(repository, head, branches)
  const isThere =
    branch !== null && v.is(branchName, branch) && branches.get(`refs/heads/${branch}`) === (head ?? undefined)
  if (isThere) await git('checking out its branch', ['symbolic-ref', 'HEAD', `refs/heads/${branch}`])
  else if (head !== null) await git('checking out its commit', ['update-ref', '--no-deref', 'HEAD', head])
}

/** The oldest first, which restores their order. */
const storeStashes = async (git: RepositoryGit, repository: NotedRepository): Promise<void> => {
  const count = countStashes({ refs: await refsOf(git, RESCUED) })
  for (let n = count - 1; n >= 0; n -= 1) {
    const stash = await commitOf(git, `${RESCUED}stash-${n}`)
    if (stash === null) throw fail('unsaved-work', `${repository.path}: its stash ${n} is not in the bundle`)
    const subject = await git('reading a stash', ['log', '-1', '--format=%s', stash])
    const message =
      subject
        .replaceAll(/[\p{Cc}\p{Cf}]/gu, ' ')
        .trim()
        .slice(0, MAX_MESSAGE) || `stash ${n}`
    await git('storing a stash', ['stash', 'store', `--message=${message}`, stash])
  }
}

export type RestoredRepository = {
  /** In the machine. */
  path: string
  folder: string
  /** Symbolic links that are plain files. */
  links: number
}

const restoreRepository = async (
  { run, signal, onPhase }: RestoreTools,
  left: () => number,
  from: string,
  repository: NotedRepository,
  target: string,
): Promise<RestoredRepository> => {
  onPhase(`restoring ${repository.path}`)
  const unfinished = `${target}.${randomBytes(4).toString('hex')}.new`
  await mkdir(unfinished, { mode: 0o700 })
  try {
    const git = await fetchBundle(openHostGit(run, signal, left), unfinished, join(from, repository.bundle), repository)
    await setHead(git, repository)
    const links = await writeFiles(git, unfinished)
    await storeStashes(git, repository)
    requireFree(target)
    await rename(unfinished, target)
    return { path: repository.path, folder: target, links }
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true })
    const { kind, message, remedy } = failureOf(error, 'restoring it')
    throw fail(
      kind,
      `restoring ${repository.path}: ${message}`,
      remedy ?? `Its bundle is kept: ${join(from, repository.bundle)}`,
      error,
    )
  }
}

const requireFree = (target: string): void => {
  if (existsSync(target))
    throw fail(
      'already-exists',
      `restoring into ${target}: it exists, and nothing is overwritten`,
      'Name another folder.',
    )
}

/** Each repository in a new folder below `into`, named after its folder in the machine. */
export const restoreIntoFolder = async (
  tools: RestoreTools,
  name: string,
  into: string,
): Promise<RestoredRepository[]> => {
  const { folder, note } = await readRescued(tools.home, name)
  const taken = new Set<string>()
  const targets = note.repositories.map(repository => {
    const slug = slugOf(repository.path)
    const part = taken.has(slug) ? repository.bundle.replace(/\.bundle$/, '') : slug
    taken.add(part)
    return { repository, target: join(into, part) }
  })
  for (const { target } of targets) requireFree(target)
  await mkdir(into, { recursive: true })
  const left = openDeadline()
  const restored: RestoredRepository[] = []
  for (const { repository, target } of targets)
    restored.push(await restoreRepository(tools, left, folder, repository, target))
  return restored
}
