/** The commands that change an environment: what each makes of its words and options. */
import { fail } from '../../errors.ts'
import { checkpointArgument, machineArgument, ticketArgument } from '../arguments.ts'
import { runChange } from '../change.ts'
import type { ChangeCommand } from '../change-kinds.ts'
import type { Invocation, RunCommand } from '../terminal/output.ts'

const ticketOf = ({ words: [word], terminal }: Invocation) => machineArgument(word, terminal)
const nameOf = ({ words: [, name] }: Invocation) => (name === undefined ? null : checkpointArgument(name))

export const changes: Record<ChangeCommand, RunCommand> = {
  create: async invocation => runChange(invocation, { kind: 'create', ticket: ticketArgument(invocation.words[0]) }),
  start: async invocation => runChange(invocation, { kind: 'start', ticket: await ticketOf(invocation) }),
  stop: async invocation => runChange(invocation, { kind: 'stop', ticket: await ticketOf(invocation) }),
  delete: async invocation => {
    const force = invocation.flags.force === true
    return runChange(invocation, { kind: 'delete', ticket: await ticketOf(invocation), force })
  },
  restore: async invocation =>
    runChange(invocation, { kind: 'restore', ticket: await ticketOf(invocation), name: nameOf(invocation) }),
  checkpoint: async invocation => {
    const ticket = await ticketOf(invocation)
    const name = nameOf(invocation)
    if (invocation.flags.delete !== true)
      return runChange(invocation, { kind: 'checkpoint', ticket, name, why: 'command', commit: null })
    if (name === null)
      throw fail('usage', '--delete needs the name of a checkpoint', `List them: agent-swarm checkpoints ${ticket}`)
    return runChange(invocation, { kind: 'delete-checkpoint', ticket, name })
  },
}
