/** What a provider reports about its machines and images. */
import * as v from 'valibot'
import { IMAGE_PROFILES } from '../domain.ts'
import { count, described, imageName, providerName, time } from './basics.ts'

const text = v.string()

/**
 * What a machine takes of its host. `memoryUsedBytes`: the hypervisor's overhead included; 0 when stopped, null where the platform
 * has no such figure. `cpuSeconds`: null when stopped, and where the platform has no such figure.
 */
export const vmUsage = v.object({
  diskBytes: described(count, "On the host's disk, with its checkpoints."),
  cpus: count,
  memoryBytes: described(count, 'Upper limit.'),
  memoryUsedBytes: described(v.nullable(count), 'Memory of the host in use now.'),
  cpuSeconds: described(v.nullable(v.pipe(v.number(), v.minValue(0))), 'Processor time since its start.'),
})
export type VmUsage = v.InferOutput<typeof vmUsage>

/** What a machine costs while it runs. Its disk, checkpoints and addresses cost besides, also while it is stopped. */
export const machinePrice = v.object({
  usdPerHour: described(v.nullable(v.pipe(v.number(), v.minValue(0))), 'US dollars an hour; null when it is unknown.'),
  isUpperBound: described(v.boolean(), 'Whether it costs less than that: a Spot machine.'),
  at: described(v.nullable(text), 'The date of the price; null when it is unknown.'),
  source: described(text, 'Where the price comes from, or would.'),
})
export type MachinePrice = v.InferOutput<typeof machinePrice>

const piece = described(text, 'A part of the image, for example postgresql.')
/** What the check of a build showed. Manifests of earlier versions have none. */
const checks = {
  proven: v.array(v.object({ piece, how: described(text, 'How it was used.') })),
  unproven: v.array(v.object({ piece, why: described(text, 'Why it could not be used there.') })),
}

export const baseManifest = v.object({
  name: imageName,
  provider: providerName,
  sha256: described(v.nullable(text), 'SHA-256 of the image file; null where the platform shows no file.'),
  source: text,
  profile: described(
    v.optional(v.nullable(v.picklist(IMAGE_PROFILES)), null),
    'Null: an earlier version built it, and it is minimal.',
  ),
  contents: described(v.array(text), 'Packages with versions.'),
  proven: described(v.optional(checks.proven, []), 'What was used in a machine that was cloned from it.'),
  unproven: described(v.optional(checks.unproven, []), 'What it contains and could not be used there.'),
  createdAt: time,
  homeId: described(
    v.optional(v.nullable(text), null),
    'The home that built it. Null: an earlier version did not note it.',
  ),
  sizeBytes: count,
})
export type BaseManifest = v.InferOutput<typeof baseManifest>
