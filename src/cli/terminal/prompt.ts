/** Questions on a terminal, on stderr. A secret is not shown while it is typed. Ctrl-C and Escape end the command. */
import { styleText } from 'node:util'
import { fail } from '../../errors.ts'

type Choice<T extends string> = { value: T; label: string; hint?: string }
/** Says what is wrong with the input; undefined when nothing is. */
type Validate = (input: string) => string | undefined
export type Ask = NonNullable<Awaited<ReturnType<typeof openAsk>>>

/** Null when nobody is at a terminal to answer. */
export const openAsk = async (signal: AbortSignal) => {
  const output = process.stderr
  if (!process.stdin.isTTY || !output.isTTY) return null
  const { confirm, isCancel, log, multiselect, password, select, text } = await import('@clack/prompts')
  const common = { output, signal }
  const uncancelled = async <T>(prompt: Promise<T>): Promise<Exclude<T, symbol>> => {
    const answer = await prompt
    if (isCancel(answer)) throw fail('cancelled', 'cancelled; nothing was changed')
    return answer as Exclude<T, symbol>
  }
  const showHint = (hint: string) => {
    const lines = hint.split('\n').map(line => styleText('dim', line, { stream: output }))
    log.message(lines, { output, spacing: 1 })
  }
  return {
    choose: <T extends string>(message: string, options: readonly Choice<T>[], initialValue: T) =>
      uncancelled<string | symbol>(
        select<string>({ ...common, message, options: [...options], initialValue, showInstructions: false }),
      ) as Promise<T>,
    /** Space chooses, Enter goes on. */
    chooseMany: (message: string, options: readonly Choice<string>[], initialValues: string[], required: boolean) =>
      uncancelled<string[] | symbol>(
        multiselect<string>({ ...common, message, options: [...options], initialValues, required }),
      ),
    /** `hint` says where the answer can be found; `initialValue` is taken by Enter. */
    text: async (message: string, hint: string, initialValue: string, validate: Validate) => {
      showHint(hint)
      const answer = await uncancelled(
        text({ ...common, message, initialValue, validate: input => validate(input ?? '') }),
      )
      return (answer ?? '').trim()
    },
    /** Empty when Enter alone was pressed. */
    secret: async (message: string, hint: string, validate: Validate) => {
      showHint(hint)
      const answer = await uncancelled(password({ ...common, message, validate: input => validate(input ?? '') }))
      return (answer ?? '').trim()
    },
    agree: (message: string, initialValue: boolean) => uncancelled(confirm({ ...common, message, initialValue })),
  }
}
