import { fail } from '../errors.ts'
import { openAttach } from '../exec.ts'
import { sshArguments } from '../runner/guest.ts'
import { openWorld } from '../runner/world.ts'
import { type RunCommand, tell, ticketArgument } from './command.ts'

export const run: RunCommand = async invocation => {
  const [word, ...command] = invocation.words
  const ticket = ticketArgument(word)
  const config = await invocation.config()
  const world = openWorld(config)
  try {
    const row = world.registry.environment(ticket)
    if (row === null)
      throw fail('no-such-environment', `${ticket} has no environment`, `Make one: agent-swarm create ${ticket}`)
    const provider = await world.provider(row.provider)
    if ((await provider.status(row.vmId)) !== 'running')
      throw fail('not-running', `${ticket} is not running`, `Start it: agent-swarm start ${ticket}`)
    const attach = openAttach(config.environment)
    // As ssh does: the words are joined, and the shell over there reads them.
    const line = command.length === 0 ? null : command.join(' ')
    if (provider.shellInGuest !== undefined) {
      if (line === null) tell(`${ticket} is ${provider.name}: this is a shell in its folder, and no machine.`)
      const { program, argv, env } = await provider.shellInGuest(row.vmId, line)
      return await attach(program, argv, env)
    }
    const ssh = await provider.sshInfo(row.vmId)
    return await attach('ssh', [
      ...sshArguments(config.home, row.vmId, ssh),
      '--',
      ssh.host,
      ...(line === null ? [] : [line]),
    ])
  } finally {
    world.close()
  }
}
