/** Which branches are served, and which ticket a pull request is about. */
import { findTicket, type Ticket } from '../src/domain.ts'
import type { Rules } from './handler.ts'

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

export const isBranchServed = (branch: string, { branches }: Pick<Rules, 'branches'>): boolean =>
  branches.length === 0 || branches.some(pattern => matches(branch, pattern))

/** The ticket of a pull request; null when it names none, or when its branch is not served. */
export const ticketOfPullRequest = (
  { branch, title, body }: { branch: string; title: string; body: string },
  rules: Pick<Rules, 'branches' | 'projects'>,
): Ticket | null => (isBranchServed(branch, rules) ? findTicket([branch, title, body], rules.projects) : null)
