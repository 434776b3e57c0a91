/** Which branches are served, and which ticket a pull request or a push is about. */
import { isTicket, type Ticket } from './domain.ts'

/** Which branches count: patterns where `*` stands for any text, none for all; and the projects that the repository serves. */
type BranchRules = { branches: readonly string[]; projects: readonly string[] }

/** Whether the whole of `text` matches `pattern`, where `*` stands for any text. Takes time of at most their lengths' product. */
const matches = (text: string, pattern: string): boolean => {
  let [at, next] = [0, 0]
  // The last star: its index in the pattern, and the end of the text that it covers so far.
  let [star, covered] = [-1, 0]
  while (at < text.length) {
    if (pattern[next] === '*') {
      star = next
      covered = at
      next += 1
    } else if (pattern[next] === text[at]) {
      at += 1
      next += 1
    } else if (star >= 0) {
      covered += 1
      at = covered
      next = star + 1
    } else return false
  }
  return /^\**$/.test(pattern.slice(next))
}

export const isBranchServed = (branch: string, { branches }: Pick<BranchRules, 'branches'>): boolean =>
  branches.length === 0 || branches.some(pattern => matches(branch, pattern))

/** Branches that bots make: of dependencies, of a revert, and of GitHub's merge queue. What they quote is about no ticket. */
const OF_A_BOT = /^(?:dependabot\/|renovate\/|revert-[0-9]+-|gh-readonly-queue\/)/

export const isBranchOfBot = (branch: string): boolean => OF_A_BOT.test(branch)

/** `DROP` as `[Dd][Rr][Oo][Pp]`. The flag `i` would also take signs of other alphabets for letters, for example the Kelvin sign. */
const inAnyCase = (key: string): string =>
  [...key].map(sign => (/[A-Z]/.test(sign) ? `[${sign}${sign.toLowerCase()}]` : sign)).join('')

/**
 * The first key of one of these projects, in any case. Before it stands no letter or digit, and after it no letter or digit, and no
 * point with a digit: that is a version.
 */
const firstKey = (text: string, projects: readonly string[]): Ticket | null => {
  const keys = projects.map(inAnyCase).join('|')
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(?:${keys})-[1-9][0-9]{0,6}(?![\\p{L}\\p{N}]|\\.[0-9])`, 'u')
  const key = text.match(pattern)?.[0].toUpperCase()
  return key !== undefined && isTicket(key) ? key : null
}

/**
 * The ticket that a pull request is about: the first key in its branch, or else in its title. Null when neither has one, or the
 * branch is not served or a bot's. The description names nothing: it quotes templates, release notes and other tickets.
 */
export const ticketOfPullRequest = (
  { branch, title }: { branch: string; title: string },
  rules: BranchRules,
): Ticket | null => {
  if (rules.projects.length === 0 || isBranchOfBot(branch) || !isBranchServed(branch, rules)) return null
  return firstKey(branch, rules.projects) ?? firstKey(title, rules.projects)
}

const OF_AN_ATTEMPT = /^([A-Za-z][A-Za-z0-9_]*-[0-9]+)-.+-attempt-([1-9][0-9]?)$/

/** The number of the attempt that a branch is of, 2 for `DROP-1-login-attempt-2`. `ticket`: the key that the branch names. */
export const attemptOfBranch = (branch: string, ticket: Ticket): number | null => {
  const [, named, attempt] = branch.match(OF_AN_ATTEMPT) ?? []
  return named?.toUpperCase() === ticket ? Number(attempt) : null
}

/** Whether it is a branch of an attempt, of whatever ticket. */
export const isOfAnAttempt = (branch: string): boolean => OF_AN_ATTEMPT.test(branch)

/** The ticket that a push to this branch is about. */
export const ticketOfBranch = (branch: string, rules: BranchRules): Ticket | null =>
  ticketOfPullRequest({ branch, title: '' }, rules)
