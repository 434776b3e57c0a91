/** What AWS does with instances, volumes and Spot requests. Inputs and answers have the names of AWS's model. */
import { boot } from './cloud-init.ts'
import { showKind } from './disks.ts'
import { byToken, checkTags, filtersOf, GROUP, type Input, passes, SUBNET, TYPES, tagsFor } from './requests.ts'
import {
  copyDisk,
  type Instance,
  later,
  lookAt,
  type Mapping,
  passTime,
  refuse,
  removeDisk,
  type SpotRequest,
  type State,
  type Tag,
  type Volume,
} from './state.ts'

// ── Launch ──

const show = (instance: Instance) => ({
  InstanceId: instance.id,
  InstanceType: instance.type,
  ImageId: instance.image,
  ...showKind(instance.kind),
  State: { Code: 0, Name: instance.state },
  ...(instance.reason === null ? {} : { StateReason: instance.reason }),
  ...(instance.publicIp === null ? {} : { PublicIpAddress: instance.publicIp }),
  PrivateIpAddress: instance.privateIp,
  RootDeviceName: instance.rootDevice,
  RootDeviceType: 'ebs',
  Placement: { AvailabilityZone: 'eu-central-1a' },
  BlockDeviceMappings: instance.mappings.map(({ device, volume, goesAlong }) => ({
    DeviceName: device,
    Ebs: { VolumeId: volume, DeleteOnTermination: goesAlong, Status: 'attached' },
  })),
  NetworkInterfaces: instance.state === 'terminated' ? [] : [{ NetworkInterfaceId: instance.interface.id }],
  ...(instance.request === null ? {} : { SpotInstanceRequestId: instance.request }),
  MetadataOptions: instance.metadata,
  SecurityGroups: instance.groups.map(GroupId => ({ GroupId, GroupName: 'machines' })),
  Tags: instance.tags,
})

const makeVolume = (state: State, size: number, from: string, lineage: string | null, tags: readonly Tag[]): Volume => {
  const id = state.newId('vol')
  const volume: Volume = { ...state.thing(tags), hidden: 0, id, size, state: 'in-use', lineage: lineage ?? id }
  copyDisk(state, from, id)
  state.volumes.set(id, volume)
  return volume
}

const findImage = (state: State, id: string) => {
  if (!/^ami-[0-9a-f]{8,17}$/.test(id)) throw refuse('InvalidAMIID.Malformed', `Invalid id: "${id}"`)
  const image = state.images.get(id)
  if (image === undefined) throw refuse('InvalidAMIID.NotFound', `The image id '[${id}]' does not exist`)
  return image
}

type Device = { DeviceName: string; Ebs: { VolumeSize?: number; DeleteOnTermination?: boolean } }
/** A device of another name than the image's root becomes a second disk. */
const makeDisks = (state: State, input: Input): { rootDevice: string; mappings: Mapping[] } => {
  const image = findImage(state, String(input.ImageId))
  const given = (input.BlockDeviceMappings ?? []) as Device[]
  const root = given.find(({ DeviceName }) => DeviceName === image.rootDevice)?.Ebs
  const size = root?.VolumeSize ?? image.size
  if (size < image.size)
    throw refuse(
      'InvalidBlockDeviceMapping',
      `Volume of size ${size}GB is smaller than snapshot, expect size>= ${image.size}GB`,
    )
  const tags = tagsFor(input, 'volume')
  const first = makeVolume(state, size, image.snapshot, null, tags)
  const others = given
    .filter(({ DeviceName }) => DeviceName !== image.rootDevice)
    .map(({ DeviceName, Ebs }) => {
      const volume = makeVolume(state, Ebs.VolumeSize ?? 1, image.snapshot, null, tags)
      return { device: DeviceName, volume: volume.id, goesAlong: Ebs.DeleteOnTermination ?? false }
    })
  return {
    rootDevice: image.rootDevice,
    mappings: [{ device: image.rootDevice, volume: first.id, goesAlong: root?.DeleteOnTermination ?? true }, ...others],
  }
}

const run = (state: State, instance: Instance): void => {
  instance.state = 'pending'
  instance.reason = null
  later(state, instance, () => {
    instance.state = 'running'
    instance.publicIp = state.address('203.0')
    boot(state, instance)
  })
}

/** What AWS gives a launch that does not say it: T2 is the one that is not unlimited. */
const creditsOf = ({ InstanceType, CreditSpecification }: Input): Instance['credits'] => {
  const wanted = (CreditSpecification as { CpuCredits?: string } | undefined)?.CpuCredits
  if (!/^t[234]/.test(String(InstanceType))) {
    if (wanted === undefined) return null
    throw refuse('InvalidParameterCombination', 'The instance type does not support specifying CreditSpecification.')
  }
  if (wanted === undefined) return String(InstanceType).startsWith('t2.') ? 'standard' : 'unlimited'
  if (wanted === 'standard' || wanted === 'unlimited') return wanted
  throw refuse('InvalidParameterValue', `Value (${wanted}) for parameter CpuCredits is invalid.`)
}

const makeInstance = (state: State, input: Input, tags: readonly Tag[]): Instance => {
  const { rootDevice, mappings } = makeDisks(state, input)
  const instance: Instance = {
    ...state.thing(tags),
    ...{ id: state.newId('i'), type: String(input.InstanceType), image: String(input.ImageId) },
    ...{ state: 'pending', reason: null, publicIp: null, privateIp: state.address('10.0') },
    ...{ rootDevice, mappings, request: null, userData: String(input.UserData ?? '') },
    interface: { ...state.thing(tagsFor(input, 'network-interface')), id: state.newId('eni') },
    metadata: (input.MetadataOptions ?? {}) as Record<string, unknown>,
    groups: (input.SecurityGroupIds ?? []) as string[],
    profile: input.IamInstanceProfile ?? null,
    kind: findImage(state, String(input.ImageId)).kind,
    credits: creditsOf(input),
  }
  state.instances.set(instance.id, instance)
  run(state, instance)
  return instance
}

type Market = { MarketType?: string; SpotOptions?: { SpotInstanceType?: string } }

const launch = (state: State, input: Input): string => {
  const market = (input.InstanceMarketOptions ?? {}) as Market
  const isSpot = market.MarketType === 'spot'
  checkTags(input, 'instance', 'volume', 'network-interface', ...(isSpot ? ['spot-instances-request'] : []))
  const image = findImage(state, String(input.ImageId))
  if (image.state !== 'available')
    throw refuse('InvalidAMIID.Unavailable', `The image ID '[${image.id}]' is not available`)
  const type = TYPES[String(input.InstanceType)]
  if (type === undefined)
    throw refuse('InvalidParameterValue', `Invalid value '${input.InstanceType}' for InstanceType.`)
  const { architecture, virtualization, ena } = image.kind
  if (!type.architectures.includes(architecture))
    throw refuse('InvalidParameterValue', `The architecture '${architecture}' of the specified AMI does not match.`)
  // All types here are of the Nitro system.
  if (virtualization !== 'hvm')
    throw refuse('InvalidParameterCombination', `Virtualization type '${virtualization}' is not supported.`)
  if (!ena)
    throw refuse(
      'InvalidParameterCombination',
      `Enhanced networking with the Elastic Network Adapter (ENA) is required for the '${input.InstanceType}' instance type.`,
    )
  const group = ((input.SecurityGroupIds ?? []) as string[]).find(id => id !== GROUP)
  if (group !== undefined) throw refuse('InvalidGroup.NotFound', `The security group '${group}' does not exist`)
  if (input.SubnetId !== undefined && input.SubnetId !== SUBNET)
    throw refuse('InvalidSubnetID.NotFound', `The subnet ID '${input.SubnetId}' does not exist`)
  if (Buffer.from(String(input.UserData ?? ''), 'base64').length > 16_384)
    throw refuse('InvalidParameterValue', 'User data is limited to 16384 bytes')
  const instance = makeInstance(state, input, tagsFor(input, 'instance'))
  if (isSpot) {
    const request: SpotRequest = {
      ...state.thing(tagsFor(input, 'spot-instances-request')),
      ...{ hidden: 0, id: state.newId('sir'), instance: instance.id, state: 'active', launch: input },
      persistent: market.SpotOptions?.SpotInstanceType === 'persistent',
      status: { Code: 'fulfilled', Message: 'Your Spot request is fulfilled.' },
    }
    state.requests.set(request.id, request)
    instance.request = request.id
  }
  return instance.id
}

const find = (state: State, id: string): Instance => {
  if (!/^i-[0-9a-f]{8,17}$/.test(id)) throw refuse('InvalidInstanceID.Malformed', `Invalid id: "${id}"`)
  const instance = state.instances.get(id)
  if (instance === undefined || instance.hidden > 0)
    throw refuse('InvalidInstanceID.NotFound', `The instance ID '${id}' does not exist`)
  return instance
}
const requestOf = (state: State, { request }: Instance): SpotRequest | null =>
  request === null ? null : (state.requests.get(request) ?? null)

/** What a person or AWS does with an instance, and what then becomes of its parts. */
export const end = (state: State, instance: Instance, code: string): void => {
  if (instance.state === 'terminated' || instance.state === 'shutting-down') return
  instance.state = 'shutting-down'
  instance.reason = { Code: code, Message: code }
  instance.changes = []
  later(state, instance, () => {
    instance.state = 'terminated'
    instance.publicIp = null
    for (const { volume, goesAlong } of instance.mappings) {
      const disk = state.volumes.get(volume)
      if (disk === undefined) continue
      if (goesAlong) {
        state.volumes.delete(volume)
        removeDisk(state, volume)
      } else disk.state = 'available'
    }
    instance.mappings = []
    const request = requestOf(state, instance)
    // A persistent request that nobody cancelled is fulfilled again, without the tags of the first instance.
    if (request?.persistent && request.state !== 'cancelled') {
      const again = makeInstance(state, request.launch, [])
      again.request = request.id
      request.instance = again.id
    }
  })
}

const change = (state: State, ids: unknown, work: (instance: Instance) => void, member: string) => {
  const instances = (ids as string[]).map(id => find(state, id))
  const before = instances.map(({ state: name }) => name)
  for (const instance of instances) work(instance)
  return {
    [member]: instances.map(({ id, state: name }, at) => ({
      InstanceId: id,
      CurrentState: { Code: 0, Name: name },
      PreviousState: { Code: 0, Name: before[at] },
    })),
  }
}
const wrongState = (instance: Instance) =>
  refuse(
    'IncorrectInstanceState',
    `The instance '${instance.id}' is not in a state from which it can be started or stopped.`,
  )

const stop = (state: State, instance: Instance): void => {
  if (instance.state === 'stopped' || instance.state === 'stopping') return
  if (instance.state !== 'running') throw wrongState(instance)
  const request = requestOf(state, instance)
  if (request !== null && (!request.persistent || request.state === 'cancelled'))
    throw refuse(
      'UnsupportedOperation',
      `You can't stop the Spot Instance '${instance.id}' because its request is not persistent.`,
    )
  instance.state = 'stopping'
  instance.reason = {
    Code: 'Client.UserInitiatedShutdown',
    Message: 'Client.UserInitiatedShutdown: User initiated shutdown',
  }
  later(state, instance, () => {
    instance.state = 'stopped'
    instance.publicIp = null
    if (request !== null) {
      request.state = 'disabled'
      request.status = { Code: 'instance-stopped-by-user', Message: 'You stopped the instance.' }
    }
  })
}
const start = (state: State, instance: Instance): void => {
  if (instance.state === 'running' || instance.state === 'pending') return
  if (instance.state !== 'stopped') throw wrongState(instance)
  const request = requestOf(state, instance)
  if (request !== null) {
    if (request.status.Code !== 'instance-stopped-by-user')
      throw refuse('IncorrectSpotRequestState', `The Spot request ${request.id} cannot be started by you.`)
    request.state = 'active'
    request.status = { Code: 'fulfilled', Message: 'Your Spot request is fulfilled.' }
  }
  run(state, instance)
}

/** AWS says that it will take a Spot instance away within two minutes. */
export const announce = (state: State, id: string): void => {
  const request = requestOf(state, find(state, id))
  if (request === null) throw new Error('it is not a Spot instance')
  request.status = { Code: 'marked-for-stop', Message: 'Your Spot instance is marked for stop.' }
}

/** AWS has room again. */
export const bringBack = (state: State, id: string): void => {
  const instance = find(state, id)
  const request = requestOf(state, instance)
  if (request === null) throw new Error('it is not a Spot instance')
  request.status = { Code: 'fulfilled', Message: 'Your Spot request is fulfilled.' }
  run(state, instance)
}

/** AWS takes a Spot instance away. */
export const interrupt = (state: State, id: string): void => {
  const instance = find(state, id)
  const request = requestOf(state, instance)
  if (request === null) throw new Error('it is not a Spot instance')
  request.status = {
    Code: 'instance-stopped-no-capacity',
    Message: 'There is no Spot capacity available that matches your request.',
  }
  request.state = 'active'
  instance.state = 'stopped'
  instance.publicIp = null
  instance.reason = {
    Code: 'Server.SpotInstanceShutdown',
    Message: 'Server.SpotInstanceShutdown: Spot instance shutdown',
  }
}

const cancel = (state: State, id: string): SpotRequest => {
  const request = state.requests.get(id)
  if (request === undefined)
    throw refuse('InvalidSpotInstanceRequestID.NotFound', `The spot instance request ID '${id}' does not exist`)
  request.state = 'cancelled'
  const instance = state.instances.get(request.instance)
  if (instance?.state === 'stopped') end(state, instance, 'Server.SpotInstanceTermination')
  return request
}

const describe = (state: State, input: Input) => {
  const ids = input.InstanceIds as string[] | undefined
  if (ids !== undefined) {
    for (const id of ids) if (state.instances.has(id)) lookAt(state.instances.get(id) as Instance)
    for (const id of ids) find(state, id)
  }
  const seen = [...state.instances.values()].filter(
    instance =>
      (ids === undefined ? lookAt(instance) : ids.includes(instance.id)) &&
      passes(instance.tags, filtersOf(input), {
        'instance-state-name': instance.state,
        'image-id': instance.image,
        'instance-id': instance.id,
      }),
  )
  const answer = seen.map(instance => ({
    ReservationId: `r-${instance.id.slice(2)}`,
    Instances: [show(instance)],
  }))
  passTime(seen)
  // A task goes on whether somebody looks at it or not.
  passTime(state.tasks.values())
  return { Reservations: answer }
}

const describeVolumes = (state: State, input: Input) => ({
  Volumes: [...state.volumes.values()]
    .filter(
      volume =>
        lookAt(volume) &&
        ((input.VolumeIds as string[] | undefined)?.includes(volume.id) ?? true) &&
        passes(volume.tags, filtersOf(input), { status: volume.state }),
    )
    .map(({ id, size, state: name, tags }) => ({
      VolumeId: id,
      Size: size,
      State: name,
      VolumeType: 'gp3',
      Tags: tags,
    })),
})

const deleteVolume = (state: State, id: string): Input => {
  const volume = state.volumes.get(id)
  if (volume === undefined) throw refuse('InvalidVolume.NotFound', `The volume '${id}' does not exist.`)
  if (volume.state === 'in-use') throw refuse('VolumeInUse', `Volume ${id} is currently attached`)
  state.volumes.delete(id)
  removeDisk(state, id)
  return {}
}

export const instanceActions = {
  RunInstances: (state: State, input: Input) => {
    const id = byToken(state, 'RunInstances', input, () => launch(state, input))
    return { ReservationId: 'r-0', Instances: [show(state.instances.get(id) as Instance)] }
  },
  DescribeInstances: describe,
  StartInstances: (state: State, input: Input) =>
    change(state, input.InstanceIds, instance => start(state, instance), 'StartingInstances'),
  StopInstances: (state: State, input: Input) =>
    change(state, input.InstanceIds, instance => stop(state, instance), 'StoppingInstances'),
  TerminateInstances: (state: State, input: Input) =>
    change(
      state,
      input.InstanceIds,
      instance => end(state, instance, 'Client.UserInitiatedShutdown'),
      'TerminatingInstances',
    ),
  DescribeVolumes: describeVolumes,
  DeleteVolume: (state: State, input: Input) => deleteVolume(state, String(input.VolumeId)),
  DescribeSpotInstanceRequests: (state: State, input: Input) => ({
    SpotInstanceRequests: [...state.requests.values()]
      .filter(({ tags, state: name }) => passes(tags, filtersOf(input), { state: name }))
      .map(({ id, instance, state: name, status, tags }) => ({
        ...{ SpotInstanceRequestId: id, InstanceId: instance, State: name, Status: status, Tags: tags },
      })),
  }),
  CancelSpotInstanceRequests: (state: State, input: Input) => ({
    CancelledSpotInstanceRequests: (input.SpotInstanceRequestIds as string[])
      .map(id => cancel(state, id))
      .map(({ id, state: name }) => ({ SpotInstanceRequestId: id, State: name })),
  }),
}
