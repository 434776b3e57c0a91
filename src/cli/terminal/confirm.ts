/** A question on the terminal that is answered with yes or no. */
import { fail } from '../../errors.ts'
import type { Invocation, Terminal } from './output.ts'

/** One line typed on the terminal; null at its end and when `signal` aborts. */
const readLine = (stdin: Terminal['stdin'], signal: AbortSignal): Promise<string | null> =>
  new Promise(resolve => {
    const finish = (line: string | null) => {
      // Now, because what is typed after this line may be for a machine.
      stdin.pause()
      stdin.off('data', onData)
      stdin.off('end', onEnd)
      signal.removeEventListener('abort', onEnd)
      resolve(line)
    }
    const onData = (chunk: Buffer) => finish(chunk.toString())
    const onEnd = () => finish(null)
    stdin.on('data', onData)
    stdin.on('end', onEnd)
    signal.addEventListener('abort', onEnd)
    if (signal.aborted) onEnd()
  })

/** Whether somebody is there to answer. */
export const canAsk = ({ stdin, stderr }: Terminal): boolean => stdin.isTTY === true && stderr.isTTY === true

/** `byEnter`: what an empty line means. False without a terminal. */
export const confirm = async (
  question: string,
  byEnter: 'yes' | 'no',
  { terminal, signal }: Pick<Invocation, 'terminal' | 'signal'>,
): Promise<boolean> => {
  const { stdin, stderr } = terminal
  if (!canAsk(terminal)) return false
  stderr.write(`${question} ${byEnter === 'yes' ? '[Y/n]' : '[y/N]'} `)
  const answer = await readLine(stdin, signal)
  if (answer !== null) return answer.trim() === '' ? byEnter === 'yes' : /^\s*(y|yes)\s*$/i.test(answer)
  stderr.write('\n')
  if (signal.aborted) throw fail('cancelled', 'cancelled; nothing was changed')
  return false
}

/** Of a command that deletes: whether it asks. */
export const mayAsk = ({ flags, terminal }: Invocation): boolean =>
  flags.yes !== true && flags['dry-run'] !== true && canAsk(terminal)

/** Of a command that deletes. Throws when the answer is no. */
export const requireConsent = async (
  question: string,
  command: 'delete' | 'promote',
  invocation: Invocation,
): Promise<void> => {
  const { flags, terminal } = invocation
  const wayOn = `To ${command} without being asked: --yes`
  // Somebody types, and would not see the question: `2>&1 | tee log`.
  if (flags.yes !== true && flags['dry-run'] !== true && terminal.stdin.isTTY === true && !canAsk(terminal))
    throw fail(
      'usage',
      `${command} asks first, and nobody would see the question: standard error is not a terminal`,
      wayOn,
    )
  if (mayAsk(invocation) && !(await confirm(question, 'no', invocation)))
    throw fail('cancelled', 'nothing was deleted', wayOn)
}

/** Of a command that shows its plan first: whether it may be carried out. `--yes` agrees; `--dry-run`, and nobody there to ask, do not. */
export const isAgreed = async (question: string, invocation: Invocation): Promise<boolean> => {
  const { flags, json } = invocation
  if (flags['dry-run'] === true) return false
  return flags.yes === true || (!json && (await confirm(question, 'no', invocation)))
}
