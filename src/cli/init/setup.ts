/** The context of one run of `agent-swarm init`. */
import type { Check } from '../../check.ts'
import { fail } from '../../errors.ts'
import { checkLine } from '../terminal/checks.ts'
import { type Invocation, print, printNote } from '../terminal/output.ts'
import { type Ask, openAsk } from '../terminal/prompt.ts'
import { type Answers, openAnswers } from './answers.ts'

export type Setup = {
  invocation: Invocation
  dryRun: boolean
  /** Null without a terminal. */
  ask: Ask | null
  answers: Answers
  /** The results so far. */
  checks: Check[]
  /** Commands to run after init. */
  next: Set<string>
  say(text: string): void
}

export const openSetup = async (invocation: Invocation, home: string): Promise<Setup> => ({
  ...{ invocation, dryRun: invocation.flags['dry-run'] === true, checks: [], next: new Set() },
  ask: invocation.terminal.stdin.isTTY ? await openAsk(invocation.signal) : null,
  answers: await openAnswers(home, invocation.flags),
  // With --json, stdout is for the result.
  say: text => {
    if (!invocation.quiet) (invocation.json ? printNote : print)(text, invocation.terminal)
  },
})

export const show = ({ invocation: { json, quiet, terminal }, say }: Setup, checks: readonly Check[]) => {
  for (const check of checks) {
    const { status } = check
    const line = checkLine(check, { json, quiet, terminal })
    if (!quiet) say(line)
    else if (status === 'error') printNote(line, terminal)
  }
}

/** Ctrl-C does not wait for an outside request. */
export const unlessCancelled = async <T>({ invocation: { signal } }: Setup, work: Promise<T>): Promise<T> => {
  const { promise: cancelled, reject } = Promise.withResolvers<never>()
  const cancel = () => reject(fail('cancelled', 'cancelled; nothing was changed'))
  signal.addEventListener('abort', cancel, { once: true })
  if (signal.aborted) cancel()
  return Promise.race([work, cancelled]).finally(() => signal.removeEventListener('abort', cancel))
}
