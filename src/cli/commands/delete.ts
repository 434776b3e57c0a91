import { machineArgument } from '../arguments.ts'
import { runChange } from '../change.ts'
import type { RunCommand } from '../terminal/output.ts'

export const run: RunCommand = async invocation => {
  const ticket = await machineArgument(invocation.words[0], invocation.terminal)
  return runChange(invocation, { kind: 'delete', ticket, force: invocation.flags.force === true })
}
