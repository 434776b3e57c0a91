/** (w) What `list`, `status` and the look of each minute ask of AWS, with 10 and 100 environments: commands of the `aws` program, which take a second each. */
import { join } from 'node:path'
import { hostStatus } from '../src/cli/status/host.ts'
import { homeId } from '../src/config/home.ts'
import { listEnvironments, openRunnerContext } from '../src/runner/context.ts'
import { readListings } from '../src/runner/reconciler/look.ts'
import { configFor } from '../test/support/context.ts'
import { GROUP, openEc2 } from '../test/support/ec2/ec2.ts'
import { installProgram, openServer } from '../test/support/ec2/program.ts'
import type { Row } from './main.ts'
import { withHome } from './measure.ts'

const SIZES = [10, 100]

const commandsFor = (count: number): Promise<{ list: number; status: number; look: number }> =>
  withHome(async home => {
    const ec2 = openEc2({ looks: { change: 0, shown: 0 } })
    const server = await openServer(ec2)
    const bin = join(home, 'bin')
    installProgram('stand-in', bin, home, server.url)
    let commands = 0
    const config = await configFor(home, {
      PATH: `${bin}:${process.env.PATH}`,
      AGENT_SWARM_PROVIDER: 'aws',
      AGENT_SWARM_AWS_SECURITY_GROUP: GROUP,
    })
    const context = openRunnerContext(config, { onCommand: () => (commands += 1) })
    const [image, id] = [ec2.publishImage(), await homeId(home)]
    for (let n = 1; n <= count; n += 1) {
      const [ticket, vmId] = [`DROP-${n}`, `as-drop-${n}-00000001`]
      const tags = { 'agent-swarm:vm': vmId, 'agent-swarm:home': id, 'agent-swarm:ticket': ticket }
      const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }))
      ec2.call('RunInstances', {
        ...{ ImageId: image, InstanceType: 't3.medium', ClientToken: vmId },
        TagSpecifications: [{ ResourceType: 'instance', Tags }],
      })
      context.registry.adopt({ ticket, provider: 'aws', vmId, baseImage: 'base', status: 'running' })
    }
    try {
      const { environments } = await listEnvironments(context, { usage: true })
      const running = environments.filter(({ status }) => status === 'running').length
      if (running !== count) throw new Error(`${running} of ${count} machines run`)
      const list = commands
      await hostStatus(context, null)
      const status = commands - list
      const { listings, unread } = await readListings(context)
      if (listings.get('aws')?.vms.length !== count) throw new Error(`the look has not all: ${JSON.stringify(unread)}`)
      return { list, status, look: commands - list - status }
    } finally {
      context.close()
      await server.close()
      ec2.close()
    }
  })

export const awsCommands = async (): Promise<Row[]> => {
  const counts: Awaited<ReturnType<typeof commandsFor>>[] = []
  for (const size of SIZES) counts.push(await commandsFor(size))
  const names = { list: 'list', status: 'status', look: 'the look of each minute' } as const
  const rows = (['list', 'status', 'look'] as const).map(name => ({ name, counts: counts.map(each => each[name]) }))
  return rows.map(({ name, counts: each }) => ({
    row: 'w',
    what: `commands of aws for ${names[name]} with ${SIZES.join(' and ')} environments`,
    measured: each.join(', '),
    target: 'the same number',
    ok: new Set(each).size === 1,
  }))
}
