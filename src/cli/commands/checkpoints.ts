import { requireEnvironment } from '../../runner/context.ts'
import { age, columns, print, printJson, printNote, type RunCommand, size, ticketArgument } from '../terminal/output.ts'
import { withRunnerContext } from '../with-context.ts'

export const run: RunCommand = invocation =>
  withRunnerContext(invocation, async world => {
    const row = requireEnvironment(world, ticketArgument(invocation.words[0]))
    const { ticket } = row
    const there = await (await world.provider(row.provider)).listCheckpoints(row.vmId)
    const known = new Map(world.registry.checkpoints(ticket).map(one => [one.name, one]))
    // One that the registry does not know was made by somebody else, or by a process that died: its name is all that is known.
    const found = there.map(
      name => known.get(name) ?? { name, why: null, commit: null, createdAt: null, withMemory: null, sizeBytes: null },
    )
    if (invocation.json) printJson<'checkpoints'>(found)
    else if (found.length === 0)
      printNote(`${ticket} has no checkpoints. Make one: agent-swarm checkpoint ${ticket} [name]`)
    else {
      const now = world.clock()
      print(
        columns([
          ['NAME', 'AGE', 'WHY', 'COMMIT', 'SIZE', 'MEMORY'],
          ...found.map(one => [
            one.name,
            one.createdAt === null ? '-' : age(one.createdAt, now),
            one.why ?? '-',
            one.commit?.slice(0, 7) ?? '-',
            size(one.sizeBytes),
            one.withMemory === null ? '-' : one.withMemory ? 'yes' : 'no',
          ]),
        ]),
      )
    }
    return 0
  })
