/** The life of machines: created, started, stopped, listed. */
import { createHash } from 'node:crypto'
import { GUEST_USER, userData } from '../../base-image/seed.ts'
import type { EnvironmentKey } from '../../src/domain.ts'
import { fail, isFailure } from '../../src/errors.ts'
import type { CreateOptions, ForeignMachine, Interruption, SshInfo, VmInfo } from '../provider.ts'
import {
  addressOf,
  byTag,
  type Context,
  describeInstances,
  isOurs,
  isPresent,
  LOOKS_FOR_NEW,
  listMarked,
  look,
  lookIfExists,
  type Machine,
  MOST_LOOKS,
  machinesIn,
  ownMachines,
  poll,
  statusOf,
} from './context.ts'
import { deleteMachine } from './delete.ts'
import { codeOf } from './explain.ts'
import { findImage, imageBytes, requireProven } from './images.ts'
import { interruptionsOf } from './interruptions.ts'
import { forgetLaunch, isLaunchNoted, noteLaunch } from './launch-note.ts'
import { markTags, type Size, sizeTag, specifications, TAG, tagOf } from './marks.ts'
import { type Image, type Instance, launched, type Tag } from './parse.ts'
import { learnPrice } from './prices.ts'
import type { AwsSettings } from './settings.ts'
import { chooseType } from './types.ts'

/** Looks at a guest that shuts down, which take five minutes together. Then its power is cut. */
const LOOKS_AT_SHUTDOWN = 90
/** Each attempt has a token of its own: that of a machine that is terminated brings that one back. */
const MOST_ATTEMPTS = 5
const GIB = 1024 ** 3

/** The same words give the same token: AWS then does again what it did, instead of doing it twice. 64 characters. */
export const clientToken = (...words: readonly string[]): string =>
  createHash('sha256').update(words.join('\n')).digest('hex')

// ── Create ──

/** `machineId`: of one whose disk was another machine's. */
type Seeded = Pick<CreateOptions, 'publicKey' | 'hostKey'> & { machineId?: string }
type Launch = {
  ticket: EnvironmentKey | null
  options: Seeded & { vmId: string }
  image: Pick<Image, 'ImageId' | 'RootDeviceName'>
  size: Size
  market: AwsSettings['awsMarket']
  /** A launch of it was interrupted before. */
  isAgain: boolean
}

const seedTag = ({ publicKey, hostKey, machineId }: Seeded): Tag => ({
  Key: TAG.seed,
  Value: clientToken(publicKey, hostKey.publicKey, ...(machineId === undefined ? [] : [machineId])),
})
/** Whether it was made with other keys: nobody can log in to it, or knows it by its host key. Or by another call of a fork. */
const hasOtherKeys = ({ Tags }: Instance, options: Seeded): boolean =>
  ![null, seedTag(options).Value].includes(tagOf(Tags, TAG.seed))

/** Everything of the machine gets its mark as it is made: what a crash leaves has an owner. */
const launchRequest = (context: Context, launch: Launch, attempt: number) => {
  const { ticket, options, image, size, market } = launch
  const { vmId } = options
  const { awsSecurityGroup, awsSubnet } = context.settings
  const isSpot = market === 'spot'
  const tags = markTags({ vmId, ticket, home: context.homeId })
  const others = ['volume', 'network-interface', ...(isSpot ? ['spot-instances-request'] : [])]
  return {
    ImageId: image.ImageId,
    InstanceType: size.type,
    MinCount: 1,
    MaxCount: 1,
    ClientToken: clientToken(vmId, `launch ${attempt}`),
    UserData: userData({ hostname: vmId, ...options }),
    SecurityGroupIds: [awsSecurityGroup],
    ...(awsSubnet === null ? {} : { SubnetId: awsSubnet }),
    // No role: nothing that a guest reads there lets it do anything in the account.
    MetadataOptions: { HttpEndpoint: 'enabled', HttpTokens: 'required', HttpPutResponseHopLimit: 1 },
    BlockDeviceMappings: [
      {
        DeviceName: image.RootDeviceName,
        Ebs: { VolumeSize: size.diskGiB, VolumeType: 'gp3', DeleteOnTermination: true },
      },
    ],
    InstanceInitiatedShutdownBehavior: 'stop',
    ...creditsOf(size.type),
    // Only a persistent request can be stopped and started again.
    ...(isSpot
      ? {
          InstanceMarketOptions: {
            MarketType: 'spot',
            SpotOptions: { SpotInstanceType: 'persistent', InstanceInterruptionBehavior: 'stop' },
          },
        }
      : {}),
    TagSpecifications: [
      ...specifications(['instance'], [...tags, sizeTag(size), seedTag(options)]),
      ...specifications(others, tags),
    ],
  }
}

/** Of types that earn CPU credits. `unlimited`, the default of most of them, is billed beyond the price of the type. */
const creditsOf = (type: string) => (/^t\d/.test(type) ? { CreditSpecification: { CpuCredits: 'standard' } } : {})

const isEnding = ({ State }: Instance): boolean => State.Name === 'shutting-down' || State.Name === 'terminated'

/** Waits until AWS shows it. One that ended by itself says why; `made`: its id. */
const waitForNew = (context: Context, vmId: string, doing: string, made: string) =>
  poll(MOST_LOOKS, async () => {
    const found = await describeInstances(context, [byTag(TAG.vm, vmId)], doing)
    const ended = found.find(each => each.InstanceId === made && isEnding(each))
    if (ended !== undefined)
      throw fail('capacity', `${doing}: AWS ended it at once: ${ended.StateReason?.Message || 'it does not say why'}`)
    return found.find(each => !isEnding(each))
  })

/** Without an answer, or with one that tells of trouble at AWS, it may have made the machine. */
export const isRefusal = (error: unknown): boolean =>
  isFailure(error) && codeOf(error) !== null && !['hypervisor-unreachable', 'busy'].includes(error.failure.kind)

/**
 * The machine that another call made with the token of this attempt, with other settings. Undefined: it is terminated, or has keys
 * that are not pinned any more, and goes.
 */
const takeMade = async (
  context: Context,
  { options, isAgain }: Launch,
  attempt: number,
  doing: string,
): Promise<Instance | undefined> => {
  const { vmId } = options
  const shown = await poll(LOOKS_FOR_NEW, async () => {
    const found = await describeInstances(context, [byTag(TAG.vm, vmId)], doing)
    const existing = found.find(each => !isEnding(each))
    return existing !== undefined || found.length >= attempt ? { existing } : undefined
  })
  if (shown === undefined && isAgain)
    throw fail('busy', `${doing}: AWS does not show what an interrupted launch made`, 'Try again in a minute.')
  if (shown?.existing === undefined || !hasOtherKeys(shown.existing, options)) return shown?.existing
  await deleteMachine(context, vmId)
  noteLaunch(context, vmId)
  return undefined
}

/** An interrupted call may have made it. There is never a second one. */
const launch = async (context: Context, given: Launch, doing: string): Promise<Instance> => {
  const { vmId } = given.options
  for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt += 1) {
    const request = launchRequest(context, given, attempt)
    const answer = await context.aws
      .ask('ec2 run-instances', request, launched, { doing, secret: true })
      .catch((error: unknown) => {
        if (codeOf(error) === 'IdempotentParameterMismatch') return null
        if (isRefusal(error)) forgetLaunch(context, vmId)
        throw error
      })
    if (answer === null) {
      const existing = await takeMade(context, given, attempt, doing)
      if (existing !== undefined) return existing
      continue
    }
    const made = answer.Instances.find(each => !isEnding(each))
    if (made !== undefined) {
      const seen = await waitForNew(context, vmId, doing, made.InstanceId)
      if (seen !== undefined) return seen
      throw fail('timeout', `${doing}: AWS made it, and does not show it`, 'Try again later.')
    }
  }
  throw fail('unknown', `${doing}: each attempt brought back a machine that is terminated`)
}

const requireDisk = (doing: string, image: Image, diskGiB: number): void => {
  const needed = Math.ceil(imageBytes(image) / GIB)
  if (needed > diskGiB)
    throw fail(
      'usage',
      `${doing}: its disk of ${diskGiB} GiB is smaller than that of its image, ${needed} GiB`,
      `Give machines a larger disk: AGENT_SWARM_DISK_GIB=${needed}`,
    )
}

/** On failure, it leaves nothing of the machine. */
export const makeInstance = async (context: Context, given: Launch, doing: string): Promise<Instance> => {
  const { vmId } = given.options
  noteLaunch(context, vmId)
  try {
    const instance = await launch(context, given, doing)
    forgetLaunch(context, vmId)
    await learnPrice(context, instance)
    return instance
  } catch (error) {
    await deleteMachine(context, vmId)
    throw error
  }
}

/** Makes the machine from this image, which may be anybody's. */
export const launchMachine = async (
  context: Context,
  ticket: EnvironmentKey | null,
  image: Image,
  options: CreateOptions,
  onPhase: (phase: string) => void,
): Promise<VmInfo> => {
  const { vmId, cpus, memoryMiB, diskGiB } = options
  const doing = `creating ${vmId}`
  if (context.settings.awsSecurityGroup === null) throw noSecurityGroup(doing)
  requireDisk(doing, image, diskGiB)
  onPhase('disk')
  const chosen = await chooseType(context, { cpus, memoryMiB }, image.Architecture, doing)
  const size: Size = { type: chosen.type, cpus: chosen.cpus, memoryMiB: chosen.memoryMiB, diskGiB }
  onPhase('define')
  const isAgain = isLaunchNoted(context, vmId)
  const market = context.settings.awsMarket
  const instance = await makeInstance(context, { ticket, options, image, size, market, isAgain }, doing)
  return { vmId, ticket, ip: null, status: statusOf(instance) }
}

export const noSecurityGroup = (doing: string) =>
  fail(
    'not-configured',
    `${doing}: no security group is set for the machines`,
    'Make one that lets this host in at port 22 (docs/aws.md), and set AGENT_SWARM_AWS_SECURITY_GROUP=sg-…',
  )

export const createMachine = async (
  context: Context,
  ticket: EnvironmentKey | null,
  baseImage: string,
  options: CreateOptions,
  onPhase: (phase: string) => void,
): Promise<VmInfo> => {
  const { vmId } = options
  const [existing, image] = await Promise.all([lookIfExists(context, vmId), findImage(context, baseImage)])
  // A launch that was interrupted made it, and its keys are not pinned any more.
  const isOutdated = existing !== undefined && isLaunchNoted(context, vmId) && hasOtherKeys(existing.instance, options)
  if (isOutdated) await deleteMachine(context, vmId)
  if (existing === undefined || isOutdated)
    return launchMachine(context, ticket, requireProven(baseImage, image), options, onPhase)
  forgetLaunch(context, vmId)
  return { vmId, ticket: existing.mark.ticket, ip: null, status: statusOf(existing.instance) }
}

// ── Start and stop ──

/** Looks until the machine is in this state, at most so often. Undefined: it is not. */
const waitForState = (context: Context, id: string, state: string, looks: number): Promise<Instance | undefined> =>
  poll(looks, async () => {
    const { instance } = await look(context, id)
    return instance.State.Name === state ? instance : undefined
  })

const notInTime = (doing: string) =>
  fail('timeout', `${doing}: AWS did not do it in time`, 'See its state in the console of AWS, and try again.')

/** AWS gives up a start that finds no room, and says so on the machine. */
const waitUntilRunning = async (context: Context, id: string, doing: string): Promise<void> => {
  let looks = 0
  const running = await poll(MOST_LOOKS, async () => {
    const { instance } = await look(context, id)
    looks += 1
    if (instance.State.Name === 'running') return instance
    const { Code = '', Message = '' } = instance.StateReason ?? {}
    if (instance.State.Name === 'stopped' && looks > LOOKS_FOR_NEW)
      throw fail('capacity', `${doing}: AWS stopped it again: ${Message || Code || 'it does not say why'}`)
    return undefined
  })
  if (running === undefined) throw notInTime(doing)
}

export const startMachine = async (context: Context, id: string): Promise<void> => {
  const doing = `starting ${id}`
  const { instance } = await look(context, id)
  const { State, InstanceId } = instance
  if (State.Name === 'running') return
  if (State.Name === 'stopping' && (await waitForState(context, id, 'stopped', MOST_LOOKS)) === undefined)
    throw notInTime(doing)
  if (State.Name !== 'pending') await context.aws.tell('ec2 start-instances', { InstanceIds: [InstanceId] }, { doing })
  await waitUntilRunning(context, id, doing)
}

export const stopMachine = async (context: Context, id: string): Promise<void> => {
  const doing = `stopping ${id}`
  const { instance } = await look(context, id)
  const { State, InstanceId } = instance
  if (State.Name === 'stopped') return
  if (State.Name === 'pending') await waitUntilRunning(context, id, doing)
  const stop = (more: object = {}) =>
    context.aws.tell('ec2 stop-instances', { InstanceIds: [InstanceId], ...more }, { doing })
  if (State.Name !== 'stopping') await stop()
  if ((await waitForState(context, id, 'stopped', LOOKS_AT_SHUTDOWN)) !== undefined) return
  await stop({ Force: true })
  if ((await waitForState(context, id, 'stopped', MOST_LOOKS)) === undefined) throw notInTime(doing)
}

// ── Look ──

export const sshInfo = async (context: Context, id: string): Promise<SshInfo> => {
  const { instance } = await look(context, id)
  const host = addressOf(instance)
  if (host === null) throw fail('no-address-yet', `${id} has no address yet`)
  return { host, port: 22, user: GUEST_USER }
}

const infoOf = ({ mark: { vmId, ticket }, instance }: Machine, interruption: Interruption | undefined): VmInfo => ({
  ...{ vmId, ticket, ip: addressOf(instance), status: statusOf(instance) },
  ...(interruption === undefined ? {} : { interruption }),
})

export const listMachines = async (context: Context): Promise<VmInfo[]> => {
  const machines = await ownMachines(context)
  const interruptions = await interruptionsOf(context, machines)
  return machines.map(machine => infoOf(machine, interruptions.get(machine.mark.vmId)))
}

export const listForeignMachines = async (context: Context): Promise<ForeignMachine[]> =>
  machinesIn((await listMarked(context)).filter(isPresent))
    .filter(({ mark }) => !isOurs(context, mark))
    .map(({ mark: { vmId, ticket, home } }) => ({ vmId, ticket, homeId: home }))
