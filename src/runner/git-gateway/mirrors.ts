/** Bare mirrors of the repositories that machines use. A process changes one under its lock, which other processes see too. */
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { readdir, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Clock, isWithin } from '../../clock.ts'
import { allow, fail, isFailure } from '../../errors.ts'
import { lockFile } from '../../lock-file.ts'
import type { Log } from '../../log.ts'
import { waitForLockFile } from '../../registry/lock.ts'
import { bytesOf, filesIn } from '../measure.ts'
import { type Git, guestLimits, hooksFolder, mirrorsFolder } from './git.ts'
import { writeHook } from './pre-receive.ts'
import { openQuarantines } from './quarantines.ts'
import { canonicalRepository } from './route.ts'
import type { GitToken } from './tokens.ts'

const MIB = 1024 ** 2
const FRESH_MS = 1_000
const FETCH_DEADLINE_MS = 30 * 60_000
/** A mirror that no machine uses is kept for a while: a machine that is being created may be about to. */
const KEPT_MS = 10 * 60_000
/** Longer than any request takes. */
const LEFTOVER_MS = 60 * 60_000
/** A process that updates refs holds its locks for milliseconds. */
const STALE_LOCK_MS = 60_000
const MAX_PACKS = 50
const HEAD_COPY = 'refs/agent-swarm/head'
/** Its time: when the mirror was last brought up to date. Without it the mirror was never complete. */
const MARK = 'agent-swarm-updated'

export type Remote = { url: string; token: GitToken | null }
export type MirrorContext = {
  home: string
  git: Git
  clock: Clock
  log: Log
  mirrorBytes(repo: string): number
  /** Under the lock, when the mirror is up to date. */
  onUpdated(repo: string): Promise<void>
}
type Context = MirrorContext & { signal: AbortSignal; quarantines: ReturnType<typeof openQuarantines> }

export const mirrorPath = (home: string, repo: string) => join(mirrorsFolder(home), `${repo}.git`)
const lockMirror = ({ home, signal }: Pick<Context, 'home' | 'signal'>, repo: string): Promise<() => void> =>
  waitForLockFile(`${mirrorPath(home, repo)}.lock`, `the mirror of ${repo}`, signal)

/** When the mirror was last up to date; null when it never was. */
const updatedAt = (mirror: string): Date | null =>
  statSync(join(mirror, MARK), { throwIfNoEntry: false })?.mtime ?? null

/** Removes the locks of refs that a killed git left. */
const removeStaleLocks = async (mirror: string, now: number): Promise<void> => {
  const top = ['packed-refs.lock', 'HEAD.lock', 'shallow.lock', 'config.lock'].map(name => join(mirror, name))
  const times = top.map(file => ({ file, changedAt: statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? now }))
  for (const { file, changedAt } of [...times, ...(await filesIn(join(mirror, 'refs')))])
    if (file.endsWith('.lock') && !isWithin(changedAt, STALE_LOCK_MS, now)) await rm(file, { force: true })
}

/** Removes the objects of pushes and fetches that were killed. */
const removeLeftovers = async (mirror: string, now: number): Promise<void> => {
  for (const [folder, name] of [
    [join(mirror, 'objects'), /^(?:tmp_objdir-|incoming-)/],
    [join(mirror, 'objects', 'pack'), /^(?:tmp_|\.tmp-)/],
  ] as const)
    for (const entry of await readdir(folder).catch(() => []))
      if (name.test(entry) && !isWithin((await stat(join(folder, entry))).mtimeMs, LEFTOVER_MS, now))
        await rm(join(folder, entry), { recursive: true, force: true })
}

const readHead = (mirror: string): string | null =>
  readFileSync(join(mirror, 'HEAD'), 'utf8').match(/^ref: (refs\/heads\/\S+)/)?.[1] ?? null

/** HEAD follows the remote's. The remote is asked only when the two differ in their commit. */
const followHead = async ({ git }: Context, repo: string, mirror: string, remote: Remote): Promise<void> => {
  const same = await git('reading HEAD', mirror, ['rev-parse', 'HEAD', HEAD_COPY], { answers: [128] })
  const [ours, theirs] = same.stdout.split('\n')
  if (same.exitCode === 0 && ours === theirs) return
  const argv = ['ls-remote', '--symref', '--', remote.url, 'HEAD']
  const { stdout } = await git(`asking which branch of ${repo} is its default`, mirror, argv, { remote })
  const branch = stdout.match(/^ref: (refs\/heads\/\S+)\tHEAD$/m)?.[1]
  if (branch !== undefined && branch !== readHead(mirror))
    await git('setting HEAD', mirror, ['symbolic-ref', 'HEAD', branch])
}

/** Fetches branches and tags. Pull requests' refs are left out: they are most of a large repository. */
const fetchInto = async (context: Context, repo: string, mirror: string, remote: Remote): Promise<void> => {
  const { git, signal, mirrorBytes } = context
  const limits = { ...guestLimits(mirrorBytes(repo)), memoryBytes: 2048 * MIB, cpuSeconds: 1_800 }
  const options = { remote, signal, limits, deadline: FETCH_DEADLINE_MS }
  const fetch = (...more: string[]) =>
    git(
      `updating the mirror of ${repo}`,
      mirror,
      [
        ...['fetch', '--quiet', '--prune', '--no-tags', '--no-write-fetch-head', '--no-recurse-submodules', '--'],
        ...[remote.url, '+refs/heads/*:refs/heads/*', '+refs/tags/*:refs/tags/*', ...more],
      ],
      options,
    )
  try {
    await fetch(`+HEAD:${HEAD_COPY}`)
  } catch (error) {
    // An empty repository has no HEAD.
    if (!(error instanceof Error && /couldn't find remote ref HEAD/.test(error.message))) throw error
    await fetch()
  }
  await followHead(context, repo, mirror, remote)
}

const tooLarge = (repo: string, limit: number) =>
  fail(
    'capacity',
    `the mirror of ${repo} would be larger than ${Math.round(limit / MIB)} MiB`,
    'Raise the limit for its mirror on the host of the runner, or clone outside of the gateway.',
  )

/** Under the lock. */
const bringUpToDate = async (context: Context, repo: string, remote: Remote): Promise<void> => {
  const { home, git, clock, mirrorBytes, onUpdated } = context
  const mirror = mirrorPath(home, repo)
  const isNew = updatedAt(mirror) === null
  if (isNew) {
    mkdirSync(mirror, { recursive: true, mode: 0o700 })
    await git('making a mirror', mirror, ['init', '--quiet', '--bare', '--template=', mirror])
  } else await removeStaleLocks(mirror, clock())
  try {
    await fetchInto(context, repo, mirror, remote)
    if (isNew) await git('packing refs', mirror, ['pack-refs', '--all'])
    const bytes = await bytesOf(join(mirror, 'objects'))
    if (bytes > mirrorBytes(repo)) throw tooLarge(repo, mirrorBytes(repo))
  } catch (error) {
    const isTooLarge = isFailure(error) && error.failure.kind === 'capacity'
    // The next update begins anew. What rewritten pushes left is gone then.
    if (isTooLarge) await rm(mirror, { recursive: true, force: true })
    throw isTooLarge ? tooLarge(repo, mirrorBytes(repo)) : error
  }
  writeFileSync(join(mirror, MARK), '', { mode: 0o600 })
  await onUpdated(repo)
}

/** Mirrors on disk: `owner/name`. */
export const listMirrors = async (home: string): Promise<string[]> => {
  const folder = mirrorsFolder(home)
  const owners = (await readdir(folder).catch(() => [])).filter(name => !name.startsWith('.'))
  const names = await Promise.all(
    owners.map(async owner => (await readdir(join(folder, owner)).catch(() => [])).map(name => `${owner}/${name}`)),
  )
  return names.flat().flatMap(name => (name.endsWith('.git') ? (canonicalRepository(name.slice(0, -4)) ?? []) : []))
}

const isOld = (mirror: string, now: number): boolean => {
  const last = updatedAt(mirror) ?? statSync(mirror, { throwIfNoEntry: false })?.mtime
  return last === undefined || !isWithin(last.getTime(), KEPT_MS, now)
}
/** One that is removed by half is made anew, because it was never complete without its mark. */
const removeFiles = async (mirror: string): Promise<void> => {
  await rm(join(mirror, MARK), { force: true })
  await rm(mirror, { recursive: true, force: true })
}
/** False: it is in use, or was just now. `now`: epoch ms. */
export const removeMirror = async (
  home: string,
  repo: string,
  { now, isUsed }: { now: number; isUsed: () => boolean },
): Promise<boolean> => {
  const mirror = mirrorPath(home, repo)
  const release = lockFile(`${mirror}.lock`)
  if (release === null) return false
  try {
    if (isUsed() || !isOld(mirror, now)) return false
    await removeFiles(mirror)
    return true
  } finally {
    release()
  }
}

const sweepMirror = async (context: Context, repo: string, isUsed: boolean): Promise<void> => {
  const { home, git, clock, log, quarantines } = context
  const mirror = mirrorPath(home, repo)
  if (!isUsed && isOld(mirror, clock())) {
    await removeFiles(mirror)
    log.info({ repo }, 'the mirror was removed: no machine uses it')
    return
  }
  await removeStaleLocks(mirror, clock())
  await quarantines.removeDead(mirror)
  await removeLeftovers(mirror, clock())
  const packs = (await readdir(join(mirror, 'objects', 'pack')).catch(() => [])).filter(name => name.endsWith('.pack'))
  if (packs.length <= MAX_PACKS) return
  const limits = { ...guestLimits(context.mirrorBytes(repo)), cpuSeconds: 1_800 }
  await git(`packing the mirror of ${repo}`, mirror, ['gc', '--quiet', '--prune=1.day.ago'], {
    ...{ limits, deadline: FETCH_DEADLINE_MS, signal: context.signal },
  })
}

export const openMirrors = (given: MirrorContext, signal: AbortSignal) => {
  const quarantines = openQuarantines()
  const context: Context = { ...given, signal, quarantines }
  const { home } = context
  const underWay = new Map<string, Promise<void>>()
  const freshUntil = new Map<string, number>()
  writeHook(hooksFolder(home))

  const updateNow = async (repo: string, remote: Remote): Promise<void> => {
    mkdirSync(dirname(mirrorPath(home, repo)), { recursive: true, mode: 0o700 })
    const release = await lockMirror(context, repo)
    try {
      await bringUpToDate(context, repo, remote)
      freshUntil.set(repo, performance.now() + FRESH_MS)
    } finally {
      release()
    }
  }
  const update = async (repo: string, remote: Remote): Promise<void> => {
    if (existsSync(mirrorPath(home, repo)) && (freshUntil.get(repo) ?? 0) > performance.now()) return
    const other = underWay.get(repo)
    // The other one may lack rights that this one has.
    const shared = await other?.then(() => true).catch(allow('permission', 'refused'))
    if (shared) return
    const mine = updateNow(repo, remote)
    underWay.set(repo, mine)
    await mine.finally(() => underWay.get(repo) === mine && underWay.delete(repo))
  }
  return {
    path: (repo: string) => mirrorPath(home, repo),
    updatedAt: (repo: string) => updatedAt(mirrorPath(home, repo)),
    defaultBranch: (repo: string) => readHead(mirrorPath(home, repo))?.slice('refs/heads/'.length) ?? null,
    /** Brings the mirror up to date, at most once a second. Several callers share one fetch. */
    update,
    /** The next update asks the remote, however short ago it was asked. */
    expire: (repo: string) => void freshUntil.delete(repo),
    /** Returns how to release the lock. Nobody updates the mirror meanwhile. `signal` ends the wait for it. */
    lock: (repo: string, signal: AbortSignal) =>
      lockMirror({ home, signal: AbortSignal.any([context.signal, signal]) }, repo),
    /** Call it before git reads a push. Returns what to call when that git has ended: it removes what pushes left. */
    beginPush: (repo: string): (() => Promise<void>) => quarantines.begin(mirrorPath(home, repo)),
    /** Removes mirrors that no machine uses, and what killed processes left. */
    sweep: async (isUsed: (repo: string) => Promise<boolean>): Promise<void> => {
      for (const repo of await listMirrors(home)) {
        const used = await isUsed(repo)
        const release = await lockMirror(context, repo)
        await sweepMirror(context, repo, used)
          .catch(error => context.log.warn({ err: error, repo }, 'sweeping a mirror failed'))
          .finally(release)
      }
    },
  }
}
export type Mirrors = ReturnType<typeof openMirrors>
