import { change } from './change.ts'
import { type RunCommand, takeWords, ticketArgument } from './command.ts'

export const run: RunCommand = invocation => {
  takeWords(invocation.words, 1, 1, 'stop <TICKET>')
  return change(invocation, { kind: 'stop', ticket: ticketArgument(invocation.words[0]) })
}
