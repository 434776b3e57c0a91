/** The transcript of a run as people read it: one line a step, without anything that a terminal or a comment would obey. */
import { stripVTControlCharacters } from 'node:util'
import type { AgentReport } from '../../schema/environment.ts'
import { type Program, programs, type Step } from './programs.ts'

/** Characters of a step. */
const MAX_STEP = 500
const signs: Readonly<Record<Step['kind'], string>> = { says: '', does: '> ', gets: '  ', fails: '! ' }

/** Outside text as one line: control, invisible and direction characters are gone. */
export const plainLine = (text: string, most = MAX_STEP): string => {
  // Bounded first: a step may be a megabyte. A terminal's sequences go as a whole, or their letters would stay.
  const line = stripVTControlCharacters(text.slice(0, most * 4))
    .replaceAll(/[\s\p{Z}]+/gu, ' ')
    .replaceAll(/\p{C}/gu, '')
    .trim()
  return line.length > most ? `${line.slice(0, most - 1)}…` : line
}

/** The lines for one line of a transcript; none for what says nothing to people. `use`: the program that wrote it. */
export const readableLine = (line: string, use: AgentReport['use'], program: Program = programs[use]): string[] =>
  (program.read(line).steps ?? []).flatMap(({ kind, text }) => {
    const plain = plainLine(text)
    return plain === '' ? [] : [`${signs[kind]}${plain}`]
  })
