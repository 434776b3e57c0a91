/** Which instance type a machine of some size gets. What a type has never changes: it is asked for once, and kept in a file. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { fail } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files.ts'
import { folderOf } from './aws.ts'
import type { Context } from './context.ts'
import { instanceTypes } from './parse.ts'

const instanceType = v.object({
  ...{ type: v.string(), cpus: v.number(), memoryMiB: v.number(), architectures: v.array(v.string()) },
})
export type InstanceType = v.InferOutput<typeof instanceType>
/** Of one region, null for that of the program or its profile. A region may not have all types that it was asked for. */
const known = v.object({
  profile: v.optional(v.nullable(v.string()), null),
  ...{ region: v.nullable(v.string()), asked: v.array(v.string()), types: v.array(instanceType) },
})

const readKnown = (file: string): v.InferOutput<typeof known> | null => {
  try {
    return existsSync(file) ? v.parse(known, JSON.parse(readFileSync(file, 'utf8'))) : null
  } catch {
    return null
  }
}

const describeTypes = async (context: Context, doing: string): Promise<InstanceType[]> => {
  const { aws, settings } = context
  const { awsTypes: asked, awsRegion: region, awsProfile: profile } = settings
  const file = join(folderOf(context), 'types.json')
  const before = readKnown(file)
  const isOfHere = before?.region === region && before.profile === profile
  if (isOfHere && asked.every(name => before.asked.includes(name)))
    return before.types.filter(({ type }) => asked.includes(type))
  // A filter, since one unknown type among the names would be an error.
  const filter = { Filters: [{ Name: 'instance-type', Values: asked }] }
  const types = await aws.ask('ec2 describe-instance-types', filter, instanceTypes, { doing })
  writeFileAtomic(file, JSON.stringify({ profile, region, asked, types }))
  return types
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
