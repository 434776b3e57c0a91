import { listEnvironments, openWorld } from '../runner/world.ts'
import { age, columns, print, printJson, type RunCommand, size, tell } from './command.ts'

export const run: RunCommand = async invocation => {
  const world = openWorld(await invocation.config())
  try {
    const { environments, unread } = await listEnvironments(world, { disk: true })
    for (const one of unread) tell(`${one.message}\nIts environments are shown as they were known last.`)
    if (invocation.json) {
      printJson(
        environments.map(one => ({
          ticket: one.ticket,
          provider: one.provider,
          vmId: one.vmId,
          ip: one.ip,
          status: one.status,
          baseImage: one.baseImage,
          createdAt: one.createdAt,
          diskBytes: one.diskBytes,
          ssh: one.ssh,
          checkpoints: one.checkpoints.map(checkpoint => checkpoint.name),
        })),
      )
    } else if (environments.length === 0) {
      tell('There are no environments. Make one: agent-swarm create <TICKET>')
    } else {
      const now = world.clock()
      print(
        columns([
          ['TICKET', 'PROVIDER', 'STATUS', 'ADDRESS', 'AGE', 'DISK', 'CHECKPOINTS'],
          ...environments.map(one => [
            one.ticket,
            one.provider,
            one.status,
            one.ip ?? '-',
            age(one.createdAt, now),
            size(one.diskBytes),
            String(one.checkpoints.length),
          ]),
        ]),
      )
    }
    return 0
  } finally {
    world.close()
  }
}
