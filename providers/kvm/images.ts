/**
 * Base images in the pool: two volumes each, `<name>.qcow2` and `<name>.manifest.json`. The manifest is written last, and no
 * machine is made of an image without one, but the machine that proves it.
 */
import { statSync } from 'node:fs'
import { checkImageName } from '../../base-image/image.ts'
import { IMAGE_NAME } from '../../src/domain.ts'
import type { Context } from './context.ts'
import { listVolumes, refreshPool, withFile } from './host.ts'
import { volumeXml } from './libvirt-xml.ts'

/** For copying an image to or from the pool, or converting it. */
export const COPY_DEADLINE_MS = 10 * 60_000

export const MANIFEST = '.manifest.json'
export const DISK = '.qcow2'

/** The volumes of an image. Fails with `usage` for a name that an image cannot have. */
export const imageVolumes = (name: string) => {
  checkImageName(name)
  return { image: `${name}${DISK}`, manifest: `${name}${MANIFEST}` }
}

/** Without a pool there are no images. Fails when the pool cannot be read: a build would take that for permission to begin. */
export const listImages = async (context: Context): Promise<string[]> => {
  const volumes = await listVolumes(context)
  const names = volumes.filter(name => name.endsWith(MANIFEST)).map(name => name.slice(0, -MANIFEST.length))
  return names.filter(name => IMAGE_NAME.test(name) && volumes.includes(`${name}${DISK}`))
}

/** Copies a file into the pool as a read-only volume. libvirt finds out its format when it refreshes the pool. */
export const publishVolume = async (context: Context, volume: string, path: string): Promise<void> => {
  const { virsh, settings } = context
  await withFile(context, volumeXml(volume, statSync(path).size), xml =>
    virsh.run(['vol-create', settings.kvmPool, xml]),
  )
  await virsh.run(['vol-upload', '--pool', settings.kvmPool, volume, path], { deadline: COPY_DEADLINE_MS })
  await refreshPool(context)
}
