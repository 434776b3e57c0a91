/** The nearest of the words that there are to one that is none of them. Only ever said, never acted on. */
import { createRequire } from 'node:module'
import type leven from 'leven'

/** Loaded by a mistake alone: to look for a package takes longer than to read a file of ours. */
const require = createRequire(import.meta.url)

/** Edits (insertions, deletions, changes) within which a word counts as mistyped: two letters swapped are two. */
const within = (word: string): number => (word.length < 4 ? 1 : 2)

/** Whatever the case; null when nothing is near enough. Of several that are equally near, the first. */
export const nearest = (word: string, candidates: readonly string[]): string | null => {
  const typed = word.toLowerCase()
  const edits: typeof leven = require('leven').default
  let best: string | null = null
  let least = within(word) + 1
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - word.length) >= least) continue
    const found = edits(typed, candidate.toLowerCase())
    if (found < least) [best, least] = [candidate, found]
  }
  return best
}
