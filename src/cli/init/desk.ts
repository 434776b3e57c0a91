/** Where a set-up asks, tries what was answered, and says what it found. */
import { styleText } from 'node:util'
import type { Check } from '../../bot/check.ts'
import { fail } from '../../errors.ts'
import { type Invocation, print, printNote, stripControls } from '../terminal/output.ts'
import { type Ask, openAsk } from '../terminal/prompt.ts'
import { type Answers, openAnswers } from './answers.ts'

const MARKS = { right: ['✓', 'green'], note: ['!', 'yellow'], wrong: ['✗', 'red'] } as const
/** On one line, whatever a program said. */
const flat = (text: string) => stripControls(text.replaceAll(/\s+/g, ' '))
const lineOf = ({ of, found, says, remedy }: Check, stream: NodeJS.WriteStream): string => {
  const [mark, style] = MARKS[found]
  return `${styleText(style, mark, { stream })} ${of}: ${flat(says)}${remedy === null ? '' : `\n  ${flat(remedy)}`}`
}
export const isWrong = (checks: readonly Check[]) => checks.some(one => one.found === 'error')

export type Desk = {
  home: string
  flags: Invocation['flags']
  signal: AbortSignal
  dryRun: boolean
  /** Null: nobody is there to answer. */
  ask: Ask | null
  answers: Answers
  checks: readonly Check[]
  say(text: string): void
  /** Keeps what was found, and shows it. */
  note(found: readonly Check[]): void
  /** Outside requests have deadlines, and Ctrl-C does not wait for these. */
  unlessCancelled<T>(work: Promise<T>): Promise<T>
  /** Asks and tries until it is right, or the person leaves it so. Returns whether it is right. */
  settle(questions: (again: boolean) => Promise<void>, look: () => Promise<Check[]>): Promise<boolean>
}

export const openDesk = async ({ flags, json, quiet, signal }: Invocation, home: string): Promise<Desk> => {
  const ask = await openAsk(signal)
  const answers = await openAnswers(home, flags, ask)
  const checks: Check[] = []
  // With --json, stdout is for the one answer at the end.
  const say = (text: string) => {
    if (!quiet) (json ? printNote : print)(text)
  }
  const show = (found: readonly Check[]) => {
    for (const one of found) {
      if (!quiet) say(lineOf(one, json ? process.stderr : process.stdout))
      else if (one.found === 'error') printNote(lineOf(one, process.stderr))
    }
  }
  const { promise: cancelled, reject } = Promise.withResolvers<never>()
  cancelled.catch(() => {})
  const stop = () => reject(fail('cancelled', 'cancelled; nothing was changed'))
  signal.addEventListener('abort', stop, { once: true })
  if (signal.aborted) stop()
  const unlessCancelled = <T>(work: Promise<T>): Promise<T> => Promise.race([work, cancelled])

  return {
    ...{ home, flags, signal, ask, answers, checks, say, unlessCancelled },
    dryRun: flags['dry-run'] === true,
    note: found => {
      show(found)
      checks.push(...found)
    },
    settle: async (questions, look) => {
      for (let again = false; ; again = true) {
        await questions(again)
        const found = await unlessCancelled(look())
        show(found)
        if (ask !== null && isWrong(found) && (await ask.agree('Answer that again?', true))) continue
        checks.push(...found)
        return !isWrong(found)
      }
    },
  }
}
