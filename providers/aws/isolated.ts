/** What guests reach, and what their security group closes. Nothing on EC2 keeps a guest from the metadata address. */
import type { IsolationReport } from '../provider.ts'
import type { Context } from './context.ts'
import { type Permission, type SecurityGroup, securityGroups } from './parse.ts'

const MOST_RULES = 10

const portsOf = ({ IpProtocol, FromPort, ToPort }: Permission): string => {
  const protocol = IpProtocol === '-1' ? 'everything' : IpProtocol
  if (IpProtocol === '-1' || FromPort === undefined || FromPort === -1) return protocol
  return FromPort === ToPort ? `${protocol} ${FromPort}` : `${protocol} ${FromPort}-${ToPort}`
}
const peersOf = ({ IpRanges, Ipv6Ranges, PrefixListIds, UserIdGroupPairs }: Permission): string[] => [
  ...IpRanges.map(({ CidrIp }) => CidrIp),
  ...Ipv6Ranges.map(({ CidrIpv6 }) => CidrIpv6),
  ...PrefixListIds.map(({ PrefixListId }) => PrefixListId),
  ...UserIdGroupPairs.map(({ GroupId }) => GroupId),
]
/** `tcp 22 from 203.0.113.5/32`; `nothing`. */
const rulesText = (permissions: readonly Permission[], word: 'from' | 'to'): string => {
  const rules = permissions.flatMap(permission =>
    peersOf(permission).map(peer => `${portsOf(permission)} ${word} ${peer}`),
  )
  if (rules.length === 0) return 'nothing'
  const more = rules.length - MOST_RULES
  return `${rules.slice(0, MOST_RULES).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

export const findGroup = async ({ aws, settings }: Context, doing: string): Promise<SecurityGroup | null> => {
  if (settings.awsSecurityGroup === null) return null
  const input = { GroupIds: [settings.awsSecurityGroup] }
  return (await aws.ask('ec2 describe-security-groups', input, securityGroups, { doing }))[0] ?? null
}

/** Whether a guest may connect to other guests, as far as their group says it. */
const letsGuestsIn = ({ GroupId, IpPermissions }: SecurityGroup): boolean =>
  IpPermissions.some(permission => permission.UserIdGroupPairs.some(pair => pair.GroupId === GroupId))

export const isolationReport = async (context: Context): Promise<IsolationReport> => {
  const group = await findGroup(context, 'looking at the isolation of machines')
  const closed =
    group === null
      ? ''
      : `. Their security group ${group.GroupId} lets in ${rulesText(group.IpPermissions, 'from')}, and out ${rulesText(group.IpPermissionsEgress, 'to')}${letsGuestsIn(group) ? ', so machines reach each other' : ''}`
  return {
    isolated: false,
    reason: `on EC2, a machine reaches the metadata address 169.254.169.254, where its own user data with its SSH host key is and no role, and whatever of the VPC its security group lets it reach${closed}`,
    remedy:
      'Nothing closes the metadata address for everything in a guest. Put machines into a VPC without anything else, and let out only what they need (docs/aws.md, Isolation).',
  }
}
