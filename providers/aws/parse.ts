/** What the `aws` program prints, as far as we read it. Other people of the account write some of it: tags, names. */
import * as v from 'valibot'

const id = v.pipe(v.string(), v.regex(/^[a-z]{1,10}-[0-9A-Za-z-]{1,40}$/))
const word = v.pipe(v.string(), v.maxLength(300))
const number = v.pipe(v.number(), v.minValue(0))
/** A list that AWS leaves out when it is empty. */
const list = <Item extends v.GenericSchema>(item: Item) => v.optional(v.array(item), [])

const tag = v.object({ Key: word, Value: v.pipe(v.string(), v.maxLength(1_000)) })
export type Tag = v.InferOutput<typeof tag>
const tags = list(tag)
const reason = v.optional(v.object({ Code: v.optional(word, ''), Message: v.optional(v.string(), '') }))

const instance = v.object({
  InstanceId: id,
  InstanceType: word,
  ImageId: v.optional(word, ''),
  State: v.object({ Name: word }),
  StateReason: reason,
  PublicIpAddress: v.optional(word),
  PrivateIpAddress: v.optional(word),
  RootDeviceName: v.optional(word),
  Architecture: v.optional(word, 'x86_64'),
  VirtualizationType: v.optional(word, 'hvm'),
  EnaSupport: v.optional(v.boolean()),
  SriovNetSupport: v.optional(word),
  BootMode: v.optional(word),
  TpmSupport: v.optional(word),
  PlatformDetails: v.optional(word),
  Placement: v.optional(v.object({ AvailabilityZone: v.optional(word, '') })),
  BlockDeviceMappings: list(v.object({ DeviceName: word, Ebs: v.optional(v.object({ VolumeId: id })) })),
  NetworkInterfaces: list(v.object({ NetworkInterfaceId: id })),
  SpotInstanceRequestId: v.optional(id),
  Tags: tags,
})
export type Instance = v.InferOutput<typeof instance>
export const launched = v.object({ Instances: v.pipe(v.array(instance), v.minLength(1)) })
export const instances = v.pipe(
  v.object({ Reservations: v.array(v.object({ Instances: list(instance) })) }),
  v.transform(({ Reservations }) => Reservations.flatMap(({ Instances }) => Instances)),
)

const volume = v.object({ VolumeId: id, State: word, Size: number, Tags: tags })
export type Volume = v.InferOutput<typeof volume>
export const volumes = v.pipe(
  v.object({ Volumes: v.array(volume) }),
  v.transform(({ Volumes }) => Volumes),
)

const snapshot = v.object({
  ...{ SnapshotId: id, State: word, StartTime: word, VolumeSize: number, Tags: tags },
  VolumeId: v.optional(id),
})
export type Snapshot = v.InferOutput<typeof snapshot>
export const madeSnapshot = v.object({ SnapshotId: id })
export const snapshots = v.pipe(
  v.object({ Snapshots: v.array(snapshot) }),
  v.transform(({ Snapshots }) => Snapshots),
)

/** What has a tag. */
export const tagIndex = v.pipe(
  v.object({ Tags: v.array(v.object({ ResourceType: word, Value: v.optional(tag.entries.Value, '') })) }),
  v.transform(({ Tags }) => Tags),
)

const task = v.object({ ReplaceRootVolumeTaskId: id, TaskState: word, Tags: tags })
export type Task = v.InferOutput<typeof task>
export const madeTask = v.pipe(
  v.object({ ReplaceRootVolumeTask: task }),
  v.transform(answer => answer.ReplaceRootVolumeTask),
)
export const tasks = v.pipe(
  v.object({ ReplaceRootVolumeTasks: v.array(task) }),
  v.transform(answer => answer.ReplaceRootVolumeTasks),
)

const image = v.object({
  ImageId: id,
  Name: v.optional(word, ''),
  State: word,
  StateReason: reason,
  Architecture: v.optional(word, 'x86_64'),
  CreationDate: v.optional(word, ''),
  PlatformDetails: v.optional(word),
  RootDeviceName: v.optional(word),
  RootDeviceType: v.optional(word),
  BlockDeviceMappings: list(
    v.object({
      DeviceName: v.optional(word),
      Ebs: v.optional(v.object({ SnapshotId: v.optional(id), VolumeSize: v.optional(number) })),
    }),
  ),
  Tags: tags,
})
export type Image = v.InferOutput<typeof image>
export const images = v.pipe(
  v.object({ Images: v.array(image) }),
  v.transform(({ Images }) => Images),
)
export const madeImage = v.object({ ImageId: id })

const spotRequest = v.object({
  SpotInstanceRequestId: id,
  State: word,
  Status: reason,
  InstanceId: v.optional(id),
  Tags: tags,
})
export type SpotRequest = v.InferOutput<typeof spotRequest>
export const spotRequests = v.pipe(
  v.object({ SpotInstanceRequests: v.array(spotRequest) }),
  v.transform(answer => answer.SpotInstanceRequests),
)

const instanceType = v.object({
  InstanceType: word,
  VCpuInfo: v.object({ DefaultVCpus: number }),
  MemoryInfo: v.object({ SizeInMiB: number }),
  ProcessorInfo: v.object({ SupportedArchitectures: list(word) }),
})
export const instanceTypes = v.pipe(
  v.object({ InstanceTypes: v.array(instanceType) }),
  v.transform(answer =>
    answer.InstanceTypes.map(({ InstanceType, VCpuInfo, MemoryInfo, ProcessorInfo }) => ({
      type: InstanceType,
      cpus: VCpuInfo.DefaultVCpus,
      memoryMiB: MemoryInfo.SizeInMiB,
      architectures: ProcessorInfo.SupportedArchitectures,
    })),
  ),
)

const port = v.optional(v.number())
const permission = v.object({
  IpProtocol: word,
  FromPort: port,
  ToPort: port,
  IpRanges: list(v.object({ CidrIp: word })),
  Ipv6Ranges: list(v.object({ CidrIpv6: word })),
  PrefixListIds: list(v.object({ PrefixListId: word })),
  UserIdGroupPairs: list(v.object({ GroupId: v.optional(word, 'another group') })),
})
export type Permission = v.InferOutput<typeof permission>
const securityGroup = v.object({ GroupId: id, IpPermissions: list(permission), IpPermissionsEgress: list(permission) })
export type SecurityGroup = v.InferOutput<typeof securityGroup>
export const securityGroups = v.pipe(
  v.object({ SecurityGroups: v.array(securityGroup) }),
  v.transform(answer => answer.SecurityGroups),
)

export const identity = v.object({ Account: word, Arn: v.pipe(v.string(), v.maxLength(2_100)) })
