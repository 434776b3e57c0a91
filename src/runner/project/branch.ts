/** The branch that a ticket's machine works on. Pure. */
import { is } from 'valibot'
import { attemptOfBranch, ticketOfBranch } from '../../branches.ts'
import { attemptOf, type EnvironmentKey, type Ticket, ticketOf } from '../../domain.ts'
import { branchName } from '../../schema/basics.ts'

/** Characters of a branch that is made here. */
const MAX_BRANCH = 60
/** A branch of this form belongs to an attempt (docs/projects.md). */
const OF_AN_ATTEMPT = /-attempt-\d+$/

/** Letters that are not a letter with an accent. */
const LETTERS: Readonly<Record<string, string>> = { ß: 'ss', æ: 'ae', œ: 'oe', ø: 'o', ł: 'l', đ: 'd', þ: 'th', ı: 'i' }

/** `Fix the größe of “Login”` as `fix-the-grosse-of-login`: lower-case ASCII letters, digits and single hyphens. */
const slugOf = (text: string): string =>
  text
    .slice(0, 500)
    .toLowerCase()
    .replaceAll(/[ßæœøłđþı]/g, letter => LETTERS[letter] ?? '')
    .normalize('NFKD')
    .replaceAll(/\p{M}|['’]/gu, '')
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')

/** Cut at the end of a word, where there is one. */
const cut = (slug: string, most: number): string => {
  if (slug.length <= most) return slug
  const whole = slug.slice(0, most + 1)
  const end = whole.lastIndexOf('-')
  return end > most / 2 ? whole.slice(0, end) : slug.slice(0, most)
}

/** `DROP-1-fix-the-login`; the ticket alone when its summary is unknown or has no letters from a to z. `summary`: outside text. */
export const newBranch = (ticket: Ticket, summary: string | null): string => {
  const slug = cut(slugOf(summary ?? ''), MAX_BRANCH - ticket.length - 1)
  if (slug === '') return ticket
  // An attempt's branch would be another machine's.
  return OF_AN_ATTEMPT.test(`-${slug}`) ? `${ticket}-${slug}-work` : `${ticket}-${slug}`
}

/** The branch of an attempt: its source's, with the attempt's number, where that names the ticket first. */
export const attemptBranch = (
  key: EnvironmentKey,
  { branch, summary }: { branch: string | null; summary: string | null },
): string => {
  const [ticket, attempt] = [ticketOf(key), attemptOf(key)]
  const bases = [(branch ?? '').replace(OF_AN_ATTEMPT, ''), newBranch(ticket, summary)]
  const names = bases.map(base => `${base}-attempt-${attempt}`)
  const isIts = (name: string) => is(branchName, name) && attemptOfBranch(name, ticket) === attempt
  return names.find(isIts) ?? `${ticket}-work-attempt-${attempt}`
}

export type Branch = { name: string; isRemote: boolean; note: string | null }

/**
 * The branch to check out. `wanted`: that of the ticket's pull request. `remote`: the branches of the repository, the one with
 * the newest commit first; a name that git or we would not take is passed over. Of several that name the ticket, the newest is taken.
 */
export const chooseBranch = (
  { ticket, wanted, summary }: { ticket: Ticket; wanted: string | null; summary: string | null },
  remote: readonly string[],
  projects: readonly string[],
): Branch => {
  if (wanted !== null && remote.includes(wanted)) return { name: wanted, isRemote: true, note: null }
  const own = remote.filter(
    name =>
      is(branchName, name) &&
      !OF_AN_ATTEMPT.test(name) &&
      ticketOfBranch(name, { branches: [], projects: [...projects] }) === ticket,
  )
  const [first, ...others] = own
  const gone = wanted === null ? null : `the repository has no branch ${wanted}`
  if (first === undefined) return { name: newBranch(ticket, summary), isRemote: false, note: gone }
  const several =
    others.length === 0 ? null : `${own.length} branches name the ticket, and ${first} has the newest commit`
  return { name: first, isRemote: true, note: [gone, several].filter(note => note !== null).join('; ') || null }
}
