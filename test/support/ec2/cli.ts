/** The command line on machines of our stand-in for EC2: `aws` and `ssh` on PATH lead to it and to its guests. */
import { join } from 'node:path'
import { openCli } from '../cli.ts'
import { GROUP, openEc2 } from './ec2.ts'
import { guestOn } from './guest.ts'
import { installProgram, installSsh, openServer } from './program.ts'

export const openAwsCli = async () => {
  const cli = openCli()
  const ec2 = openEc2({ looks: { change: 1, shown: 1 } })
  const server = await openServer(ec2, guestOn(ec2))
  const bin = join(cli.home, 'bin')
  installProgram('stand-in', bin, cli.home, server.url)
  installSsh(bin, server.url)
  const environment = {
    PATH: `${bin}:${process.env.PATH}`,
    AGENT_SWARM_PROVIDER: 'aws',
    AGENT_SWARM_AWS_REGION: 'eu-central-1',
    AGENT_SWARM_AWS_SECURITY_GROUP: GROUP,
  }
  const swarm = async (...words: string[]) => {
    const ran = await cli.swarm(words, environment)
    if (ran.code !== 0) throw new Error(`${words.join(' ')}: ${ran.stderr}`)
    return ran
  }
  return {
    ...{ cli, ec2, environment, swarm },
    json: (...words: string[]) => cli.json(words, environment),
    close: async () => {
      await server.close()
      cli.close()
      ec2.close()
    },
  }
}
