import { randomBytes } from 'node:crypto'
import { resolve } from 'node:path'
import { fail } from '../errors.ts'
import { guestForBuild } from '../runner/guest.ts'
import { openWorld } from '../runner/world.ts'
import { print, printJson, type RunCommand, size, tell } from './command.ts'

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
  const config = await invocation.config()
  const name = invocation.words[0] ?? config.baseImage
  if (!IMAGE_NAME.test(name))
    throw fail('usage', `"${name}" is no image name`, 'Small letters, digits and hyphens, at most 41.')
  const world = openWorld(config, { interrupt: invocation.signal })
  try {
    const provider = await world.chosenProvider()
    if (provider.buildBase === undefined) throw fail('unsupported', `${provider.name} needs no base image`)
    const began = performance.now()
    const guest = await guestForBuild(world.run, world.home, `build-${randomBytes(4).toString('hex')}`)
    try {
      const manifest = await provider.buildBase({
        name,
        from: from === 'debian-packages' ? { kind: 'debian-packages' } : { kind: 'file', path: resolve(from) },
        onPhase: phase => tell(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${phase}`),
        guest: guest.access,
      })
      if (invocation.json) printJson(manifest)
      else print(`The base image ${manifest.name} is there (${size(manifest.sizeBytes)}, from ${manifest.source}).`)
    } finally {
      guest.forget()
    }
    return 0
  } finally {
    world.close()
  }
}
