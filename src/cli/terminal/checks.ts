/** Checks as lines: a mark, what was checked, and what to do below it. */
import type { Check } from '../../check.ts'
import { type Invocation, onOneLine, styled, textWidth } from './output.ts'
import { wrap } from './table.ts'

const MARKS = { ok: ['✓', 'green'], warning: ['!', 'yellow'], error: ['✗', 'red'] } as const

export const checkLine = (
  { subject, status, text, remedy }: Check,
  { json, quiet, terminal }: Pick<Invocation, 'json' | 'quiet' | 'terminal'>,
): string => {
  const stream = json || quiet ? terminal.stderr : terminal.stdout
  const [mark, style] = MARKS[status]
  const words = `${subject}: ${onOneLine(text)}`
  // A remedy stays on one line: it may be a command to paste.
  const shown = stream.isTTY === true ? wrap(words, textWidth(terminal) - 2, '  ') : words
  const line = `${styled(mark, style, stream, terminal)} ${shown}`
  return remedy === null ? line : `${line}\n  ${onOneLine(remedy)}`
}
