/**
 * Where GitHub sees a table: as the extension of cmark-gfm does, which needs no bar in a table of one column. What stands in a
 * table is talk, so that its cells are not read.
 */
import type { StateBlock } from 'markdown-it'

export type BlockRule = (state: StateBlock, startLine: number, endLine: number, silent: boolean) => boolean

const DELIMITERS = /^\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/
/** `- | -` is a list, and `---` below a line makes a heading of it. */
const LIST_OR_HEADING = /^-(?:[ \t]|-*[ \t]*$)/

/** A line without the white space around it. */
export const textOf = ({ src, bMarks, tShift, eMarks }: StateBlock, line: number): string =>
  src.slice((bMarks[line] ?? 0) + (tShift[line] ?? 0), eMarks[line]).trimEnd()
/** The first sign of a line; empty for an empty line. */
export const firstOf = ({ src, bMarks, tShift, eMarks }: StateBlock, line: number): string => {
  const at = (bMarks[line] ?? 0) + (tShift[line] ?? 0)
  return at < (eMarks[line] ?? 0) ? (src[at] ?? '') : ''
}
const isIndented = ({ sCount, blkIndent }: StateBlock, line: number) => (sCount[line] ?? 0) - blkIndent >= 4
const isOutside = ({ sCount, blkIndent }: StateBlock, line: number) => (sCount[line] ?? 0) < blkIndent

/** The cells of a row: between bars that no backslash escapes. */
const cellsOf = (row: string): number => {
  const inner = row.replace(/^\|/, '').replace(/(?<!\\)\|$/, '')
  return (inner.match(/(?<!\\)\|/g)?.length ?? 0) + 1
}

export const table: BlockRule = (state, startLine, endLine, silent) => {
  const second = startLine + 1
  if (second >= endLine || isIndented(state, startLine) || isIndented(state, second) || isOutside(state, second))
    return false
  // Most lines are text: they must cost nothing.
  if (!['|', '-', ':'].includes(firstOf(state, second))) return false
  const delimiters = textOf(state, second)
  if (!DELIMITERS.test(delimiters) || LIST_OR_HEADING.test(delimiters)) return false
  const head = textOf(state, startLine)
  if (cellsOf(head) !== cellsOf(delimiters)) return false
  if (silent) return true
  const { parentType } = state
  state.parentType = 'table'
  const endings = state.md.block.ruler.getRules('blockquote')
  const ends = (line: number) =>
    isOutside(state, line) ||
    isIndented(state, line) ||
    state.isEmpty(line) ||
    endings.some(rule => rule(state, line, endLine, true))
  let line = second + 1
  while (line < endLine && !ends(line)) line += 1
  state.parentType = parentType
  state.push('table', '', 0).map = [startLine, line]
  state.line = line
  return true
}
