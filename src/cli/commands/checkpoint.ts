import { fail } from '../../errors.ts'
import { change } from '../change.ts'
import { checkpointArgument, type RunCommand, ticketArgument } from '../terminal/output.ts'

export const run: RunCommand = async invocation => {
  const [word, named] = invocation.words
  const ticket = ticketArgument(word)
  const name = named === undefined ? null : checkpointArgument(named)
  if (invocation.flags.delete !== true)
    return change(invocation, { kind: 'checkpoint', ticket, name, why: 'command', commit: null })
  if (name === null)
    throw fail('usage', 'checkpoint --delete: which one?', `Name it. There are: agent-swarm checkpoints ${ticket}`)
  return change(invocation, { kind: 'delete-checkpoint', ticket, name })
}
