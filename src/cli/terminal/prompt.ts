/** Questions on a terminal, on stderr. What is typed as a secret is not shown. Ctrl-C and Escape end the command. */
import { styleText } from 'node:util'
import { fail } from '../../errors.ts'

type Choice<T extends string> = { value: T; label: string; hint?: string }
/** Says what is wrong with what was typed, or nothing. */
type Verdict = (typed: string) => string | undefined
export type Ask = {
  choose<T extends string>(question: string, choices: readonly Choice<T>[], first: T): Promise<T>
  /** `where` says where the answer is found, `present` is offered for Enter. */
  text(question: string, where: string, present: string, wrong: Verdict): Promise<string>
  /** Empty where Enter alone was pressed. */
  secret(question: string, where: string, wrong: Verdict): Promise<string>
  agree(question: string, first: boolean): Promise<boolean>
}

/** Null where nobody is there to answer. */
export const openAsk = async (signal: AbortSignal): Promise<Ask | null> => {
  const output = process.stderr
  if (!process.stdin.isTTY || !output.isTTY) return null
  const { confirm, isCancel, log, password, select, text } = await import('@clack/prompts')
  const common = { output, signal }
  const answered = async <T>(asked: Promise<T>): Promise<Exclude<T, symbol>> => {
    const answer = await asked
    if (isCancel(answer)) throw fail('cancelled', 'cancelled; nothing was changed')
    return answer as Exclude<T, symbol>
  }
  /** Under the line that the questions hang on. */
  const tell = (where: string) => {
    const lines = where.split('\n').map(line => styleText('dim', line, { stream: output }))
    log.message(lines, { output, spacing: 1 })
  }
  return {
    choose: <T extends string>(message: string, options: readonly Choice<T>[], initialValue: T) =>
      answered<string | symbol>(
        select<string>({ ...common, message, options: [...options], initialValue, showInstructions: false }),
      ) as Promise<T>,
    text: async (message, where, initialValue, wrong) => {
      tell(where)
      const typed = await answered(text({ ...common, message, initialValue, validate: one => wrong(one ?? '') }))
      return (typed ?? '').trim()
    },
    secret: async (message, where, wrong) => {
      tell(where)
      const typed = await answered(password({ ...common, message, validate: one => wrong(one ?? '') }))
      return (typed ?? '').trim()
    },
    agree: (message, initialValue) => answered(confirm({ ...common, message, initialValue })),
  }
}
