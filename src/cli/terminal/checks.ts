/** Checks as lines: a mark, what was checked, and what to do below it. */
import type { Check } from '../../bot/check.ts'
import { type Invocation, stripControls, styled } from './output.ts'

const MARKS = { ok: ['✓', 'green'], warning: ['!', 'yellow'], error: ['✗', 'red'] } as const
const onOneLine = (text: string) => stripControls(text.replaceAll(/\s+/g, ' '))

export const checkLine = (
  { subject, status, text, remedy }: Check,
  { json, quiet, terminal }: Pick<Invocation, 'json' | 'quiet' | 'terminal'>,
): string => {
  const stream = json || quiet ? terminal.stderr : terminal.stdout
  const [mark, style] = MARKS[status]
  const line = `${styled(mark, style, stream, terminal)} ${subject}: ${onOneLine(text)}`
  return remedy === null ? line : `${line}\n  ${onOneLine(remedy)}`
}
