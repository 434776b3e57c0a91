/** What the `aws` program's failures mean. It says an AWS error by its CODE, which is decided by; texts are for people. */
import type { FailureKind } from '../../src/domain.ts'
import { type FailureError, fail } from '../../src/errors.ts'

/** Exit codes of version 2 of the program. */
export const ANSWERS = [252, 253, 254, 255] as const
const [WRONG_COMMAND, NOT_CONFIGURED, REFUSED] = ANSWERS

export const INSTALL =
  'Install the AWS CLI, version 2.9.19 or newer (docs/aws.md says how). See which one is here: aws --version'
const CHECK_CREDENTIALS =
  'See who you are for AWS: aws sts get-caller-identity (with --profile NAME where AGENT_SWARM_AWS_PROFILE is set)'
const OTHER_ROOM =
  'Try again later, or use other instance types (AGENT_SWARM_AWS_TYPES), another subnet, or AGENT_SWARM_AWS_MARKET=on-demand.'
const ASK_FOR_MORE =
  'Stop or delete other machines (agent-swarm list), or ask AWS for a larger quota: Service Quotas, Amazon EC2.'
const MORE_RIGHTS = `The rights that agent-swarm needs are in docs/aws.md. ${CHECK_CREDENTIALS}`
const SET_CLOCK = "Log in again (for example aws sso login). If that is fresh, this host's clock may be wrong."
const SPOT_STATE =
  'AWS interrupted this Spot machine, or its request was cancelled: AWS alone starts it again. See: agent-swarm doctor'
const LATER = 'Try again later.'

/** What is not here is unknown, and told with AWS's own words. */
const codes: Readonly<Record<string, readonly [kind: FailureKind, remedy?: string]>> = {
  InsufficientInstanceCapacity: ['capacity', OTHER_ROOM],
  InsufficientCapacity: ['capacity', OTHER_ROOM],
  SpotMaxPriceTooLow: ['capacity', OTHER_ROOM],
  InsufficientFreeAddressesInSubnet: ['capacity', 'Use another subnet: AGENT_SWARM_AWS_SUBNET'],
  InsufficientVolumeCapacity: ['capacity', OTHER_ROOM],
  VcpuLimitExceeded: ['capacity', ASK_FOR_MORE],
  InstanceLimitExceeded: ['capacity', ASK_FOR_MORE],
  MaxSpotInstanceCountExceeded: ['capacity', ASK_FOR_MORE],
  VolumeLimitExceeded: ['capacity', ASK_FOR_MORE],
  SnapshotLimitExceeded: ['capacity', 'Delete checkpoints: agent-swarm checkpoint TICKET NAME --delete'],
  SnapshotCreationPerVolumeRateExceeded: ['busy', LATER],
  ConcurrentSnapshotLimitExceeded: ['busy', LATER],
  UnauthorizedOperation: ['permission', MORE_RIGHTS],
  AccessDenied: ['permission', MORE_RIGHTS],
  AccessDeniedException: ['permission', MORE_RIGHTS],
  AuthFailure: ['permission', CHECK_CREDENTIALS],
  InvalidClientTokenId: ['permission', CHECK_CREDENTIALS],
  SignatureDoesNotMatch: ['permission', CHECK_CREDENTIALS],
  UnrecognizedClientException: ['permission', CHECK_CREDENTIALS],
  ExpiredToken: ['permission', SET_CLOCK],
  ExpiredTokenException: ['permission', SET_CLOCK],
  RequestExpired: ['permission', SET_CLOCK],
  OptInRequired: ['permission', 'Subscribe to the image or the region in the console of AWS.'],
  PendingVerification: ['permission', 'AWS checks your account: try again in some hours.'],
  Blocked: ['permission', 'AWS has blocked this account: ask its support.'],
  RequestLimitExceeded: ['busy', LATER],
  Throttling: ['busy', LATER],
  ThrottlingException: ['busy', LATER],
  Unavailable: ['hypervisor-unreachable', LATER],
  ServiceUnavailable: ['hypervisor-unreachable', LATER],
  InternalError: ['hypervisor-unreachable', LATER],
  InternalFailure: ['hypervisor-unreachable', LATER],
  IncorrectInstanceState: ['busy', LATER],
  IncorrectState: ['busy', LATER],
  IncorrectSpotRequestState: ['busy', SPOT_STATE],
  UnsupportedOperation: ['unsupported'],
  Unsupported: ['unsupported', 'Use other instance types (AGENT_SWARM_AWS_TYPES) or another subnet.'],
  'InvalidInstanceID.NotFound': ['no-such-vm'],
  'InvalidSnapshot.NotFound': ['no-such-checkpoint'],
  'InvalidSnapshot.InUse': ['refused', 'An image (AMI) was made of this snapshot. Deregister it first.'],
  'InvalidVolume.NotFound': ['no-such-vm'],
  VolumeInUse: ['busy', LATER],
  'InvalidAMIID.NotFound': ['no-such-image'],
  'InvalidAMIID.Unavailable': ['no-such-image'],
  'InvalidAMIName.Duplicate': ['already-exists', 'Choose another name, or delete the AMI that has it.'],
  'InvalidGroup.NotFound': ['not-configured', 'Set a security group of this region: AGENT_SWARM_AWS_SECURITY_GROUP'],
  'InvalidSubnetID.NotFound': ['not-configured', 'Set a subnet of this region: AGENT_SWARM_AWS_SUBNET'],
  VPCIdNotSpecified: ['not-configured', 'This region has no default VPC. Set AGENT_SWARM_AWS_SUBNET.'],
  MissingInput: ['not-configured', 'This region has no default VPC. Set AGENT_SWARM_AWS_SUBNET.'],
  'InvalidGroupId.Malformed': ['not-configured', 'Correct AGENT_SWARM_AWS_SECURITY_GROUP'],
  'InvalidSubnetID.Malformed': ['not-configured', 'Correct AGENT_SWARM_AWS_SUBNET'],
  'InvalidAMIID.Malformed': ['usage', 'Name an image (AMI) of this region: --from ami-…'],
  OperationNotPermitted: ['refused', 'Its protection is on: turn it off in the console of AWS, and try again.'],
  'AuthFailure.ServiceLinkedRoleCreationNotPermitted': [
    'permission',
    'Once for the account, by somebody who may: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com',
  ],
  InvalidInstanceType: ['not-configured', 'Set types that this region has: AGENT_SWARM_AWS_TYPES'],
}

const ERROR = /An error occurred \(([A-Za-z0-9.]{1,80})\)[^:]{0,200} operation(?: \(reached max retries: \d+\))?: /

/** The CODE of AWS behind a failure; null when AWS did not answer. */
export const codeOf = (error: unknown): string | null =>
  error instanceof Error && error.cause instanceof Error && 'code' in error.cause ? String(error.cause.code) : null

/** For `.catch()`: turns failures with these codes into undefined, and throws everything else. */
export const allowCodes =
  (...allowed: string[]) =>
  (error: unknown): undefined => {
    if (allowed.includes(codeOf(error) ?? '')) return undefined
    throw error
  }

const withCode = (code: string) => Object.assign(new Error(code), { code })

const lastLine = (text: string): string => text.trim().split('\n').at(-1)?.trim() || 'it ended without a message'

const notConfigured = (doing: string, text: string): FailureError =>
  fail(
    'not-configured',
    `${doing}: ${text}`,
    /region/i.test(text)
      ? 'Set AGENT_SWARM_AWS_REGION, or the region of the aws program: aws configure'
      : `Give the aws program credentials: aws configure, or a profile that has them: AGENT_SWARM_AWS_PROFILE, AWS_PROFILE. ${CHECK_CREDENTIALS}`,
  )

/** The failure of a command of `aws` that ended with this exit code. `doing` says what was being done. */
export const explainAws = (doing: string, exitCode: number, stderr: string): FailureError => {
  const text = stderr.trim()
  // Version 1 ends with 255 when it does not know an option of version 2.
  if (exitCode === WRONG_COMMAND || /^(?:Unknown options?: |usage: aws )/m.test(text))
    return fail('unsupported', `${doing}: the aws program refuses the command: ${lastLine(text)}`, INSTALL)
  if (exitCode === NOT_CONFIGURED || /config profile .* could not be found/.test(text))
    return notConfigured(doing, lastLine(text))
  if (exitCode === REFUSED) {
    const code = ERROR.exec(text)?.[1] ?? 'unknown'
    const [kind, remedy = null] = codes[code] ?? ['unknown']
    return fail(kind, `${doing}: ${text.replace(ERROR, '')} (${code})`, remedy, withCode(code))
  }
  if (
    /Could not connect to the endpoint URL|Connect timeout|Read timeout|Failed to connect|Connection was closed/.test(
      text,
    )
  )
    return fail('network', `${doing}: ${lastLine(text)}`, "Check this host's connection to AWS, and the region.")
  return fail('unknown', `${doing}: ${lastLine(text)}`)
}
