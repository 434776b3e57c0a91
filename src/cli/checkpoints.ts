import { fail } from '../errors.ts'
import { openWorld } from '../runner/world.ts'
import { age, columns, print, printJson, type RunCommand, tell, ticketArgument } from './command.ts'

export const run: RunCommand = async invocation => {
  const ticket = ticketArgument(invocation.words[0])
  const world = openWorld(await invocation.config())
  try {
    const row = world.registry.environment(ticket)
    if (row === null)
      throw fail('no-such-environment', `${ticket} has no environment`, `Make one: agent-swarm create ${ticket}`)
    const there = await (await world.provider(row.provider)).listCheckpoints(row.vmId)
    const known = new Map(world.registry.checkpoints(ticket).map(one => [one.name, one]))
    const found = there.map(
      name => known.get(name) ?? { name, why: null, commit: null, createdAt: null, withMemory: null },
    )
    if (invocation.json) printJson(found)
    else if (found.length === 0) tell(`${ticket} has no checkpoints. Make one: agent-swarm checkpoint ${ticket} [name]`)
    else {
      const now = world.clock()
      print(
        columns([
          ['NAME', 'AGE', 'WHY', 'COMMIT', 'MEMORY'],
          ...found.map(one => [
            one.name,
            one.createdAt === null ? '-' : age(one.createdAt, now),
            one.why ?? '-',
            one.commit?.slice(0, 7) ?? '-',
            one.withMemory === null ? '-' : one.withMemory ? 'yes' : 'no',
          ]),
        ]),
      )
    }
    return 0
  } finally {
    world.close()
  }
}
