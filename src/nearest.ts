/** Suggests the known word that is nearest to a mistyped one. Suggestions are only shown, never acted on. */
import { createRequire } from 'node:module'
import type leven from 'leven'

/** leven is loaded only after a mistake: resolving a package takes longer than reading one of our files. */
const require = createRequire(import.meta.url)

/** The most edits (insertions, deletions, replacements) of a typing mistake: two swapped letters count as two. */
const maxEdits = (word: string): number => (word.length < 4 ? 1 : 2)

/** Ignores case. Null when no candidate is near; the first of several that are equally near. */
export const nearest = (word: string, candidates: readonly string[]): string | null => {
  const edits: typeof leven = require('leven').default
  let best: string | null = null
  let least = maxEdits(word) + 1
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - word.length) >= least) continue
    const distance = edits(word.toLowerCase(), candidate.toLowerCase())
    if (distance < least) [best, least] = [candidate, distance]
  }
  return best
}
