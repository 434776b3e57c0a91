import { fail } from '../../errors.ts'
import { openAttach } from '../../exec.ts'
import { sshArguments } from '../../runner/ssh/options.ts'
import { runningMachine } from '../running.ts'
import { printNote, type RunCommand, ticketArgument } from '../terminal/output.ts'
import { openProgress } from '../terminal/progress.ts'
import { shellCommand, withRunnerContext } from '../with-context.ts'

const FOR_CONFIG = ['install', 'uninstall', 'dry-run', 'json']

export const run: RunCommand = async invocation => {
  const { flags, quiet, verbose } = invocation
  if (flags.config === true) return (await import('./ssh-config.ts')).run(invocation)
  const alone = FOR_CONFIG.find(flag => flags[flag] === true)
  if (alone !== undefined) throw fail('usage', `--${alone} goes with --config`)
  const [word, ...command] = invocation.words
  if (word === undefined)
    throw fail('usage', 'something is missing: agent-swarm ssh <TICKET>, or agent-swarm ssh --config')
  const ticket = ticketArgument(word)
  const progress = openProgress({ quiet })
  return withRunnerContext(
    invocation,
    async world => {
      const { vmId, provider: name } = await runningMachine(invocation, 'ssh', world, ticket, progress)
      const provider = await world.provider(name)
      progress.end(true)
      const attach = openAttach(world.config.environment)
      // As ssh does: the words are joined, and the shell over there reads them.
      const line = command.length === 0 ? null : command.join(' ')
      if (provider.shellInGuest !== undefined) {
        if (line === null && !quiet)
          printNote(`${ticket} is ${provider.name}: this is a shell in its folder, and no machine.`)
        const { program, argv, env } = await provider.shellInGuest(vmId, line)
        return attach(program, argv, env)
      }
      const ssh = await provider.sshInfo(vmId)
      const argv = [...sshArguments(world.home, vmId, ssh), '--', ssh.host, ...(line === null ? [] : [line])]
      if (verbose) printNote(`+ ${shellCommand('ssh', argv)}`)
      return attach('ssh', argv)
    },
    progress.note,
  )
}
