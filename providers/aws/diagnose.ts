/** Whether machines can be made here, and what AWS says about those that there are. Changes nothing. */
import { ok, problem, warning } from '../../src/check.ts'
import { failureOf } from '../../src/errors.ts'
import { runDiagnosis } from '../diagnosis.ts'
import type { Diagnosis, Provider } from '../provider.ts'
import { openAwsProgram } from './aws.ts'
import type { Context } from './context.ts'
import { INSTALL } from './explain.ts'
import { listImages } from './images.ts'
import { isInterrupted, ownSpotRequests, wordsOf } from './interruptions.ts'
import { findGroup, isolationReport } from './isolated.ts'
import { noSecurityGroup } from './machines.ts'
import { parseMark } from './marks.ts'
import { identity, type SpotRequest } from './parse.ts'

const MOST_TOLD = 10

export const available = async (context: Context): ReturnType<Provider['available']> => {
  const doing = 'asking AWS who this is'
  try {
    if (context.settings.awsSecurityGroup === null) throw noSecurityGroup('making machines')
    await context.aws.ask('sts get-caller-identity', {}, identity, { doing })
    return { available: true }
  } catch (error) {
    const { message, remedy } = failureOf(error, doing)
    return { available: false, reason: message, remedy }
  }
}

/** Neither account nor user: a transcript has it. */
const checkIdentity = async ({ aws, settings }: Context): Promise<Diagnosis> => {
  const doing = 'asking AWS who this is'
  const version = await aws.version('asking for the version of the AWS CLI')
  if (/^1\./.test(version)) return problem(`the AWS CLI here is aws-cli ${version}, which is version 1`, INSTALL)
  await aws.ask('sts get-caller-identity', {}, identity, { doing })
  const where = settings.awsRegion === null ? "the aws program's own region" : settings.awsRegion
  const who = settings.awsProfile === null ? '' : ` by the profile ${settings.awsProfile}`
  return ok(`aws-cli ${version}; AWS knows this host${who}, and machines are in ${where}`)
}

const checkGroup = async (context: Context): Promise<Diagnosis> => {
  const doing = 'looking at the security group'
  const group = await findGroup(context, doing)
  if (group === null) {
    const { message, remedy } = failureOf(noSecurityGroup('making machines'), doing)
    return problem(message, remedy)
  }
  const isOpen = group.IpPermissions.some(({ IpProtocol, FromPort, ToPort }) =>
    IpProtocol === '-1' ? true : IpProtocol === 'tcp' && (FromPort ?? 0) <= 22 && (ToPort ?? 65_535) >= 22,
  )
  const id = group.GroupId
  return isOpen
    ? ok(`the security group ${id} lets somebody in at port 22`)
    : problem(
        `the security group ${id} lets nobody in at port 22, so machines are not reached`,
        `aws ec2 authorize-security-group-ingress --group-id ${id} --protocol tcp --port 22 --cidr THIS_HOST/32`,
      )
}

const checkImages = async (context: Context): Promise<Diagnosis> => {
  const names = await listImages(context)
  return names.length > 0
    ? ok(`base images: ${names.slice(0, MOST_TOLD).join(', ')}`)
    : warning('there is no base image', 'Make one: agent-swarm init-base NAME --from ami-…')
}

const wordsFor = (request: SpotRequest): string =>
  `${parseMark(request.Tags)?.vmId ?? request.SpotInstanceRequestId} (${wordsOf(request)})`

const checkInterruptions = async (context: Context): Promise<Diagnosis | null> => {
  const requests = await ownSpotRequests(context)
  if (requests.length === 0) return null
  const interrupted = requests.filter(isInterrupted)
  return interrupted.length === 0
    ? ok('AWS has interrupted no Spot machine')
    : warning(
        `AWS interrupts Spot machines, or has: ${interrupted.slice(0, MOST_TOLD).map(wordsFor).join(', ')}`,
        'AWS starts them again when it has room. What was saved on their disks stays. To be spared: AGENT_SWARM_AWS_MARKET=on-demand, for new machines',
      )
}

const checkIsolation = async (context: Context): Promise<Diagnosis> => {
  const report = await isolationReport(context)
  return report.isolated ? ok(report.note) : warning(`machines are not isolated: ${report.reason}`, report.remedy)
}

/** `signal` ends it. When AWS does not know us, only that is reported. */
export const diagnose = async (given: Context, signal: AbortSignal): Promise<Diagnosis[]> => {
  const run: Context['run'] = (program, argv, options = {}) => given.run(program, argv, { ...options, signal })
  const context: Context = { ...given, run, aws: openAwsProgram({ ...given, run }) }
  const [first] = await runDiagnosis([['asking AWS who this is', () => checkIdentity(context)]])
  if (first?.status !== 'ok') return first === undefined ? [] : [first]
  return [
    first,
    ...(await runDiagnosis([
      ['looking at the security group', () => checkGroup(context)],
      ['looking for base images', () => checkImages(context)],
      ['looking for interruptions', () => checkInterruptions(context)],
      ['looking at isolation', () => checkIsolation(context)],
    ])),
  ]
}
