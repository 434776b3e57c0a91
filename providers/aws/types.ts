/** Which instance type a machine of some size gets. What a type has never changes: it is asked for once, and kept in a file. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { fail } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files.ts'
import { folderOf } from './aws.ts'
import type { Context } from './context.ts'
import { instanceTypes } from './parse.ts'

const known = v.array(
  v.object({ type: v.string(), cpus: v.number(), memoryMiB: v.number(), architectures: v.array(v.string()) }),
)
export type InstanceType = v.InferOutput<typeof known>[number]

const readKnown = (file: string): InstanceType[] => {
  try {
    return existsSync(file) ? v.parse(known, JSON.parse(readFileSync(file, 'utf8'))) : []
  } catch {
    return []
  }
}

const describeTypes = async (context: Context, doing: string): Promise<InstanceType[]> => {
  const { aws, settings } = context
  const file = join(folderOf(context), 'types.json')
  const before = readKnown(file)
  const wanted = settings.awsTypes
  if (wanted.every(name => before.some(({ type }) => type === name)))
    return before.filter(({ type }) => wanted.includes(type))
  // A filter, since one unknown type among the names would be an error.
  const filter = { Filters: [{ Name: 'instance-type', Values: wanted }] }
  const found = await aws.ask('ec2 describe-instance-types', filter, instanceTypes, { doing })
  writeFileAtomic(file, JSON.stringify(found))
  return found
}

/** The smallest of the allowed types that has the CPUs and the memory. Fails with `not-configured`. */
export const chooseType = async (
  context: Context,
  { cpus, memoryMiB }: { cpus: number; memoryMiB: number },
  architecture: string,
  doing: string,
): Promise<InstanceType> => {
  const types = await describeTypes(context, doing)
  const [smallest] = types
    .filter(each => each.cpus >= cpus && each.memoryMiB >= memoryMiB && each.architectures.includes(architecture))
    .sort((one, other) => one.memoryMiB - other.memoryMiB || one.cpus - other.cpus)
  if (smallest !== undefined) return smallest
  const allowed = context.settings.awsTypes.join(', ')
  throw fail(
    'not-configured',
    `${doing}: none of the allowed instance types of this region has ${cpus} CPUs, ${memoryMiB} MiB of memory and the image's architecture, ${architecture} (${allowed})`,
    'Allow another type: AGENT_SWARM_AWS_TYPES',
  )
}
