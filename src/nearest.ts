/** The nearest of the words that there are to one that is none of them. Only ever said, never acted on. */
import leven from 'leven'

/** Edits (insertions, deletions, changes) within which a word counts as mistyped: two letters swapped are two. */
const within = (word: string): number => (word.length < 4 ? 1 : 2)

/** Whatever the case; null when nothing is near enough. Of several that are equally near, the first. */
export const nearest = (word: string, candidates: readonly string[]): string | null => {
  const typed = word.toLowerCase()
  let best: string | null = null
  let least = within(word) + 1
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - word.length) >= least) continue
    const edits = leven(typed, candidate.toLowerCase())
    if (edits < least) [best, least] = [candidate, edits]
  }
  return best
}
