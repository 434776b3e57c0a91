/** The commands of a machine's life, for an owner who compares them: AGENT_SWARM_TEST_RECORD=1 writes docs/commands-aws.md. */
import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { ForkTarget } from '../../../providers/provider.ts'
import { awsOptions, BASE, openUnit, type Unit } from '../../support/ec2/bench.ts'

const PAGE = resolve(import.meta.dirname, '../../../docs/commands-aws.md')
const ID = 'as-drop-2100-1a2b3c4d'

/** The command line, with the content of an input file in place of its name. */
const shown = (unit: Unit, argv: readonly string[], at: number): string => {
  const [service, command, , given = '', ...rest] = argv
  const input = given.startsWith('file://') ? JSON.stringify(withoutSeed(unit.ec2.calls[at]?.input ?? {})) : given
  const how = given.startsWith('file://') ? ' (in a file that only this user can read)' : ''
  return `aws ${service} ${command} --cli-input-json '${input}'${how} ${rest.join(' ')}`
}
const withoutSeed = (input: Record<string, unknown>) => ({ ...input, UserData: '#cloud-config …' })

const target = (n: number): ForkTarget => {
  const { vmId, publicKey, hostKey } = awsOptions(`as-drop-2100-${n}-5e6f7a8${n}`)
  return { vmId, ticket: `DROP-2100~${n}`, publicKey, hostKey }
}

const record = async (): Promise<string> => {
  const unit = openUnit({ looks: { change: 1, shown: 0 }, settings: { awsMarket: 'spot' } })
  onTestFinished(unit.ec2.close)
  const { provider } = unit
  const steps: [string, () => Promise<unknown>][] = [
    ['available', () => provider.available()],
    ['create', () => provider.createVm('DROP-2100', BASE, awsOptions(ID))],
    ['start', () => provider.startVm(ID)],
    ['address', () => provider.sshInfo(ID)],
    [
      'list, usage and prices together',
      () => Promise.all([provider.listVms(), provider.usage?.(), provider.prices?.()]),
    ],
    ['another ticket', async () => provider.assign?.(ID, 'WEB-7')],
    ['checkpoint', () => provider.checkpoint(ID, 'before-refactor')],
    ['restore', () => provider.restore(ID, 'before-refactor')],
    ['delete a checkpoint', async () => provider.deleteCheckpoint?.(ID, 'before-refactor')],
    ['two attempts', async () => provider.fork?.(ID, null, [1, 2].map(target))],
    ['stop', () => provider.stopVm(ID)],
    ['start again', () => provider.startVm(ID)],
    ['the look of each minute', () => Promise.all([provider.listVms(), provider.endings?.(), provider.leftovers?.()])],
    ['isolation', async () => provider.isolated?.()],
    ['delete', () => provider.deleteVm(ID)],
  ]
  const parts: string[] = []
  for (const [title, work] of steps) {
    const from = unit.commands.length
    await work()
    const lines = unit.commands.slice(from).map((argv, n) => shown(unit, argv, from + n))
    parts.push(`## ${title}\n\n\`\`\`\n${lines.join('\n')}\n\`\`\`\n`)
  }
  return `# The commands of a machine's life on EC2

<!-- Recorded by test/providers/aws/commands.test.ts with AGENT_SWARM_TEST_RECORD=1. -->

What agent-swarm runs, in this order, for one Spot machine. It was recorded over an EC2 of the tests, so ids are not real, and states change at the next look. On AWS, a look is repeated until the state is there. Everything goes in as JSON; [aws.md](aws.md) says what each is for.

${parts.join('\n')}`
}

test('docs/commands-aws.md has the commands that the provider runs', async () => {
  const page = await record()
  if (process.env.AGENT_SWARM_TEST_RECORD === '1') writeFileSync(PAGE, page)
  expect(readFileSync(PAGE, 'utf8')).toBe(page)
})
