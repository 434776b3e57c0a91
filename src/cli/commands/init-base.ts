import { join, resolve } from 'node:path'
import type { SetupOptions } from '../../../base-image/scripts.ts'
import type { BaseManifest, Provider } from '../../../providers/provider.ts'
import { IMAGE_NAME, type ImageProfile } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { buildBaseImage } from '../../runner/base-build.ts'
import type { RunnerContext } from '../../runner/context.ts'
import { readChecksums, readSetup } from '../../runner/images/setup.ts'
import { describeWanted, readWanted, type Wanted } from '../../runner/images/source.ts'
import { deleteImage, listImages } from '../base-images.ts'
import { cliUser } from '../change.ts'
import { type Invocation, print, printJson, printNote, type RunCommand } from '../terminal/output.ts'
import { openProgress } from '../terminal/progress.ts'
import { openAsk } from '../terminal/prompt.ts'
import { size } from '../terminal/text.ts'
import { withRunnerContext } from '../with-context.ts'

/** The operator's own steps. */
const STEPS_FOLDER = 'base-image.d'

const textOf = ({ flags }: Invocation, name: string): string | null => {
  const value = flags[name]
  return typeof value === 'string' ? value : null
}

/** Asks on a terminal when the command line does not say it. */
const profileOf = async (invocation: Invocation): Promise<ImageProfile> => {
  const { json, quiet, signal, terminal } = invocation
  const given = textOf(invocation, 'profile')
  if (given !== null) return given as ImageProfile
  if (json || quiet || terminal.stdin.isTTY !== true) return 'full'
  const ask = await openAsk(signal)
  return (
    ask?.choose(
      'What shall the machines have?',
      [
        {
          value: 'full',
          label: 'full',
          hint: 'PostgreSQL, Redis, Pub/Sub, Node.js, Python and Rust; takes several GiB',
        },
        { value: 'minimal', label: 'minimal', hint: 'SSH, git and what every machine needs' },
      ],
      'full',
    ) ?? 'full'
  )
}

type Build = { provider: Provider; name: string; wanted: Wanted; setup: Omit<SetupOptions, 'profile'> }

const readBuild = async (context: RunnerContext, invocation: Invocation): Promise<Build> => {
  const provider = await context.chosenProvider()
  if (provider.buildBase === undefined) throw fail('unsupported', `${provider.name} needs no base image`)
  const name = invocation.words[0] ?? context.config.baseImage
  if (!IMAGE_NAME.test(name))
    throw fail(
      'usage',
      `"${name}" is not an image name`,
      'Use lower-case letters, digits and hyphens, at most 41 characters.',
    )
  const folder = textOf(invocation, 'steps')
  const checksums = readChecksums(textOf(invocation, 'sha256'))
  return {
    provider,
    name,
    wanted: readWanted(textOf(invocation, 'from'), checksums.image, provider),
    setup: readSetup({
      folder: { path: resolve(folder ?? join(context.home, STEPS_FOLDER)), required: folder !== null },
      skip: textOf(invocation, 'skip'),
      checksums: checksums.files,
      environment: context.config.environment,
    }),
  }
}

const plan = async (
  { json, terminal }: Invocation,
  { provider, name, wanted, setup }: Build,
  profile: ImageProfile,
) => {
  const exists = (await provider.listBaseImages?.())?.includes(name) === true
  const download = wanted.kind === 'download' || wanted.kind === 'cloud-image'
  if (json) {
    const made = wanted.kind === 'registry' ? (['download'] as const) : (['build', 'seal'] as const)
    const would = [...(download ? (['download'] as const) : []), ...made, 'prove' as const]
    printJson<'init-base'>({ name, result: 'planned', would: exists ? [] : would }, terminal)
  } else if (exists) print(`Nothing to do: the base image ${name} already exists.`, terminal)
  else if (wanted.kind === 'registry')
    print(
      [
        `Dry run: \`init-base ${name}\` would:`,
        `  - take it from ${describeWanted(wanted)}`,
        '  - boot a machine from it as a test',
      ].join('\n'),
      terminal,
    )
  else
    print(
      [
        `Dry run: \`init-base ${name}\` would:`,
        ...(download ? [`  - download ${describeWanted(wanted)}`] : []),
        `  - build it from ${describeWanted(wanted)} on ${provider.name}, with the profile ${profile}`,
        ...(setup.skip?.length ? [`  - leave out ${setup.skip.join(', ')}`] : []),
        ...(setup.extra.length === 0
          ? []
          : [`  - run your own steps: ${setup.extra.map(each => each.name).join(', ')}`]),
        '  - seal it',
        '  - boot a machine from it as a test',
      ].join('\n'),
      terminal,
    )
  return 0
}

const showBuilt = ({ json, quiet, terminal }: Invocation, manifest: BaseManifest): void => {
  if (json) printJson<'init-base'>(manifest, terminal)
  if (json || quiet) return
  const { name, profile, sizeBytes, source, proven, unproven } = manifest
  print(`Built the base image ${name} (${profile}, ${size(sizeBytes)}, from ${source}).`, terminal)
  for (const { piece, how } of proven) print(`  proven    ${piece}: ${how}`, terminal)
  for (const { piece, why } of unproven) print(`  unproven  ${piece}: ${why}`, terminal)
}

const bytes = (done: number, total: number | null): string =>
  total === null ? size(done) : `${size(done)} of ${size(total)} (${Math.floor((100 * done) / Math.max(1, total))} %)`

const build = async (
  context: RunnerContext,
  invocation: Invocation,
  { provider, setup, ...request }: Build,
  profile: ImageProfile,
) => {
  const { signal } = invocation
  const progress = openProgress(invocation)
  let phase = ''
  const onPhase = (name: string) => {
    phase = name
    progress.phase(name)
  }
  try {
    const manifest = await buildBaseImage(context, provider, {
      ...{ ...request, setup: { ...setup, profile }, signal, by: cliUser(), onPhase, onNote: progress.note },
      onBytes: (done, total) => progress.detail(bytes(done, total)),
    })
    progress.end(true)
    showBuilt(invocation, manifest)
    return 0
  } catch (error) {
    progress.end(false)
    if (!signal.aborted) throw error
    const left =
      phase === 'download'
        ? 'what was downloaded is kept, and the same command continues there'
        : 'everything it made is removed'
    throw fail('cancelled', `building ${request.name}: cancelled; ${left}`)
  }
}

const requireAlone = ({ words, flags }: Invocation, flag: 'list' | 'delete'): void => {
  const others = ['from', 'sha256', 'profile', 'skip', 'steps', 'list', 'delete'].filter(
    name => name !== flag && flags[name] !== undefined,
  )
  const extra = words[0] === undefined ? others.map(name => `--${name}`)[0] : `the name ${words[0]}`
  if (extra !== undefined) throw fail('usage', `--${flag} cannot be combined with ${extra}`)
}

export const run: RunCommand = invocation =>
  withRunnerContext(
    invocation,
    async context => {
      const { flags } = invocation
      if (flags.list === true) {
        requireAlone(invocation, 'list')
        return listImages(context, invocation)
      }
      const name = textOf(invocation, 'delete')
      if (name !== null) {
        requireAlone(invocation, 'delete')
        return deleteImage(context, invocation, name)
      }
      const request = await readBuild(context, invocation)
      const profile = await profileOf(invocation)
      return flags['dry-run'] === true
        ? plan(invocation, request, profile)
        : build(context, invocation, request, profile)
    },
    text => printNote(text, invocation.terminal),
  )
