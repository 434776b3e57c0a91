import { change } from '../change.ts'
import { checkpointArgument, type RunCommand, ticketArgument } from '../terminal/output.ts'

export const run: RunCommand = invocation => {
  const [ticket, name] = invocation.words
  return change(invocation, {
    kind: 'restore',
    ticket: ticketArgument(ticket),
    name: name === undefined ? null : checkpointArgument(name),
  })
}
