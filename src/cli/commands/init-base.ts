import { resolve } from 'node:path'
import { fail } from '../../errors.ts'
import { buildBaseImage } from '../../runner/base-build.ts'
import { print, printJson, type RunCommand, size } from '../terminal/output.ts'
import { openProgress } from '../terminal/progress.ts'
import { withRunnerContext } from '../with-context.ts'

const IMAGE_NAME = /^[a-z0-9][a-z0-9-]{0,40}$/

export const run: RunCommand = async invocation => {
  const { from } = invocation.flags
  if (typeof from !== 'string' || from === '') {
    throw fail(
      'usage',
      'init-base: --from is missing',
      'Name a cloud image on disk (--from debian-12-genericcloud-amd64.qcow2), or --from debian-packages.',
    )
  }
  const progress = openProgress(invocation)
  return withRunnerContext(
    invocation,
    async world => {
      const name = invocation.words[0] ?? world.config.baseImage
      if (!IMAGE_NAME.test(name))
        throw fail('usage', `"${name}" is no image name`, 'Small letters, digits and hyphens, at most 41.')
      const provider = await world.chosenProvider()
      if (provider.buildBase === undefined) throw fail('unsupported', `${provider.name} needs no base image`)
      const source =
        from === 'debian-packages' ? ({ kind: from } as const) : ({ kind: 'file', path: resolve(from) } as const)
      if (invocation.flags['dry-run'] === true) {
        const there = (await provider.listBaseImages?.())?.includes(name) === true
        if (invocation.json)
          printJson<'init-base'>({ name, result: 'planned', would: there ? [] : ['build', 'seal', 'prove'] })
        else
          print(
            there
              ? `There is a base image ${name} already; it would be left alone.`
              : `${provider.name} would build the base image ${name} from ${from}, seal it, and prove it by a boot. Nothing was changed.`,
          )
        return 0
      }
      const { signal } = invocation
      try {
        const manifest = await buildBaseImage(world, provider, {
          ...{ name, from: source, signal, onPhase: progress.phase, by: { via: 'cli', who: null } },
        })
        progress.end(true)
        if (invocation.json) printJson<'init-base'>(manifest)
        else if (!invocation.quiet)
          print(`The base image ${manifest.name} is there (${size(manifest.sizeBytes)}, from ${manifest.source}).`)
      } catch (error) {
        progress.end(false)
        throw invocation.signal.aborted
          ? fail('cancelled', `building ${name}: cancelled; what was made is removed`)
          : error
      }
      return 0
    },
    progress.note,
  )
}
