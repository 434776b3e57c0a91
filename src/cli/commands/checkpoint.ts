import { fail } from '../../errors.ts'
import { checkpointArgument, machineArgument } from '../arguments.ts'
import { runChange } from '../change.ts'
import type { RunCommand } from '../terminal/output.ts'

export const run: RunCommand = async invocation => {
  const [word, typedName] = invocation.words
  const ticket = await machineArgument(word, invocation.terminal)
  const name = typedName === undefined ? null : checkpointArgument(typedName)
  if (invocation.flags.delete !== true)
    return runChange(invocation, { kind: 'checkpoint', ticket, name, why: 'command', commit: null })
  if (name === null)
    throw fail('usage', '--delete needs the name of a checkpoint', `List them: agent-swarm checkpoints ${ticket}`)
  return runChange(invocation, { kind: 'delete-checkpoint', ticket, name })
}
