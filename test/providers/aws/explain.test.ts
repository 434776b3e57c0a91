/** What the program says when it fails, and how it is asked. */
import { expect, onTestFinished, test } from 'vitest'
import { openAwsProgram } from '../../../providers/aws/aws.ts'
import { codeOf, explainAws } from '../../../providers/aws/explain.ts'
import { openAws } from '../../../providers/aws/index.ts'
import { securityGroups } from '../../../providers/aws/parse.ts'
import { hourlyPrice } from '../../../providers/aws/prices.ts'
import { fail } from '../../../src/errors.ts'
import { settingsWith } from '../../support/ec2/bench.ts'
import { openEc2 } from '../../support/ec2/ec2.ts'
import { standInRun } from '../../support/ec2/program.ts'

const refused = (code: string) =>
  `\nAn error occurred (${code}) when calling the RunInstances operation (reached max retries: 4): in any words\n`

test.for([
  ['capacity', 'InsufficientInstanceCapacity'],
  ['capacity', 'MaxSpotInstanceCountExceeded'],
  ['permission', 'UnauthorizedOperation'],
  ['permission', 'ExpiredToken'],
  ['permission', 'RequestExpired'],
  ['permission', 'OptInRequired'],
  ['busy', 'RequestLimitExceeded'],
  ['hypervisor-unreachable', 'Unavailable'],
  ['busy', 'IncorrectInstanceState'],
  ['unsupported', 'UnsupportedOperation'],
  ['no-such-vm', 'InvalidInstanceID.NotFound'],
  ['no-such-image', 'InvalidAMIID.Unavailable'],
  ['not-configured', 'InvalidGroup.NotFound'],
  ['not-configured', 'InvalidGroupId.Malformed'],
  ['usage', 'InvalidAMIID.Malformed'],
  ['refused', 'OperationNotPermitted'],
  ['permission', 'AuthFailure.ServiceLinkedRoleCreationNotPermitted'],
  ['unknown', 'SomethingNew'],
] as const)('%s is what %s means, in whatever words', ([kind, code]) => {
  const error = explainAws('creating x', 254, refused(code))
  expect(error.failure).toMatchObject({ kind, message: `creating x: in any words (${code})` })
  expect(codeOf(error)).toBe(code)
})

test.for([
  ['unsupported', 252, '\nusage: …\n\nUnknown options: --x\n', '2.9.19'],
  // Version 1.
  [
    'unsupported',
    255,
    'usage: aws [options] <command> <subcommand> [<subcommand> ...] [parameters]\n\nUnknown options: --no-cli-pager\n',
    'Install the AWS CLI, version 2',
  ],
  [
    'not-configured',
    253,
    '\nUnable to locate credentials. You can configure credentials by running "aws configure".\n',
    'aws configure',
  ],
  [
    'not-configured',
    253,
    '\nYou must specify a region. You can also configure your region by running "aws configure".\n',
    'AGENT_SWARM_AWS_REGION',
  ],
  ['not-configured', 255, '\nThe config profile (nobody) could not be found\n', 'AWS_PROFILE'],
  ['network', 255, '\nCould not connect to the endpoint URL: "https://ec2.eu-central-1.amazonaws.com/"\n', 'region'],
] as const)('%s, exit code %i', ([kind, exitCode, stderr, remedy]) => {
  const error = explainAws('listing', exitCode, stderr)
  expect(error.failure).toMatchObject({ kind, remedy: expect.stringContaining(remedy) })
  expect(codeOf(error)).toBeNull()
})

test('an answer that is not what the model says is a failure, and not an empty list', async () => {
  const ec2 = openEc2()
  onTestFinished(ec2.close)
  for (const stdout of ['', 'null', '{"SecurityGroups": [{"GroupId": 7}]}', '[]']) {
    const run = async () => ({ exitCode: 0, stdout, stderr: '', milliseconds: 0 })
    const aws = openAwsProgram({ run, home: ec2.root, settings: settingsWith() })
    const asking = aws.ask('ec2 describe-security-groups', {}, securityGroups, { doing: 'looking' })
    await expect(asking).rejects.toMatchObject({ failure: { kind: 'unknown' } })
  }
})

test('without the program, its remedy names the AWS CLI; version 1 is reported by its number', async () => {
  const ec2 = openEc2()
  onTestFinished(ec2.close)
  const missing = async () => {
    throw fail('provider-missing', 'looking: aws is not installed', 'Install aws.')
  }
  const aws = openAwsProgram({ run: missing, home: ec2.root, settings: settingsWith() })
  await expect(aws.tell('ec2 describe-instances', {}, { doing: 'looking' })).rejects.toMatchObject({
    failure: { kind: 'provider-missing', remedy: expect.stringContaining('Install the AWS CLI, version 2') },
  })
  const old = async () => ({
    exitCode: 0,
    stdout: 'aws-cli/1.45.11 Python/3.11.7 Linux/6.1\n',
    stderr: '',
    milliseconds: 0,
  })
  const tools = { home: ec2.root, homeId: '00112233445566ff', knows: () => false, settings: settingsWith() }
  expect(await openAws({ ...tools, run: old }).diagnose?.(new AbortController().signal)).toMatchObject([
    { status: 'error', text: expect.stringContaining('aws-cli 1.45.11'), remedy: expect.stringContaining('version 2') },
  ])
})

test('every command names the region, no pager, and its input as JSON', async () => {
  const ec2 = openEc2()
  onTestFinished(ec2.close)
  const seen: (readonly string[])[] = []
  const run = standInRun(ec2, argv => seen.push(argv))
  const aws = openAwsProgram({ run, home: ec2.root, settings: settingsWith({ awsRegion: null }) })
  await aws.tell('ec2 describe-instances', { Filters: [] }, { doing: 'looking' })
  await aws.tell('ec2 describe-instances', { Filters: [] }, { doing: 'looking', region: 'eu-west-1' })
  const words = [
    'ec2',
    'describe-instances',
    '--cli-input-json',
    '{"Filters":[]}',
    '--output',
    'json',
    '--no-cli-pager',
  ]
  expect(seen).toEqual([words, [...words, '--region', 'eu-west-1']])
})

const product = (usd: string, unit = 'Hrs') =>
  JSON.stringify({ terms: { OnDemand: { a: { priceDimensions: { b: { unit, pricePerUnit: { USD: usd } } } } } } })
test.for([
  ['one product', [product('0.0832000000')], 0.0832],
  ['the same price twice', [product('0.1'), product('0.1')], 0.1],
  ['prices that differ', [product('0.1'), product('0.2')], null],
  ['a price of something else', [product('0.1', 'Quantity')], null],
  ['nothing', [], null],
  ['what is not JSON, and what has other members', ['x', '{}', 7, null], null],
] as const)('the price list: %s', ([, list, expected]) => expect(hourlyPrice(list)).toBe(expected))
