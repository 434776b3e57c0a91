/** What goes into a base image: the profile, steps that are left out, the operator's own, and where things come from. */
import { imageSteps, type SetupOptions, sourceSettings } from '../../../base-image/scripts.ts'
import { fail } from '../../errors.ts'
import { readSteps } from './steps.ts'

type Given = {
  /** The folder of the operator's own steps. `required`: a person named it. */
  folder: { path: string; required: boolean }
  /** `--skip`: names with commas. */
  skip: string | null
  checksums: Readonly<Record<string, string>>
  environment: Readonly<Record<string, string | undefined>>
}

/** Reads `--sha256`: the image's checksum, and those of files that steps download, by name. */
export const readChecksums = (text: string | null): { image: string | null; files: Record<string, string> } => {
  let image: string | null = null
  const files: Record<string, string> = {}
  for (const word of text?.split(',') ?? []) {
    const [, name, hex = ''] = word.toLowerCase().match(/^(?:([a-z]{1,20})=)?([0-9a-f]{64})$/) ?? []
    if (hex === '' || (name === undefined && image !== null))
      throw fail(
        'usage',
        `--sha256 does not take ${JSON.stringify(word.slice(0, 100))}`,
        'Give 64 hex digits for the image, NAME=HEX for a file of a step, and both with a comma: --sha256 HEX,node=HEX',
      )
    if (name === undefined) image = hex
    else files[name] = hex
  }
  return { image, files }
}

/** The set-up without its profile. Fails with `usage` for a step that there is not. */
export const readSetup = ({ folder, skip, checksums, environment }: Given): Omit<SetupOptions, 'profile'> => {
  const own = imageSteps().map(step => step.name)
  const extra = readSteps(folder.path, { required: folder.required })
  const named = extra.map(step => step.name)
  const twice = named.find(name => own.includes(name))
  if (twice !== undefined)
    throw fail(
      'usage',
      `reading the steps in ${folder.path}: ${twice} is the name of a step of agent-swarm`,
      'Rename it.',
    )
  const skipped = skip?.split(',').filter(Boolean) ?? []
  const unknown = skipped.find(name => ![...own, ...named].includes(name))
  if (unknown !== undefined)
    throw fail(
      'usage',
      `--skip: there is no step ${JSON.stringify(unknown)}`,
      `Steps: ${[...own, ...named].join(', ')}`,
    )
  const mirrors = sourceSettings().flatMap(name => {
    const value = environment[name]
    return value === undefined || value === '' ? [] : [[name, value] as const]
  })
  return { extra, skip: skipped, sha256: checksums, mirrors: Object.fromEntries(mirrors) }
}
