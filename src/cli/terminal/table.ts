/** Tables and wrapped text. A table library takes 160 ms for 1,000 rows: longer than all the rest of a command. */
import { type Style, showsUnicode, styled, type Terminal, textWidth } from './output.ts'

/** Text, and its style on a terminal. */
export type Cell = string | readonly [text: string, style: Style]
/** `whole`: its cells are never cut. */
export type Column = string | { title: string; whole: true }

const GAP = 2
/** A cell that is cut keeps at least this many characters, a title fewer. */
const LEAST_CELL = 6
const LEAST_TITLE = 4

const textOf = (cell: Cell) => (typeof cell === 'string' ? cell : cell[0])
const titleOf = (column: Column) => (typeof column === 'string' ? column : column.title)
const sum = (numbers: readonly number[]) => numbers.reduce((all, number) => all + number, 0)

const widthsOf = (rows: readonly (readonly Cell[])[]): number[] => {
  const widths: number[] = []
  for (const row of rows)
    row.forEach((cell, at) => {
      const { length } = textOf(cell)
      if (length > (widths[at] ?? 0)) widths[at] = length
    })
  return widths
}

/** Column widths that fit: titles that are wider than their cells give way first, then the widest cells. */
const fitWidths = (columns: readonly Column[], rows: readonly (readonly Cell[])[], width: number): number[] => {
  const cells = widthsOf(rows)
  const widths = columns.map((column, at) => Math.max(titleOf(column).length, cells[at] ?? 0))
  let excess = sum(widths) + GAP * (widths.length - 1) - width
  const shrink = (at: number, least: number) => {
    const less = Math.max(0, Math.min(excess, (widths[at] ?? 0) - least))
    widths[at] = (widths[at] ?? 0) - less
    excess -= less
  }
  for (let at = widths.length - 1; at >= 0 && excess > 0; at -= 1) shrink(at, Math.max(cells[at] ?? 0, LEAST_TITLE))
  while (excess > 0) {
    const cuttable = widths.flatMap((_, at) => (typeof columns[at] === 'string' ? [at] : []))
    const widest = cuttable.reduce(
      (most, at) => ((widths[at] ?? 0) >= (widths[most] ?? 0) ? at : most),
      cuttable[0] ?? 0,
    )
    if (cuttable.length === 0 || (widths[widest] ?? 0) <= LEAST_CELL) break
    shrink(widest, (widths[widest] ?? 0) - 1)
  }
  return widths
}

/** Each style is computed once: a thousand times takes as long as Node takes to start. */
const painter = (terminal: Terminal) => {
  const known = new Map<Style, string[]>()
  return (text: string, style: Style): string => {
    const codes = known.get(style) ?? styled('\0', style, terminal.stdout, terminal).split('\0')
    known.set(style, codes)
    return `${codes[0]}${text}${codes[1]}`
  }
}

/**
 * Columns of text under their titles. On a terminal the lines fit its width, and what is cut ends with an ellipsis; in a pipe
 * everything is printed in full.
 */
export const table = (columns: readonly Column[], rows: readonly (readonly Cell[])[], terminal: Terminal): string => {
  const all = [columns.map(titleOf), ...rows]
  const onTerminal = terminal.stdout.isTTY === true
  const widths = onTerminal ? fitWidths(columns, rows, textWidth(terminal)) : widthsOf(all)
  const ellipsis = showsUnicode(terminal) ? '…' : '...'
  const paint = painter(terminal)
  const cut = (text: string, width: number) =>
    onTerminal && text.length > width ? `${text.slice(0, Math.max(0, width - ellipsis.length))}${ellipsis}` : text
  const lineOf = (row: readonly Cell[]) => {
    let line = ''
    row.forEach((cell, at) => {
      const last = at === row.length - 1
      const width = widths[at] ?? 0
      const text = cut(textOf(cell), width)
      const padded = last ? text : text.padEnd(width)
      line += `${typeof cell === 'string' ? padded : paint(padded, cell[1])}${last ? '' : ' '.repeat(GAP)}`
    })
    return line
  }
  return all.map(lineOf).join('\n')
}

/** Lines of at most `width` characters, those after the first indented. A longer word stays whole. */
export const wrap = (text: string, width: number, indent = ''): string => {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line === '') line = word
    else if (line.length + 1 + word.length <= width - (lines.length === 0 ? 0 : indent.length)) line += ` ${word}`
    else {
      lines.push(line)
      line = word
    }
  }
  return [...lines, line].map((text, at) => (at === 0 ? text : `${indent}${text}`)).join('\n')
}

/** A sentence, wrapped on a terminal. */
export const paragraph = (text: string, terminal: Terminal): string =>
  terminal.stdout.isTTY === true ? wrap(text, textWidth(terminal)) : text

/** Two columns without titles. The second one wraps at `width`; null: it does not. */
export const pairs = (
  rows: readonly (readonly [name: string, value: Cell])[],
  terminal: Terminal,
  width: number | null,
) => {
  const first = Math.max(0, ...rows.map(([name]) => name.length)) + GAP
  const paint = painter(terminal)
  return rows
    .map(([name, cell]) => {
      const text = textOf(cell)
      const lines = width === null ? text : wrap(text, width - first).replaceAll('\n', `\n${' '.repeat(first)}`)
      return `${name.padEnd(first)}${typeof cell === 'string' ? lines : paint(lines, cell[1])}`
    })
    .join('\n')
}
