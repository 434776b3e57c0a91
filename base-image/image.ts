/** What base images have in common with every hypervisor: names, manifests, and the checksum of a disk. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import * as v from 'valibot'
import { IMAGE_NAME } from '../src/domain.ts'
import { fail } from '../src/errors.ts'
import { type BaseManifest, baseManifest } from '../src/schema/machine.ts'

/** For images that lie beside machines, which are named `as-…`. */
export const isImageName = (name: string): boolean => IMAGE_NAME.test(name) && !name.startsWith('as-')

/** The name itself. Fails with `usage` for one that an image beside machines cannot have. */
export const checkImageName = (name: string): string => {
  if (isImageName(name)) return name
  throw fail(
    'usage',
    `"${name}" is not an image name`,
    'Use lower-case letters, digits and hyphens, at most 41, not beginning with "as-".',
  )
}

/** `rule`: a sentence that says why it is kept. */
export const imageExists = (name: string, rule: string) =>
  fail(
    'already-exists',
    `the base image ${name} already exists`,
    `${rule} Choose another name: agent-swarm init-base <name> --from …`,
  )

/** Characters, or bytes. The list of packages takes 50 KiB. */
export const MAX_MANIFEST = 4 * 1024 ** 2

/** Null: it is not the manifest of this image. */
export const parseManifest = (text: string, name: string): BaseManifest | null => {
  if (text.length > MAX_MANIFEST) return null
  const read = v.safeParse(v.pipe(v.string(), v.parseJson(), baseManifest), text)
  return read.success && read.output.name === name ? read.output : null
}

export const sha256Of = async (path: string, signal?: AbortSignal): Promise<string> => {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, signal === undefined ? {} : { signal })) hash.update(chunk)
  return hash.digest('hex')
}
