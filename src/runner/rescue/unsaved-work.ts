/** Unsaved work, as the guest prints it. The guest is hostile: anything unforeseen in its answer means that nothing is known. */
import type { UnsavedWork } from '../../schema/environment.ts'
import { counted } from '../../words.ts'

/** A guest with more git repositories than this is not searched. */
export const MAX_REPOSITORIES = 200

/** Commits that the reflogs of one repository name. With more, nothing is known of it. */
export const MAX_REFLOG = 50_000

const LINE = /^(\d{1,9})\t(\d{1,9})\t(\d{1,9})\t(\d{1,9})\t(\d{1,9})\t(\/[\x20-\x7e]{0,200})$/

export type UnsavedRepository = Extract<UnsavedWork, { known: true }>['repositories'][number] & {
  /** The repository's line in the guest's list, from 1. */
  line: number
}
/** The result of a search that just ended, from which the work can be saved. */
export type UnsavedWorkReport = { known: true; repositories: UnsavedRepository[] } | { known: false; reason: string }

export const parseUnsavedWork = (stdout: string): UnsavedWorkReport => {
  const unknown = (reason: string): UnsavedWorkReport => ({ known: false, reason })
  const lines = stdout.trimEnd().split('\n')
  const last = lines.pop()
  if (last === 'no-git') return unknown('the machine has git repositories, but git is not installed in it')
  if (last === 'too-many') return unknown(`the machine has more than ${MAX_REPOSITORIES} git repositories`)
  if (last !== 'end') return unknown("the machine's answer was incomplete")
  const repositories: UnsavedRepository[] = []
  for (const [index, text] of lines.entries()) {
    const match = text.match(LINE)
    if (match === null) return unknown('git could not read a repository')
    const [uncommitted = 0, untracked = 0, stashes = 0, unpushed = 0, reflog = 0] = match.slice(1, 6).map(Number)
    const repository = { line: index + 1, path: match[6] ?? '', uncommitted, untracked, stashes, unpushed, reflog }
    if (uncommitted + untracked + stashes + unpushed + reflog > 0) repositories.push(repository)
  }
  return { known: true, repositories }
}

/** As it is stored and shown. */
export const toUnsavedWork = (report: UnsavedWorkReport): UnsavedWork =>
  report.known
    ? { known: true, repositories: report.repositories.map(({ line: _, ...repository }) => repository) }
    : report

export const isNothingUnsaved = (work: UnsavedWork): boolean => work.known && work.repositories.length === 0

const MAX_NAMED = 5
const some = (count: number, noun: string, plural?: string): string[] =>
  count === 0 ? [] : [counted(count, noun, plural)]

/** `2 uncommitted changes, 1 unpushed commit in /home/agent/shop`. */
export const describeUnsavedWork = (work: UnsavedWork): string => {
  if (!work.known) return `could not check for unsaved work: ${work.reason}`
  const named = work.repositories.slice(0, MAX_NAMED).map(entry => {
    const { path, uncommitted, untracked, stashes, unpushed, reflog = 0 } = entry
    const parts = [
      ...some(uncommitted, 'uncommitted change'),
      ...some(untracked, 'untracked file'),
      ...some(stashes, 'stash', 'stashes'),
      ...some(unpushed, 'unpushed commit'),
      ...some(reflog, 'commit in the reflog alone', 'commits in the reflog alone'),
    ]
    return `${parts.join(', ')} in ${path}`
  })
  const more = work.repositories.length - named.length
  return [...named, ...(more > 0 ? [`work in ${counted(more, 'more repository', 'more repositories')}`] : [])].join(
    '; ',
  )
}
