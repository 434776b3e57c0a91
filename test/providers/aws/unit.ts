/** A machine on our stand-in for EC2, which ends with its test. */
import { onTestFinished } from 'vitest'
import { awsOptions, BASE, openUnit, type Unit } from '../../support/ec2/bench.ts'

type Options = Parameters<typeof openUnit>[0]

export const ID = 'as-ab-1-00000001'

export const open = (options: Options = {}): Unit => {
  const unit = openUnit(options)
  onTestFinished(unit.ec2.close)
  return unit
}
export const withMachine = async (options: Options = {}): Promise<Unit> => {
  const unit = open(options)
  await unit.provider.createVm('AB-1', BASE, awsOptions(ID))
  await unit.provider.startVm(ID)
  return unit
}
/** The actions of EC2 that were called, from this one on. */
export const actions = ({ ec2 }: Pick<Unit, 'ec2'>, from = 0): string[] =>
  ec2.calls.slice(from).map(({ action }) => action)
