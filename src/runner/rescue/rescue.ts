/**
 * Saves unsaved work before its machine is deleted: one git bundle for each repository, below `AGENT_SWARM_HOME/rescued`, proven
 * by reading it back. A bundle holds the whole history, so that neither the proof nor a later reader needs a remote.
 */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, rename, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { EnvironmentKey } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import type { Run } from '../../exec.ts'
import { flush } from '../../files.ts'
import type { Requester } from '../../schema/action.ts'
import type { NoteEntry, RescueNote } from '../../schema/rescue-note.ts'
import { type BundleReport, isSameWork, parseBundleReport } from './bundle-report.ts'
import { folderName, getBackCommands, HOW, NOTE, rescuedFolder, slugOf, unfinishedName } from './folder.ts'
import { type HostGit, openHostGit, proveBundle } from './proof.ts'
import { bundleReportScript, bundleScript, type Saved } from './scripts.ts'
import type { UnsavedRepository, UnsavedWorkReport } from './unsaved-work.ts'

/** A guest cannot fill the disk of the host: all its bundles have at most this size, and this much stays free after each proof. */
const MAX_SAVED_BYTES = 20 * 1024 ** 3
const KEPT_FREE_BYTES = 1024 ** 3

/** The note names them. */
const MAX_NOTED_REFS = 100_000
/** For all repositories of a machine together, and for the transfer of one. */
const DEADLINE_MS = 60 * 60_000
const TRANSFER_DEADLINE_MS = 30 * 60_000

/** How often new work is saved that came while other work was being saved. */
const MAX_ROUNDS = 3

type Machine = { ticket: EnvironmentKey; provider: string; vmId: string; baseImage: string }
type Options = {
  /** Ignored files that are saved too. */
  saved?: Saved | null
  /** Runs a script in the guest, with its standard output in a new file of at most `limit` bytes. `deadline`: milliseconds. */
  stream: (script: string, into: { file: string; limit: number }, deadline: number) => Promise<{ stderr: string }>
  /** Looks for unsaved work again. */
  lookAgain: () => Promise<UnsavedWorkReport>
  by: Requester
  signal: AbortSignal
  onPhase: (phase: string) => void
}

/** The size that a bundle may have. Its proof takes at most twice as much again: the pack and its index. */
const bundleLimit = async (folder: string, savedBytes: number): Promise<number> => {
  const disk = await statfs(folder)
  const bytes = Math.floor((disk.bavail * disk.bsize - KEPT_FREE_BYTES) / 3)
  if (bytes <= 0)
    throw fail('disk-full', `the disk of ${folder} has less than 1 GiB free`, 'Free disk space and try again.')
  return Math.min(MAX_SAVED_BYTES - savedBytes, bytes)
}

type Save = Options & {
  git: HostGit
  left: () => number
  machine: Machine
  parent: string
  unfinished: string
  folder: string
  savedAt: Date
}

/** What was saved of one repository, and its entry in the note. */
type SavedRepository = { report: BundleReport; entry: NoteEntry }

/** Saves one repository as `<number>-<name>.bundle`. */
const saveRepository = async (
  { git, left, machine, parent, unfinished, folder, savedAt, saved = null, stream, onPhase }: Save,
  repository: UnsavedRepository,
  number: number,
  savedBytes: number,
): Promise<SavedRepository> => {
  const { line, ...work } = repository
  const slug = slugOf(work.path)
  const name = `${number}-${slug}`
  const bundle = join(unfinished, `${name}.bundle`)
  onPhase('saving unsaved work')
  const into = { file: bundle, limit: await bundleLimit(parent, savedBytes) }
  const { stderr } = await stream(bundleScript(line, saved, savedAt), into, Math.min(TRANSFER_DEADLINE_MS, left()))
  const report = parseBundleReport(stderr, work.path)
  onPhase('checking the saved work')
  const proven = await proveBundle(git, unfinished, bundle, report, repository)
  flush(bundle)
  if (report.shallow.length > 0)
    await writeFile(join(unfinished, `${name}.shallow`), `${report.shallow.join('\n')}\n`, { mode: 0o600, flush: true })
  const entry = {
    ...work,
    ...proven,
    branch: report.branch,
    bundle: `${name}.bundle`,
    bytes: (await stat(bundle)).size,
    refs: Object.fromEntries(report.refs),
    getBack: getBackCommands(machine.ticket, slug, join(folder, name), report),
  }
  return { report, entry }
}

/** Whether all work that the repository has now is in this bundle. */
const isSaved = async (
  { left, unfinished, savedAt, saved = null, stream }: Save,
  { line, path }: UnsavedRepository,
  earlier: SavedRepository | undefined,
): Promise<boolean> => {
  if (earlier === undefined) return false
  const file = join(unfinished, 'report')
  try {
    const script = bundleReportScript(line, saved, savedAt)
    const { stderr } = await stream(script, { file, limit: 1 }, Math.min(TRANSFER_DEADLINE_MS, left()))
    return isSameWork(parseBundleReport(stderr, path), earlier.report)
  } finally {
    await rm(file, { force: true })
  }
}

/** Saves these repositories, each in place of what was saved of it earlier. */
const saveThese = async (
  save: Save,
  repositories: readonly UnsavedRepository[],
  done: Map<string, SavedRepository>,
): Promise<void> => {
  for (const repository of repositories) {
    const entries = [...done.values()].map(({ entry }) => entry)
    const savedBytes = entries.reduce((sum, { bytes }) => sum + bytes, 0)
    const refs = entries.reduce((sum, entry) => sum + Object.keys(entry.refs).length, 0)
    if (refs > MAX_NOTED_REFS)
      throw fail('unsaved-work', `the machine has more than ${MAX_NOTED_REFS} branches, tags and stashes to save`)
    const earlier = done.get(repository.path)?.entry.bundle
    const number = 1 + Math.max(0, ...entries.map(({ bundle }) => Number.parseInt(bundle, 10)))
    const saved = await saveRepository(save, repository, number, savedBytes).catch(error => {
      const { kind, message, remedy } = failureOf(error, 'saving it')
      throw fail(kind, `${repository.path}: ${message}`, remedy, error)
    })
    done.set(repository.path, saved)
    if (earlier === undefined) continue
    for (const name of [earlier, earlier.replace(/bundle$/, 'shallow')])
      await rm(join(save.unfinished, name), { force: true })
  }
}

/** Saves what people and programs add while other work is being saved, until nothing is new. */
const saveNew = async (save: Save, done: Map<string, SavedRepository>): Promise<void> => {
  for (let round = 1; ; round += 1) {
    const now = await save.lookAgain()
    if (!now.known) throw fail('unsaved-work', `looking again after saving: ${now.reason}`)
    const unsaved: UnsavedRepository[] = []
    for (const repository of now.repositories)
      if (!(await isSaved(save, repository, done.get(repository.path)))) unsaved.push(repository)
    const [first] = unsaved
    if (first === undefined) return
    if (round > MAX_ROUNDS)
      throw fail('unsaved-work', `work in ${first.path} still changed after it was saved ${MAX_ROUNDS + 1} times`)
    await saveThese(save, unsaved, done)
  }
}

const saveAll = async (save: Save, repositories: readonly UnsavedRepository[]): Promise<void> => {
  const done = new Map<string, SavedRepository>()
  await saveThese(save, repositories, done)
  await saveNew(save, done)
  const { ticket, provider, vmId, baseImage } = save.machine
  const note: RescueNote = {
    ticket,
    savedAt: save.savedAt.toISOString(),
    by: save.by,
    host: hostname(),
    machine: { provider, vmId, baseImage },
    how: HOW,
    repositories: [...done.values()].map(({ entry }) => entry),
  }
  await writeFile(join(save.unfinished, NOTE), `${JSON.stringify(note, null, 2)}\n`, { mode: 0o600, flush: true })
}

const unusedFolder = (parent: string, ticket: EnvironmentKey, savedAt: Date): string => {
  for (let attempt = 1; ; attempt += 1) {
    const folder = join(parent, folderName(ticket, savedAt, attempt))
    if (!existsSync(folder)) return folder
  }
}

/**
 * Saves all these repositories, and what is new in the machine after that. Returns the folder that then holds them, proven and
 * flushed. When it throws, it leaves
 * nothing; when the process dies, `sweepRescues` removes the unfinished folder. The caller holds the ticket's lock.
 */
export const rescue = async (
  { home, run, clock }: { home: string; run: Run; clock: () => Date },
  machine: Machine,
  repositories: readonly UnsavedRepository[],
  options: Options,
): Promise<string> => {
  const until = performance.now() + DEADLINE_MS
  const left = () => {
    const milliseconds = until - performance.now()
    if (milliseconds > 0) return milliseconds
    throw fail('timeout', `saving the work of one machine took more than ${DEADLINE_MS / 60_000} minutes`)
  }
  const git = openHostGit(run, options.signal, left)
  // Without git nothing can be proven: find out before anything is transferred.
  await git('checking for git on this host, which proves the saved work', ['--version'], 0)
  const parent = rescuedFolder(home)
  await mkdir(parent, { recursive: true, mode: 0o700 })
  const savedAt = clock()
  const folder = unusedFolder(parent, machine.ticket, savedAt)
  const unfinished = join(parent, unfinishedName(machine.ticket, randomBytes(4).toString('hex')))
  await mkdir(unfinished, { mode: 0o700 })
  try {
    await saveAll({ ...options, git, left, machine, parent, unfinished, folder, savedAt }, repositories)
    flush(unfinished)
    await rename(unfinished, folder)
    flush(parent)
    return folder
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true })
    throw error
  }
}
