/** A bench of machines on our stand-in for EC2, in a home of its own. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pauses } from '../../../providers/aws/context.ts'
import { openAws } from '../../../providers/aws/index.ts'
import { type AwsSettings, awsSettings } from '../../../providers/aws/settings.ts'
import type { CreateOptions } from '../../../providers/provider.ts'
import { openRun, type Run } from '../../../src/exec.ts'
import type { TestBench } from '../../providers/conformance.ts'
import { until } from '../wait.ts'
import { type Ec2, GROUP, openEc2 } from './ec2.ts'
import { installProgram, openServer, standInRun } from './program.ts'

export const HOME_ID = '00112233445566ff'
export const OTHER_HOME_ID = 'ffff000011112222'
export const BASE = 'agent-swarm-base'

export const settingsWith = (more: Partial<AwsSettings> = {}): AwsSettings => ({
  ...{ awsRegion: 'eu-central-1', awsSecurityGroup: GROUP, awsSubnet: null, awsPrices: null, awsProfile: null },
  ...{ awsTypes: [...awsSettings.awsTypes.default], awsMarket: 'on-demand' },
  ...more,
})

export const awsOptions = (vmId: string): CreateOptions => ({
  ...{ vmId, cpus: 2, memoryMiB: 4096, diskGiB: 20, publicKey: 'ssh-ed25519 AAAA test' },
  hostKey: { privateKey: 'PRIVATE HOST KEY', publicKey: 'ssh-ed25519 BBBB host' },
})

type Opened = {
  home: string
  run: Run
  homeId?: string
  knows?: (vmId: string) => boolean
  settings?: Partial<AwsSettings>
}
const openAwsIn = ({ home, run, homeId = HOME_ID, knows = () => false, settings = {} }: Opened) => {
  pauses.between = () => new Promise(resolve => setImmediate(resolve))
  return openAws({ run, home, homeId, knows, settings: settingsWith(settings) })
}

/** The provider over the stand-in in this process, with a base image. */
export const openUnit = (options: Parameters<typeof openEc2>[0] & { settings?: Partial<AwsSettings> } = {}) => {
  const { settings = {}, ...more } = options
  const ec2 = openEc2({ looks: { change: 1, shown: 1 }, ...more })
  const home = join(ec2.root, 'home')
  mkdirSync(home)
  ec2.baseImage(BASE, HOME_ID)
  const commands: string[][] = []
  const run = standInRun(ec2, argv => commands.push([...argv]))
  const open = (rest: Partial<Opened> = {}) => openAwsIn({ home, run, settings, ...rest })
  return { ec2, home, run, commands, open, provider: open() }
}
export type Unit = ReturnType<typeof openUnit>

/** Over a real `aws`, or the stand-in as a program on PATH. `close` fails when anything is left of a machine. */
export const openAwsBench = async (kind: 'real' | 'stand-in', ec2: Ec2): Promise<TestBench> => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-aws-'))
  const server = await openServer(ec2)
  installProgram(kind, join(home, 'bin'), home, server.url)
  const run = openRun({ HOME: home, PATH: `${join(home, 'bin')}:${process.env.PATH}` })
  const imageId = ec2.baseImage(BASE, HOME_ID)
  const provider = openAwsIn({ home, run })
  const before = ec2.everything()
  return {
    provider,
    otherHome: openAwsIn({ home, run, homeId: OTHER_HOME_ID }),
    baseImage: BASE,
    options: async vmId => awsOptions(vmId),
    ready: async vmId => {
      await until(`${vmId} to have an address`, () =>
        provider.sshInfo(vmId).then(
          ({ host }) => host === ec2.instanceOf(vmId).publicIp,
          () => false,
        ),
      )
      // The program encoded it, once.
      const text = Buffer.from(ec2.instanceOf(vmId).userData, 'base64').toString()
      if (!text.startsWith('#cloud-config\n')) throw new Error(`user data of ${vmId}: ${text.slice(0, 40)}`)
    },
    script: (vmId, text) => ec2.script(vmId, text),
    close: async () => {
      await server.close()
      const left = ec2.everything().filter(id => !before.includes(id))
      rmSync(home, { recursive: true })
      ec2.state.images.delete(imageId)
      if (left.length > 0) throw new Error(`left behind: ${left}`)
    },
  }
}
