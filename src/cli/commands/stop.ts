import { change } from '../change.ts'
import { type RunCommand, ticketArgument } from '../terminal/output.ts'

export const run: RunCommand = invocation => {
  return change(invocation, { kind: 'stop', ticket: ticketArgument(invocation.words[0]) })
}
