/** `init-base --list` and `--delete`. */

import { IMAGE_NAME } from '../domain.ts'
import { fail } from '../errors.ts'
import type { RunnerContext } from '../runner/context.ts'
import {
  checkDelete,
  listImages as readImages,
  deleteImage as removeImage,
  type UsedImage,
} from '../runner/images/images.ts'
import { counted } from '../words.ts'
import type { Output } from './json.ts'
import { type Invocation, print, printJson, printNote, stripControls, type Terminal } from './terminal/output.ts'
import { table } from './terminal/table.ts'
import { size, when } from './terminal/text.ts'

type Row = Extract<Output<'init-base'>, readonly unknown[]>[number]

const toJson = (provider: string, { name, manifest, tickets, machines }: UsedImage): Row => ({
  ...{ name, provider },
  sizeBytes: manifest?.sizeBytes ?? null,
  sha256: manifest?.sha256 ?? null,
  profile: manifest?.profile ?? null,
  source: manifest?.source ?? null,
  createdAt: manifest?.createdAt ?? null,
  proven: manifest?.proven ?? [],
  unproven: manifest?.unproven ?? [],
  ...{ tickets, machines },
})

/** `DROP-1, DROP-2, 1 other`. */
const users = ({ tickets, machines }: UsedImage): string => {
  const others = machines.length === 0 ? [] : [counted(machines.length, 'other')]
  return [...tickets, ...others].join(', ') || '-'
}

const imageTable = (images: readonly UsedImage[], now: Date, terminal: Terminal): string =>
  table(
    [{ title: 'IMAGE', whole: true }, { title: 'SIZE', whole: true }, 'PROFILE', 'CREATED', 'USED BY', 'SOURCE'],
    images.map(image => {
      const { name, manifest } = image
      if (manifest === null) return [name, '-', '-', '-', users(image), 'cannot be used: a build left it']
      const { sizeBytes, profile, createdAt, source } = manifest
      return [
        name,
        size(sizeBytes),
        profile ?? 'minimal',
        when(createdAt, now, terminal),
        users(image),
        stripControls(source),
      ]
    }),
    terminal,
  )

const proofLines = ({ name, manifest }: UsedImage): string[] => {
  if (manifest === null || (manifest.proven.length === 0 && manifest.unproven.length === 0)) return []
  const { proven, unproven } = manifest
  return [
    `${name}: proven ${proven.map(({ piece }) => piece).join(', ') || 'nothing'}`,
    ...unproven.map(({ piece, why }) => stripControls(`${name}: unproven ${piece}: ${why}`)),
  ]
}

export const listImages = async (context: RunnerContext, { json, terminal }: Invocation): Promise<number> => {
  const provider = await context.chosenProvider()
  const images = await readImages(context, provider)
  if (json)
    printJson<'init-base'>(
      images.map(image => toJson(provider.name, image)),
      terminal,
    )
  else if (images.length > 0) {
    print(imageTable(images, context.clock(), terminal), terminal)
    const lines = images.flatMap(proofLines)
    if (lines.length > 0) print(['', ...lines].join('\n'), terminal)
  } else if (provider.buildBase === undefined) printNote(`${provider.name} needs no base image.`, terminal)
  else printNote('No base images. Build one: agent-swarm init-base', terminal)
  return 0
}

export const deleteImage = async (
  context: RunnerContext,
  { flags, json, quiet, terminal }: Invocation,
  name: string,
): Promise<number> => {
  if (!IMAGE_NAME.test(name)) throw fail('usage', `"${name}" is not an image name`, 'See: agent-swarm init-base --list')
  const provider = await context.chosenProvider()
  if (flags['dry-run'] === true) {
    await checkDelete(context, provider, name)
    if (json) printJson<'init-base'>({ name, result: 'planned', would: ['delete'] }, terminal)
    else print(`Dry run: \`init-base --delete ${name}\` would delete it. Nothing uses it.`, terminal)
    return 0
  }
  await removeImage(context, provider, name)
  if (json) printJson<'init-base'>({ name, result: 'deleted' }, terminal)
  else if (!quiet) print(`Deleted the base image ${name}.`, terminal)
  if (name === context.config.baseImage)
    printNote(`New machines are cloned from ${name}: build it again, or set AGENT_SWARM_BASE_IMAGE.`, terminal)
  return 0
}
