import { change } from './change.ts'
import { type RunCommand, takeWords, ticketArgument } from './command.ts'

export const run: RunCommand = invocation => {
  takeWords(invocation.words, 1, 1, 'delete <TICKET> [--force]')
  return change(invocation, {
    kind: 'delete',
    ticket: ticketArgument(invocation.words[0]),
    force: invocation.flags.force === true,
  })
}
