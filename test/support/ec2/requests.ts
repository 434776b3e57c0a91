/** What requests have in common: tags, filters and tokens; and what an account has from the start. */
import { refuse, type State, type Tag } from './state.ts'

export type Input = Record<string, unknown>
type Specification = { ResourceType: string; Tags: Tag[] }
type Filter = { Name: string; Values: string[] }

export const TYPES: Readonly<Record<string, { cpus: number; memory: number; architectures: string[] }>> = {
  't3.small': { cpus: 2, memory: 2048, architectures: ['x86_64'] },
  't3.medium': { cpus: 2, memory: 4096, architectures: ['x86_64'] },
  't3.large': { cpus: 2, memory: 8192, architectures: ['x86_64'] },
  't3.xlarge': { cpus: 4, memory: 16_384, architectures: ['x86_64'] },
  'm7i.large': { cpus: 2, memory: 8192, architectures: ['x86_64'] },
  't4g.medium': { cpus: 2, memory: 4096, architectures: ['arm64'] },
}
export const GROUP = 'sg-0aaaaaaaaaaaaaaaa'
export const SUBNET = 'subnet-0bbbbbbbbbbbbbbbb'

/** The tags for this type of resource. Each type may be named once. */
export const tagsFor = ({ TagSpecifications = [] }: { TagSpecifications?: Specification[] }, type: string): Tag[] =>
  TagSpecifications.find(({ ResourceType }) => ResourceType === type)?.Tags ?? []
export const checkTags = (
  { TagSpecifications = [] }: { TagSpecifications?: Specification[] },
  ...types: string[]
): void => {
  const named = TagSpecifications.map(({ ResourceType }) => ResourceType)
  const wrong = named.find((type, at) => !types.includes(type) || named.indexOf(type) !== at)
  if (wrong !== undefined)
    throw refuse('InvalidParameterValue', `'${wrong}' is not a valid taggable resource type for this operation.`)
}

/** Whether a thing passes the filters; `more` has the values of those that are not about tags. */
export const passes = (tags: readonly Tag[], filters: readonly Filter[], more: Record<string, string>): boolean =>
  filters.every(({ Name, Values }) => {
    if (Name === 'tag-key') return tags.some(({ Key }) => Values.includes(Key))
    if (Name.startsWith('tag:')) return tags.some(({ Key, Value }) => Key === Name.slice(4) && Values.includes(Value))
    const value = more[Name]
    if (value === undefined) throw refuse('InvalidParameterValue', `The filter '${Name}' is invalid`)
    return Values.includes(value)
  })
export const filtersOf = (input: Input): Filter[] => (input.Filters ?? []) as Filter[]

/** The same token with the same input gives what was made before, whatever became of it. */
export const byToken = (state: State, action: string, input: Input, make: () => string): string => {
  const { ClientToken, ...rest } = input
  const [key, text] = [`${action} ${ClientToken}`, JSON.stringify(rest)]
  const before = state.tokens.get(key)
  if (before === undefined) {
    const id = make()
    state.tokens.set(key, { input: text, id })
    return id
  }
  if (before.input !== text)
    throw refuse(
      'IdempotentParameterMismatch',
      'The request uses the same client token as a previous, but non-identical request.',
    )
  return before.id
}

/** Of what has a mark, as AWS shows it: also of what is terminated or cancelled. */
const describeTags = (state: State, input: Input) => {
  const kinds = {
    ...{ instance: state.instances, volume: state.volumes, snapshot: state.snapshots, image: state.images },
    'spot-instances-request': state.requests,
  }
  return {
    Tags: Object.entries(kinds).flatMap(([type, things]) =>
      [...things.values()]
        .filter(({ hidden }) => hidden === 0)
        .flatMap(({ id, tags }) =>
          tags
            .filter(({ Key }) => passes([], filtersOf(input), { key: Key, 'resource-type': type }))
            .map(({ Key, Value }) => ({ Key, ResourceId: id, ResourceType: type, Value })),
        ),
    ),
  }
}

export const accountActions = {
  DescribeTags: describeTags,
  DescribeInstanceTypes: (_: State, input: Input) => ({
    InstanceTypes: Object.entries(TYPES)
      .filter(([type]) => passes([], filtersOf(input), { 'instance-type': type }))
      .map(([type, { cpus, memory, architectures }]) => ({
        InstanceType: type,
        VCpuInfo: { DefaultVCpus: cpus },
        MemoryInfo: { SizeInMiB: memory },
        ProcessorInfo: { SupportedArchitectures: architectures },
      })),
  }),
  DescribeSecurityGroups: (_: State, input: Input) => {
    const wrong = ((input.GroupIds ?? []) as string[]).find(id => id !== GROUP)
    if (wrong !== undefined) throw refuse('InvalidGroup.NotFound', `The security group '${wrong}' does not exist`)
    const rule = (more: Input, cidr: string) => ({ ...more, IpRanges: [{ CidrIp: cidr }] })
    return {
      SecurityGroups: [
        {
          ...{ GroupId: GROUP, GroupName: 'machines', VpcId: 'vpc-0' },
          IpPermissions: [rule({ IpProtocol: 'tcp', FromPort: 22, ToPort: 22 }, '198.51.100.7/32')],
          IpPermissionsEgress: [rule({ IpProtocol: '-1' }, '0.0.0.0/0')],
        },
      ],
    }
  },
}
