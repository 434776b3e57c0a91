/** Which branches count. */
import { findTicket, type Ticket } from '../src/domain.ts'
import type { Rules } from './handler.ts'

/** Whether `text` is what `pattern` says, `*` for any text. In time that grows with both lengths, whatever stands in them. */
const fits = (text: string, pattern: string): boolean => {
  let [at, of] = [0, 0]
  // Where the last star stands, and how far it reaches.
  let [star, reach] = [-1, 0]
  while (at < text.length) {
    if (pattern[of] === '*') {
      star = of
      reach = at
      of += 1
    } else if (pattern[of] === text[at]) {
      at += 1
      of += 1
    } else if (star >= 0) {
      reach += 1
      at = reach
      of = star + 1
    } else return false
  }
  return /^\**$/.test(pattern.slice(of))
}

export const isBranchServed = (branch: string, { branches }: Pick<Rules, 'branches'>): boolean =>
  branches.length === 0 || branches.some(pattern => fits(branch, pattern))

/** The ticket of a pull request; null when it names none, or when its branch does not count. */
export const ticketOfPullRequest = (
  { branch, title, body }: { branch: string; title: string; body: string },
  rules: Pick<Rules, 'branches' | 'projects'>,
): Ticket | null => (isBranchServed(branch, rules) ? findTicket([branch, title, body], rules.projects) : null)
