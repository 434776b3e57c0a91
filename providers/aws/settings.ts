import { minValue, number as numberForm, pipe, record, regex, string } from 'valibot'
import { closedObject, listOf, oneOf, pattern, type Setting, type SettingValues } from '../../src/schema/forms.ts'

const instanceType = pattern(
  /^[a-z][a-z0-9-]{1,19}\.[a-z0-9-]{2,19}$/,
  'is not an instance type (for example t3.large)',
)
const dollars = pipe(numberForm('must be a number of US dollars'), minValue(0, 'must be a number of US dollars'))

export const awsSettings = {
  awsRegion: {
    env: 'AGENT_SWARM_AWS_REGION',
    form: pattern(/^[a-z]{2}(?:-[a-z]{2,12}){1,2}-\d$/, 'is not a region of AWS (for example eu-central-1)'),
    says: 'The region of the machines. By default, the one that the `aws` program is configured for.',
    example: 'eu-central-1',
  },
  awsProfile: {
    env: 'AGENT_SWARM_AWS_PROFILE',
    form: pattern(
      /^[A-Za-z0-9_][A-Za-z0-9_.@:/+-]{0,63}$/,
      'is not the name of a profile of the AWS CLI (letters, digits and _.@:/+-, for example swarm)',
    ),
    says: "The profile of the `aws` program: whose credentials, and so which account, the machines are made with. It takes precedence over credentials in the environment. By default, the program's own choice.",
    example: 'swarm',
  },
  awsSecurityGroup: {
    env: 'AGENT_SWARM_AWS_SECURITY_GROUP',
    form: pattern(/^sg-[0-9a-f]{8,32}$/, 'is not the id of a security group (sg-…)'),
    says: 'The security group of the machines; it must let this host in at port 22. Required for `aws` (docs/aws.md).',
    example: 'sg-0123456789abcdef0',
  },
  awsSubnet: {
    env: 'AGENT_SWARM_AWS_SUBNET',
    form: pattern(/^subnet-[0-9a-f]{8,32}$/, 'is not the id of a subnet (subnet-…)'),
    says: 'The subnet of the machines. By default, one of the default VPC.',
    example: 'subnet-0123456789abcdef0',
  },
  awsTypes: {
    env: 'AGENT_SWARM_AWS_TYPES',
    form: listOf(instanceType),
    default: ['t3.small', 't3.medium', 't3.large', 't3.xlarge', 't3.2xlarge'],
    says: 'Instance types for machines. The smallest that has the CPUs and the memory is used.',
    example: ['m7i.large', 'm7i.xlarge'],
  },
  awsMarket: {
    env: 'AGENT_SWARM_AWS_MARKET',
    form: oneOf('on-demand', 'spot'),
    default: 'on-demand',
    says: '`spot`: cheaper machines that AWS may stop at any time, and starts again when it has room (docs/aws.md).',
    example: 'spot',
  },
  awsPrices: {
    env: null,
    form: closedObject({
      date: pattern(/^\d{4}-\d{2}-\d{2}$/, 'must be a date (2026-11-28)'),
      hourly: record(
        pipe(string(), regex(/^[a-z][a-z0-9-]{1,19}\.[a-z0-9-]{2,19}$/, 'is not an instance type')),
        dollars,
      ),
    }),
    says: 'Your own prices of instance types, in US dollars an hour: for an account that may not ask for them, or that pays others. They are shown with their date.',
    example: { date: '2026-11-28', hourly: { 't3.large': 0.0832 } },
  },
} as const satisfies Record<string, Setting>

export type AwsSettings = SettingValues<typeof awsSettings>
