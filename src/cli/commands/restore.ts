import { checkpointArgument, machineArgument } from '../arguments.ts'
import { runChange } from '../change.ts'
import type { RunCommand } from '../terminal/output.ts'

export const run: RunCommand = async invocation => {
  const [word, name] = invocation.words
  const ticket = await machineArgument(word, invocation.terminal)
  return runChange(invocation, {
    kind: 'restore',
    ticket,
    name: name === undefined ? null : checkpointArgument(name),
  })
}
