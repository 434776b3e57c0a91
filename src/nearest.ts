/** Suggests the known word that is nearest to a mistyped one. Suggestions are only shown, never acted on. */
import { createRequire } from 'node:module'
import type leven from 'leven'

/** leven is loaded only after a mistake: resolving a package takes longer than reading one of our files. */
const require = createRequire(import.meta.url)

/** The most edits (insertions, deletions, replacements) of a typing mistake: two swapped letters count as two. */
const maxEdits = (word: string): number => (word.length < 4 ? 1 : 2)

/** The candidates within the edits of a typing mistake, the nearest first. Ignores case. */
const near = (word: string, candidates: readonly string[]): { candidate: string; edits: number }[] => {
  const edits: typeof leven = require('leven').default
  const most = maxEdits(word)
  return candidates
    .filter(candidate => Math.abs(candidate.length - word.length) <= most)
    .map(candidate => ({ candidate, edits: edits(word.toLowerCase(), candidate.toLowerCase()) }))
    .filter(found => found.edits <= most)
    .sort((a, b) => a.edits - b.edits)
}

/** Null when no candidate is near; the first of several that are equally near. */
export const nearest = (word: string, candidates: readonly string[]): string | null =>
  near(word, candidates)[0]?.candidate ?? null

/** Commands that replace or delete a state. People type what a hint names. */
const DESTRUCTIVE = ['restore', 'delete']
/** As `nearest`. It names a command that destroys only when one edit makes it, and no other command is as near. */
export const nearestCommand = (word: string, commands: readonly string[]): string | null => {
  const found = near(word, commands)
  const [first, second] = found
  const isSure = first?.edits === 1 && second?.edits !== 1
  return found.find(({ candidate }, at) => !DESTRUCTIVE.includes(candidate) || (at === 0 && isSure))?.candidate ?? null
}
