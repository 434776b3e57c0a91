import { change } from './change.ts'
import { type RunCommand, takeWords, ticketArgument } from './command.ts'

export const run: RunCommand = invocation => {
  takeWords(invocation.words, 1, 1, 'create <TICKET>')
  return change(invocation, { kind: 'create', ticket: ticketArgument(invocation.words[0]) })
}
