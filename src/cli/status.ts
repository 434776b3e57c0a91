import { statfs } from 'node:fs/promises'
import { availableParallelism, freemem, hostname, totalmem } from 'node:os'
import { fail } from '../errors.ts'
import { sayWorkAtRisk } from '../runner/work-at-risk.ts'
import { listEnvironments, openWorld, type World } from '../runner/world.ts'
import {
  age,
  columns,
  type Invocation,
  print,
  printJson,
  type RunCommand,
  size,
  tell,
  ticketArgument,
} from './command.ts'

const LAST_OPERATIONS = 10

const host = async (world: World, invocation: Invocation): Promise<number> => {
  const { environments, unread } = await listEnvironments(world, { disk: true })
  const disk = await statfs(world.home)
  const facts = {
    host: hostname(),
    cpus: availableParallelism(),
    memoryBytes: { total: totalmem(), free: freemem() },
    diskBytes: { total: disk.blocks * disk.bsize, free: disk.bavail * disk.bsize },
    environments: { total: environments.length, running: environments.filter(one => one.status === 'running').length },
    diskUsedBytes: environments.reduce((sum, one) => sum + (one.diskBytes ?? 0), 0),
    unread,
  }
  if (invocation.json) printJson(facts)
  else {
    for (const one of unread) tell(one.message)
    print(
      columns([
        ['host', `${facts.host}, ${facts.cpus} CPUs`],
        ['memory', `${size(facts.memoryBytes.free)} free of ${size(facts.memoryBytes.total)}`],
        ['disk', `${size(facts.diskBytes.free)} free of ${size(facts.diskBytes.total)}`],
        [
          'environments',
          `${facts.environments.total}, of them ${facts.environments.running} running, ${size(facts.diskUsedBytes)} on disk`,
        ],
      ]),
    )
  }
  return 0
}

export const run: RunCommand = async invocation => {
  const world = openWorld(await invocation.config())
  try {
    const [word] = invocation.words
    if (word === undefined) return await host(world, invocation)
    const ticket = ticketArgument(word)
    const { environments, unread } = await listEnvironments(world, { disk: true })
    const environment = environments.find(one => one.ticket === ticket)
    const operations = world.registry.operations(ticket, LAST_OPERATIONS)
    if (environment === undefined && operations.length === 0) {
      throw fail('no-such-environment', `${ticket} has no environment`, `Make one: agent-swarm create ${ticket}`)
    }
    const row = world.registry.environment(ticket)
    if (invocation.json) {
      printJson({
        ticket,
        environment: environment ?? null,
        desired: row?.desired ?? null,
        desiredBy: row?.desiredBy ?? null,
        operations,
      })
      return 0
    }
    for (const one of unread) tell(`${one.message}\nWhat follows is as it was known last.`)
    const now = world.clock()
    if (environment === undefined) print(`${ticket} has no environment.`)
    else {
      print(
        columns([
          ['ticket', ticket],
          ['status', environment.status],
          [
            'provider',
            environment.provider === 'synthetic' ? 'synthetic (a directory, no machine)' : environment.provider,
          ],
          ['machine', environment.vmId],
          ['address', environment.ip ?? '-'],
          ['base image', environment.baseImage],
          ['age', age(environment.createdAt, now)],
          ['disk', size(environment.diskBytes)],
          ['checkpoints', environment.checkpoints.map(one => one.name).join(', ') || '-'],
          ...(environment.workAtRisk === null ||
          (environment.workAtRisk.known && environment.workAtRisk.repositories.length === 0)
            ? []
            : [['work at risk', sayWorkAtRisk(environment.workAtRisk)]]),
        ]),
      )
    }
    if (operations.length > 0) {
      print('')
      print(
        columns([
          ['AGO', 'OPERATION', 'BY', 'ENDED'],
          ...operations.map(one => [
            age(one.startedAt, now),
            [one.kind, one.detail?.name, one.detail?.force === true ? '--force' : undefined].filter(Boolean).join(' '),
            one.by.who === null ? one.by.via : `${one.by.who} (${one.by.via})`,
            one.outcome?.result === 'failed'
              ? `failed: ${one.outcome.failure.message}`
              : (one.result ?? `under way: ${one.phases.at(-1)?.phase ?? 'beginning'}`),
          ]),
        ]),
      )
    }
    return 0
  } finally {
    world.close()
  }
}
