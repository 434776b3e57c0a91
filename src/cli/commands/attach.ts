/** A tmux session in the machine: what the agent does, and a shell beside it. */

import { shellCommand } from '../../command-line.ts'
import { fail } from '../../errors.ts'
import { attachProgram } from '../../exec.ts'
import { attachLine } from '../../runner/agent/guest.ts'
import { resolveTicket } from '../../runner/context.ts'
import { sshArguments } from '../../runner/ssh/options.ts'
import { machineArgument } from '../arguments.ts'
import { runningMachine } from '../running-machine.ts'
import { printNote, type RunCommand } from '../terminal/output.ts'
import { openProgress } from '../terminal/progress.ts'
import { withRunnerContext } from '../with-context.ts'

export const run: RunCommand = async invocation => {
  const { terminal, verbose } = invocation
  const typed = await machineArgument(invocation.words[0], terminal)
  if (terminal.stdin.isTTY !== true)
    throw fail('usage', 'attach needs a terminal', `Without one: agent-swarm status ${typed}`)
  const progress = openProgress(invocation)
  return withRunnerContext(
    invocation,
    async context => {
      const ticket = resolveTicket(context, typed)
      const { vmId, provider: name } = await runningMachine(invocation, 'attach', context, ticket, progress)
      progress.end(true)
      const agent = context.registry.agent(ticket)
      if (agent === null)
        throw fail('not-configured', `${ticket} has no agent`, `Start one: agent-swarm agent start ${ticket}`)
      const { runInGuest, sshInfo } = await context.provider(name)
      if (runInGuest !== undefined) throw fail('unsupported', `attach needs SSH, and a machine of ${name} has none`)
      const ssh = await sshInfo(vmId)
      const argv = [...sshArguments(context.home, vmId, ssh), '-t', '--', ssh.host, attachLine(agent.run)]
      if (verbose) printNote(`+ ${shellCommand('ssh', argv)}`, terminal)
      return attachProgram(context.config.environment, 'ssh', argv)
    },
    progress.note,
  )
}
