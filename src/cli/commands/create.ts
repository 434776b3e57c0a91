import { ticketArgument } from '../arguments.ts'
import { runChange } from '../change.ts'
import type { RunCommand } from '../terminal/output.ts'

export const run: RunCommand = async invocation =>
  runChange(invocation, { kind: 'create', ticket: ticketArgument(invocation.words[0]) })
