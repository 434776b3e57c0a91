/** Where a quoted mail begins. People answer notifications by mail, and what they quote holds the commands of others. */

const DASHES = '[-–—_\\s]*'
const WROTE = new RegExp(`^${DASHES}On\\s.{0,998}$`)
const ENDS_WROTE = new RegExp(`\\bwrote:${DASHES}$`)
const ORIGINAL = /^\s*-{2,}\s*Original Message\s*-{2,}\s*$/i
/** The foot of GitHub's own notifications. */
const GITHUB_FOOT = /^[^\w>]*Reply to this email directly\b/i
/** Outlook's head; it may write the names in bold. */
const FROM = /^\s*[*_]{0,2}From:/i
const AFTER_FROM = /^\s*[*_]{0,2}(?:Sent|Date|To|Subject):/i
const FROM_WITHIN_LINES = 4

const beginsAt = (lines: readonly string[], at: number): boolean => {
  const line = lines[at] ?? ''
  if (WROTE.test(line)) {
    const next = lines[at + 1] ?? ''
    if (ENDS_WROTE.test(line) || ENDS_WROTE.test(next)) return true
  }
  if (ORIGINAL.test(line) || GITHUB_FOOT.test(line)) return true
  return FROM.test(line) && lines.slice(at + 1, at + 1 + FROM_WITHIN_LINES).some(after => AFTER_FROM.test(after))
}

/** The index of the first line of a quoted mail; the number of lines when there is none. */
export const quotedMailAt = (lines: readonly string[]): number => {
  const at = lines.findIndex((_line, index) => beginsAt(lines, index))
  return at < 0 ? lines.length : at
}
