/** Base images on Hyper-V: what is never removed. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { buildBase } from '../../../providers/hyperv/build.ts'
import type { Context } from '../../../providers/hyperv/context.ts'
import { makeFolder } from '../../../providers/hyperv/folders.ts'
import type { BuildBase } from '../../../providers/provider.ts'

const VM = 'as-ab-1-0000000a'

test('what a killed build left of an image stays while a machine depends on it', async () => {
  const home = mkdtempSync(join(tmpdir(), 'hyperv-images-'))
  try {
    const image = join(home, 'hyperv', 'images', 'base.vhdx')
    mkdirSync(join(home, 'hyperv', 'images'), { recursive: true })
    writeFileSync(image, 'vhdxfile')
    makeFolder(home, VM, { home: '0011', mac: '', address: null, gateway: null, image: 'base' })
    const request = { name: 'base', from: { kind: 'file' } } as BuildBase
    await expect(buildBase({ home } as Context, request)).rejects.toMatchObject({
      failure: { kind: 'refused', message: `building base: ${VM} depend on it` },
    })
    expect(existsSync(image)).toBe(true)
  } finally {
    rmSync(home, { recursive: true })
  }
})
