/** How many commands are asked of AWS, which take a second or two each: a number that does not grow with the machines. */
import { expect, onTestFinished, test } from 'vitest'
import { awsOptions, BASE, openUnit, type Unit } from '../../support/ec2/bench.ts'

const ID = 'as-ab-1-00000001'
const withMachine = async (options: Parameters<typeof openUnit>[0] = {}) => {
  const unit = openUnit(options)
  onTestFinished(unit.ec2.close)
  await unit.provider.createVm('AB-1', BASE, awsOptions(ID))
  await unit.provider.startVm(ID)
  return unit
}

/** AWS ends what is being terminated while it is looked at. */
const until = async ({ ec2, provider }: Unit): Promise<void> => {
  while (ec2.instancesOf(ID).some(({ state }) => state !== 'terminated')) await provider.listVms()
}

/** By name: some run at the same time. */
const asked = async ({ ec2 }: Unit, work: () => Promise<unknown>): Promise<string[]> => {
  const from = ec2.calls.length
  await work()
  return ec2.calls
    .slice(from)
    .map(({ action }) => action)
    .toSorted()
}
const listing = ({ provider }: Unit) =>
  Promise.all([provider.listVms(), provider.endings?.(), provider.usage?.(), provider.prices?.()])
/** What the reconciler asks each minute. */
const minute = ({ provider }: Unit) => Promise.all([provider.listVms(), provider.endings?.(), provider.leftovers?.()])
const fill = async (unit: Unit) => {
  for (let n = 2; n < 12; n += 1)
    await unit.provider.createVm(`AB-${n}`, BASE, awsOptions(`as-ab-${n}-0000000${n % 10}`))
}

test('list and status take one command for any number of machines, and the look of each minute two', async () => {
  const unit = await withMachine()
  for (const more of [async () => {}, fill]) {
    await more(unit)
    expect(await asked(unit, () => listing(unit))).toEqual(['DescribeInstances'])
    expect(await asked(unit, () => minute(unit))).toEqual(['DescribeInstances', 'DescribeTags'])
  }
})

test('with Spot machines it is one command more, for any number of them', async () => {
  const unit = await withMachine({ settings: { awsMarket: 'spot' } })
  const [of, requests] = [['DescribeInstances'], ['DescribeSpotInstanceRequests']]
  for (const more of [async () => {}, fill]) {
    await more(unit)
    expect(await asked(unit, () => listing(unit))).toEqual([...of, ...requests])
    expect(await asked(unit, () => minute(unit))).toEqual([...of, ...requests, 'DescribeTags'])
  }
})

test('what a machine left is looked at only where its tags say that there is something', async () => {
  const unit = await withMachine()
  await unit.provider.checkpoint(ID, 'one')
  expect(await asked(unit, () => minute(unit))).toEqual(['DescribeInstances', 'DescribeTags'])
  unit.ec2.terminate(ID)
  await until(unit)
  const actions = await asked(unit, async () =>
    expect(await unit.provider.leftovers?.()).toMatchObject([{ vmId: ID, hasDisk: true }]),
  )
  expect(actions).toEqual(['DescribeInstances', 'DescribeInstances', 'DescribeSnapshots', 'DescribeTags'])
})

test('without the right to see tags, everything is looked at', async () => {
  const unit = await withMachine()
  await unit.provider.checkpoint(ID, 'one')
  unit.ec2.terminate(ID)
  await until(unit)
  unit.ec2.failNext('DescribeTags', 'UnauthorizedOperation')
  expect(await unit.provider.leftovers?.()).toMatchObject([{ vmId: ID, hasDisk: true }])
})
