/** A program that gets its commands one after the other on its standard input, while somebody reads what it prints. */
import { fail } from '../../src/errors.ts'

/** `say` gives it more commands; `next` resolves with the next line that it prints of this form, and fails when it has ended. */
export type Talk = {
  say(...commands: (readonly string[])[]): void
  next(form: RegExp): Promise<RegExpMatchArray>
}

export const openTalk = (lineOf: (command: readonly string[]) => string) => {
  const commands: string[] = []
  const lines: string[] = []
  let isEnded = false
  let wake = Promise.withResolvers<void>()
  const changed = () => {
    wake.resolve()
    wake = Promise.withResolvers()
  }
  const inputs = async function* () {
    while (true) {
      while (commands.length > 0) yield commands.splice(0).join('')
      if (isEnded) return
      await wake.promise
    }
  }
  const talk: Talk = {
    say: (...more) => {
      commands.push(...more.map(command => `${lineOf(command)}\n`))
      changed()
    },
    next: async form => {
      while (true) {
        for (let line = lines.shift(); line !== undefined; line = lines.shift()) {
          const match = line.match(form)
          if (match !== null) return match
        }
        if (isEnded) throw fail('cancelled', 'talking to a program: it ended')
        await wake.promise
      }
    },
  }
  return {
    ...talk,
    inputs: inputs(),
    onLine: (line: string) => {
      lines.push(line)
      changed()
    },
    end: () => {
      isEnded = true
      changed()
    },
  }
}
