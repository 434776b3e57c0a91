/** What a provider reports about its machines and images. */
import * as v from 'valibot'
import { count, described, imageName, providerName, time } from './basics.ts'

const text = v.string()

/**
 * What a machine takes of its host. `memoryUsedBytes`: the hypervisor's overhead included; 0 when stopped, null when unknown.
 * `cpuSeconds`: null when stopped or unknown.
 */
export const vmUsage = v.object({
  diskBytes: described(count, "On the host's disk, with its checkpoints."),
  cpus: count,
  memoryBytes: described(count, 'Upper limit.'),
  memoryUsedBytes: described(v.nullable(count), 'Memory of the host in use now.'),
  cpuSeconds: described(v.nullable(v.pipe(v.number(), v.minValue(0))), 'Processor time since its start.'),
})
export type VmUsage = v.InferOutput<typeof vmUsage>

export const baseManifest = v.object({
  name: imageName,
  provider: providerName,
  sha256: described(text, 'SHA-256 of the image file.'),
  source: text,
  contents: described(v.array(text), 'Packages with versions.'),
  createdAt: time,
  sizeBytes: count,
})
export type BaseManifest = v.InferOutput<typeof baseManifest>
