/** The protocol of EC2: parameters with dotted names in, XML out. Names are those of AWS's own model. */
import type { Input } from './requests.ts'

// ── In ──

/** Names of lists, which have one member's name on the wire. */
const LISTS: Readonly<Record<string, string>> = {
  Filter: 'Filters',
  Value: 'Values',
  InstanceId: 'InstanceIds',
  VolumeId: 'VolumeIds',
  ImageId: 'ImageIds',
  SnapshotId: 'SnapshotIds',
  GroupId: 'GroupIds',
  SecurityGroupId: 'SecurityGroupIds',
  TagSpecification: 'TagSpecifications',
  Tag: 'Tags',
  BlockDeviceMapping: 'BlockDeviceMappings',
  ResourceId: 'Resources',
  SpotInstanceRequestId: 'SpotInstanceRequestIds',
  ReplaceRootVolumeTaskId: 'ReplaceRootVolumeTaskIds',
  InstanceType: 'InstanceTypes',
}
const NUMBERS = ['VolumeSize', 'MinCount', 'MaxCount', 'HttpPutResponseHopLimit']

const plural = (action: string, name: string): string => {
  if (name === 'Owner') return action === 'DescribeSnapshots' ? 'OwnerIds' : 'Owners'
  const list = LISTS[name]
  if (list === undefined) throw new Error(`a list ${name} of ${action}`)
  return list
}
const scalar = (name: string, text: string): unknown => {
  if (text === 'true' || text === 'false') return text === 'true'
  return NUMBERS.includes(name) ? Number(text) : text
}

type Tree = Map<string, Tree | string>
const treeOf = (parameters: URLSearchParams): Tree => {
  const root: Tree = new Map()
  for (const [name, value] of parameters) {
    const words = name.split('.')
    let at = root
    for (const word of words.slice(0, -1)) {
      const next = at.get(word)
      const inner: Tree = next instanceof Map ? next : new Map()
      at.set(word, inner)
      at = inner
    }
    at.set(words.at(-1) ?? '', value)
  }
  return root
}
const isList = (tree: Tree): boolean => [...tree.keys()].every(key => /^\d+$/.test(key))
const valueIn = (action: string, name: string, value: Tree | string): unknown => {
  if (!(value instanceof Map)) return scalar(name, value)
  return isList(value)
    ? [...value].sort(([a], [b]) => Number(a) - Number(b)).map(([, item]) => valueIn(action, name, item))
    : objectIn(action, value)
}
const objectIn = (action: string, tree: Tree): Input =>
  Object.fromEntries(
    [...tree].map(([name, value]) => [
      value instanceof Map && isList(value) ? plural(action, name) : name,
      valueIn(action, name, value),
    ]),
  )

export const readQuery = (body: string): { action: string; input: Input } => {
  const parameters = new URLSearchParams(body)
  const action = parameters.get('Action') ?? ''
  parameters.delete('Action')
  parameters.delete('Version')
  return { action, input: objectIn(action, treeOf(parameters)) }
}

// ── Out ──

const SETS: Readonly<Record<string, string>> = {
  Reservations: 'reservationSet',
  Instances: 'instancesSet',
  StartingInstances: 'instancesSet',
  StoppingInstances: 'instancesSet',
  TerminatingInstances: 'instancesSet',
  Tags: 'tagSet',
  BlockDeviceMappings: 'blockDeviceMapping',
  NetworkInterfaces: 'networkInterfaceSet',
  Volumes: 'volumeSet',
  Snapshots: 'snapshotSet',
  Images: 'imagesSet',
  ReplaceRootVolumeTasks: 'replaceRootVolumeTaskSet',
  SpotInstanceRequests: 'spotInstanceRequestSet',
  CancelledSpotInstanceRequests: 'spotInstanceRequestSet',
  InstanceTypes: 'instanceTypeSet',
  PublicIpAddress: 'ipAddress',
}
/** Names that depend on what has them. */
const within = (owner: string, name: string): string => {
  if (name === 'SecurityGroups') return owner === 'DescribeSecurityGroups' ? 'securityGroupInfo' : 'groupSet'
  if (name === 'State' && owner === 'Instances') return 'instanceState'
  if (name === 'State' && owner === 'Images') return 'imageState'
  if (name === 'State' && ['Volumes', 'Snapshots', 'CreateSnapshot'].includes(owner)) return 'status'
  return SETS[name] ?? `${name.charAt(0).toLowerCase()}${name.slice(1)}`
}

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
const xmlOf = (owner: string, value: unknown): string => {
  if (Array.isArray(value)) return value.map(item => `<item>${xmlOf(owner, item)}</item>`).join('')
  if (typeof value !== 'object' || value === null) return escaped(String(value))
  return Object.entries(value)
    .map(([name, member]) => {
      const element = within(owner, name)
      return `<${element}>${xmlOf(name, member)}</${element}>`
    })
    .join('')
}

export const writeXml = (action: string, answer: Input): string => {
  if (action === 'GetCallerIdentity') {
    const members = Object.entries(answer).map(([name, value]) => `<${name}>${escaped(String(value))}</${name}>`)
    return `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>${members.join('')}</GetCallerIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>`
  }
  const body = Object.keys(answer).length === 0 ? '<return>true</return>' : xmlOf(action, answer)
  return `<?xml version="1.0" encoding="UTF-8"?><${action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>${body}</${action}Response>`
}
export const writeError = (code: string, message: string): string =>
  `<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error><Code>${escaped(code)}</Code><Message>${escaped(message)}</Message></Error></Errors><RequestID>r</RequestID></Response>`
