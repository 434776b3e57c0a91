import { change } from '../change.ts'
import { type RunCommand, ticketArgument } from '../terminal/output.ts'

export const run: RunCommand = invocation => {
  return change(invocation, {
    kind: 'delete',
    ticket: ticketArgument(invocation.words[0]),
    force: invocation.flags.force === true,
  })
}
