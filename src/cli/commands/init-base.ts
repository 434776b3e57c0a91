import { resolve } from 'node:path'
import type { Provider } from '../../../providers/provider.ts'
import { IMAGE_NAME } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { buildBaseImage } from '../../runner/base-build.ts'
import type { RunnerContext } from '../../runner/context.ts'
import { cliUser } from '../change.ts'
import { type Invocation, print, printJson, type RunCommand } from '../terminal/output.ts'
import { openProgress, type ProgressView } from '../terminal/progress.ts'
import { size } from '../terminal/text.ts'
import { withRunnerContext } from '../with-context.ts'

const fromOption = ({ flags: { from } }: Invocation): string => {
  if (typeof from === 'string' && from !== '') return from
  throw fail(
    'usage',
    '--from is missing',
    'Name a cloud image on disk (--from debian-12-genericcloud-amd64.qcow2), or use --from debian-packages.',
  )
}

type Build = { provider: Provider; name: string; from: string }

const plan = async ({ json, terminal }: Invocation, { provider, name, from }: Build): Promise<number> => {
  const exists = (await provider.listBaseImages?.())?.includes(name) === true
  if (json)
    printJson<'init-base'>({ name, result: 'planned', would: exists ? [] : ['build', 'seal', 'prove'] }, terminal)
  else if (exists) print(`Nothing to do: the base image ${name} already exists.`, terminal)
  else
    print(
      [
        `Dry run: \`init-base ${name}\` would:`,
        `  - build it from ${from} on ${provider.name}`,
        '  - seal it',
        '  - boot a machine from it as a test',
      ].join('\n'),
      terminal,
    )
  return 0
}

const build = async (
  context: RunnerContext,
  { json, quiet, signal, terminal }: Invocation,
  { provider, name, from }: Build,
  progress: ProgressView,
): Promise<number> => {
  const source =
    from === 'debian-packages' ? ({ kind: from } as const) : ({ kind: 'file', path: resolve(from) } as const)
  try {
    const manifest = await buildBaseImage(context, provider, {
      ...{ name, from: source, signal, onPhase: progress.phase, by: cliUser() },
    })
    progress.end(true)
    if (json) printJson<'init-base'>(manifest, terminal)
    else if (!quiet)
      print(`Built the base image ${manifest.name} (${size(manifest.sizeBytes)}, from ${manifest.source}).`, terminal)
    return 0
  } catch (error) {
    progress.end(false)
    throw signal.aborted ? fail('cancelled', `building ${name}: cancelled; everything it made is removed`) : error
  }
}

export const run: RunCommand = async invocation => {
  const from = fromOption(invocation)
  const progress = openProgress(invocation)
  return withRunnerContext(
    invocation,
    async context => {
      const name = invocation.words[0] ?? context.config.baseImage
      if (!IMAGE_NAME.test(name))
        throw fail(
          'usage',
          `"${name}" is not an image name`,
          'Use lower-case letters, digits and hyphens, at most 41 characters.',
        )
      const provider = await context.chosenProvider()
      if (provider.buildBase === undefined) throw fail('unsupported', `${provider.name} needs no base image`)
      const request = { provider, name, from }
      return invocation.flags['dry-run'] === true
        ? plan(invocation, request)
        : build(context, invocation, request, progress)
    },
    progress.note,
  )
}
