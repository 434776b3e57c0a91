/** Decides a push while its objects are in quarantine, and forwards it. The mirror takes it only when the remote did. */
import { existsSync, realpathSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import * as v from 'valibot'
import type { Clock } from '../../clock.ts'
import { failureOf } from '../../errors.ts'
import { writeFileAtomic } from '../../files.ts'
import type { Log } from '../../log.ts'
import { type Push, push as pushForm } from '../../schema/environment.ts'
import type { Git } from './git.ts'
import type { Remote } from './mirrors.ts'
import { MAX_DROPPED, MAX_UPDATES, type PushRules, type RefUpdate, refuseDropped, refuseName } from './policy.ts'
import type { Answer, Question } from './pre-receive.ts'
import { isQuarantine } from './quarantines.ts'

/** The registry, or what stands in for it. */
export type PushRecord = {
  recordPush(ticket: string, push: Push, commits: readonly string[]): void
  pushedAll(ticket: string, repo: string, commits: readonly string[]): boolean
}

export type PushContext = { git: Git; clock: Clock; log: Log; record: PushRecord }
export type PushRequest = {
  machine: { ticket: string; vmId: string }
  repo: string
  mirror: string
  remote: Remote
  byAgent: boolean
  rules: PushRules
}

const FORWARD_DEADLINE_MS = 10 * 60_000
/** New commits of one push that count as the machine's own. */
const MAX_NEW = 10_000
const MAX_LINES = 50
const BRANCH = 'refs/heads/'
const JOURNAL = 'agent-swarm-push.json'

/** Lines for the person: no control characters, no token, not endless. */
const shown = (text: string, { token }: Remote): string[] => {
  const hidden = token === null ? text : text.replaceAll(token.token, '[redacted]')
  const lines = hidden.split(/[\r\n]+/).map(line => line.replaceAll(/[\p{Cc}\p{Cf}]/gu, ' ').trimEnd())
  return lines
    .filter(line => line !== '')
    .map(line => line.slice(0, 500))
    .slice(0, MAX_LINES)
}

/** The new objects are in a folder of their own, which the mirror's objects complete. */
const quarantineOf = (mirror: string, { quarantine }: Question): Record<string, string> => {
  if (quarantine === null) return {}
  const objects = realpathSync(join(mirror, 'objects'))
  if (realpathSync(dirname(quarantine)) !== objects || !isQuarantine(basename(quarantine)))
    throw new Error('the new objects are not in the mirror')
  return { GIT_OBJECT_DIRECTORY: quarantine, GIT_ALTERNATE_OBJECT_DIRECTORIES: objects }
}

type Refusals = Map<RefUpdate, string>
const refuse = (updates: readonly RefUpdate[], reason: (update: RefUpdate) => string | null): Refusals =>
  new Map(
    updates.flatMap(update => {
      const text = reason(update)
      return text === null ? [] : [[update, text] as const]
    }),
  )

/** Reads from the mirror and the new objects. */
type Read = (...argv: string[]) => Promise<string[]>

/** What the commits forbid. Needs allowed names. */
const refuseHistory = async (
  { record }: PushContext,
  { machine, repo, rules }: PushRequest,
  updates: readonly RefUpdate[],
  read: Read,
): Promise<Refusals> => {
  const main = rules.defaultBranch === null ? [] : [`${BRANCH}${rules.defaultBranch}`]
  const refs = await read(
    'for-each-ref',
    '--format=%(objectname) %(refname)',
    ...updates.map(({ ref }) => ref),
    ...main,
  )
  const now = new Map(refs.map(line => [line.slice(41), line.slice(0, 40)]))
  const types = await read('rev-parse', ...updates.map(({ to }) => `${to}^{}`))
  const reasons: Refusals = new Map()
  for (const [n, update] of updates.entries()) {
    const { ref, from, to } = update
    if ((now.get(ref) ?? null) !== from)
      reasons.set(update, 'the branch has moved on. Run git pull --rebase, then push again.')
    else if (types[n] !== to) reasons.set(update, 'a branch points to a commit, and this is none.')
    else if (from !== null) {
      // What stays in the default branch is not dropped.
      const kept = main.filter(name => now.has(name)).map(name => `^${name}`)
      const dropped = await read('rev-list', `--max-count=${MAX_DROPPED + 1}`, from, `^${to}`, ...kept)
      const own = new Set(dropped.filter(commit => record.pushedAll(machine.ticket, repo, [commit])))
      const reason = refuseDropped(dropped, own)
      if (reason !== null) reasons.set(update, reason)
    }
  }
  return reasons
}

/** Pushes to the remote, all or nothing: only over what the mirror had. */
const forward = async (
  { git }: PushContext,
  { repo, mirror, remote }: PushRequest,
  updates: readonly RefUpdate[],
  env: Record<string, string>,
): Promise<{ isTaken: boolean; isRefused: boolean; lines: string[] }> => {
  const leases = updates.map(({ ref, from }) => `--force-with-lease=${ref}:${from ?? ''}`)
  const { stdout, stderr, exitCode } = await git(
    `forwarding a push to ${repo}`,
    mirror,
    [
      // The guest's git has packed it well: what it packed is passed on as it is.
      ...['-c', 'pack.window=0', 'push', '--porcelain', '--no-verify', '--no-follow-tags', '--thin'],
      ...(updates.length > 1 ? ['--atomic'] : []),
      ...leases,
      ...['--', remote.url, ...updates.map(({ ref, to }) => `${to}:${ref}`)],
    ],
    { remote, env, answers: [1, 128], deadline: FORWARD_DEADLINE_MS },
  )
  const words = shown(stderr, remote).filter(
    line => /^(?:remote|fatal|error):/.test(line) && !/^error: failed to push some refs/.test(line),
  )
  const reasons = stdout.split('\n').flatMap(line => {
    const [flag, refs = '', summary = ''] = line.split('\t')
    return flag === '!' ? shown(`${refs.slice(refs.indexOf(':') + 1)}: ${summary}`, remote) : []
  })
  const isRefused = reasons.length > 0
  return {
    isTaken: exitCode === 0,
    isRefused,
    lines: [...words.map(line => line.replace(/^remote: ?/, '')), ...reasons],
  }
}

const journalForm = v.strictObject({
  ticket: v.string(),
  pushes: v.array(pushForm),
  commits: v.array(v.string()),
})
type Journal = v.InferOutput<typeof journalForm>

const writeRecord = ({ record }: Pick<PushContext, 'record'>, mirror: string, { ticket, pushes, commits }: Journal) => {
  for (const [n, one] of pushes.entries()) record.recordPush(ticket, one, n === 0 ? commits : [])
  rmSync(join(mirror, JOURNAL), { force: true })
}

/** Records a push whose process was killed after the remote had taken it. Call it when the mirror is up to date. */
export const recordInterrupted = async (
  { git, record, log }: Pick<PushContext, 'git' | 'record' | 'log'>,
  mirror: string,
): Promise<void> => {
  const file = join(mirror, JOURNAL)
  if (!existsSync(file)) return
  try {
    const journal = v.parse(journalForm, JSON.parse(await readFile(file, 'utf8')))
    const refs = journal.pushes.map(({ branch }) => BRANCH + branch)
    const { stdout } = await git('reading refs', mirror, ['for-each-ref', '--format=%(objectname) %(refname)', ...refs])
    const now = stdout.split('\n')
    if (journal.pushes.every(({ branch, commit }) => now.includes(`${commit} ${BRANCH}${branch}`)))
      return writeRecord({ record }, mirror, journal)
  } catch (error) {
    log.warn({ err: error }, 'an interrupted push could not be recorded')
  }
  rmSync(file, { force: true })
}

const no = (lines: readonly string[]): Answer => ({
  isAllowed: false,
  lines: lines.map(line => `agent-swarm: ${line}`),
})

/** Lines of the audit log, and the answer for the person. */
const openAudit = ({ log }: PushContext, { machine, repo, remote }: PushRequest, updates: readonly RefUpdate[]) => {
  const about = { ticket: machine.ticket, vmId: machine.vmId, repo }
  return {
    refused: (reasons: Refusals): Answer => {
      for (const [{ ref, from, to }, reason] of reasons) log.warn({ ...about, ref, from, to, reason }, 'push refused')
      const lines = updates.map(update => {
        const name = shown(update.ref, remote)[0] ?? ''
        return `${name}: ${reasons.get(update) ?? 'not pushed, because another ref of this push is refused.'}`
      })
      return no(lines)
    },
    tooMany: (): Answer => {
      log.warn({ ...about, refs: updates.length }, 'push refused: too many refs')
      return no([`a push changes at most ${MAX_UPDATES} refs, and this one ${updates.length}. Push fewer at once.`])
    },
    failed: (lines: readonly string[]): Answer => {
      for (const { ref, from, to } of updates)
        log.warn({ ...about, ref, from, to, reason: lines }, 'push not forwarded')
      return no(lines)
    },
    forwarded: (byAgent: boolean): void => {
      for (const { ref, from, to } of updates) log.info({ ...about, ref, from, to, byAgent }, 'push forwarded')
    },
  }
}

/** What will be recorded: the changes, and the commits that they bring, the newest first. */
const journalOf = async (
  { clock }: PushContext,
  { machine, repo, byAgent }: PushRequest,
  updates: readonly RefUpdate[],
  read: Read,
): Promise<Journal> => {
  const tips = updates.flatMap(({ to }) => (to === null ? [] : [to]))
  const commits = await read('rev-list', `--max-count=${MAX_NEW}`, ...tips, '--not', '--all')
  const at = new Date(clock()).toISOString()
  const pushes = updates.map(({ ref, to }) => ({
    ...{ repo, branch: ref.slice(BRANCH.length), commit: to ?? '', byAgent, at },
  }))
  return { ticket: machine.ticket, pushes, commits }
}

/** Under the mirror's lock, which is held until git has ended. */
export const decidePush = async (context: PushContext, push: PushRequest, question: Question): Promise<Answer> => {
  const { git, log } = context
  const { repo, mirror, remote, byAgent, rules } = push
  const { updates } = question
  const audit = openAudit(context, push, updates)
  if (updates.length > MAX_UPDATES) return audit.tooMany()
  const names = refuse(updates, update => refuseName(update, rules))
  if (names.size > 0) return audit.refused(names)
  try {
    const env = quarantineOf(mirror, question)
    const read: Read = async (...argv) =>
      (await git('reading a push', mirror, argv, { env })).stdout.split('\n').filter(line => line !== '')
    const history = await refuseHistory(context, push, updates, read)
    if (history.size > 0) return audit.refused(history)
    const journal = await journalOf(context, push, updates, read)
    writeFileAtomic(join(mirror, JOURNAL), JSON.stringify(journal))
    const { isTaken, isRefused, lines } = await forward(context, push, updates, env)
    if (!isTaken) {
      // Where the connection was lost, the remote may have it: the next update finds out.
      if (isRefused) rmSync(join(mirror, JOURNAL), { force: true })
      return audit.failed(lines.length === 0 ? ['the remote refused the push.'] : lines)
    }
    audit.forwarded(byAgent)
    try {
      writeRecord(context, mirror, journal)
    } catch (error) {
      // The remote has it, so the answer is yes. The next update records it.
      log.warn({ err: error, repo }, 'a push could not be recorded yet')
    }
    return { isAllowed: true, lines }
  } catch (error) {
    const { message, remedy } = failureOf(error, `pushing to ${repo}`)
    return audit.failed(shown(`${message}. ${remedy ?? 'Run git fetch, then try again.'}`, remote))
  }
}
