/** Base images and firmware, by the CLI. No machine is started here, but those that build the base image. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, expect, test } from 'vitest'
import { BASE, ensureBase, everything, home, program, succeed, swarm, swarmWith, virsh } from './cli.ts'

let before: Awaited<ReturnType<typeof everything>>
beforeAll(ensureBase)
beforeEach(async () => {
  before = await everything()
})

test('the base image has a manifest that describes it', async () => {
  const file = join(home, 'manifest.json')
  await virsh('vol-download', '--pool', 'agent-swarm', `${BASE}.manifest.json`, file)
  const manifest = JSON.parse(readFileSync(file, 'utf8'))
  expect(manifest).toMatchObject({
    name: BASE,
    provider: 'kvm',
    source: 'debian-packages (bookworm)',
    sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
  })
  expect(manifest.contents.join('\n')).toMatch(/^cloud-init .*\n[\s\S]*^git /m)
  // The manifest vouches for the image in the pool.
  const image = join(home, 'image.qcow2')
  await virsh('vol-download', '--pool', 'agent-swarm', `${BASE}.qcow2`, image)
  expect((await succeed(program('sha256sum', [image]))).split(' ')[0]).toContain(manifest.sha256)
  rmSync(image)
})

test('an image is never overwritten', async () => {
  const ran = await swarm('init-base', '--from', 'debian-packages')
  expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining(`the base image ${BASE} already exists`) })
  expect(await everything()).toEqual(before)
})

test('a source that is not a disk leaves no image, no machine and no volume', async () => {
  const text = join(home, 'text.img')
  writeFileSync(text, 'not a disk')
  for (const from of ['/nowhere/at-all.qcow2', text])
    expect(await swarm('init-base', 'broken', '--from', from)).toMatchObject({ code: 2 })
  expect(await everything()).toEqual(before)
  expect(readdirSync(join(home, 'kvm')).filter(name => name.startsWith('build-'))).toEqual([])
})

test('without its base image, a create names the command that makes it, and leaves nothing', async () => {
  expect(await swarmWith({ AGENT_SWARM_BASE_IMAGE: 'no-such-image' }, 'create', 'LIFE-8')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('agent-swarm init-base no-such-image --from debian-packages'),
  })
  expect(await everything()).toEqual(before)
})

test('UEFI is available where this libvirt can restore its checkpoints, and is refused with the reason elsewhere', async () => {
  const [, version = ''] = (await virsh('version', '--daemon')).match(/Running against daemon: ([\d.]+)/) ?? []
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const uefi = { AGENT_SWARM_KVM_FIRMWARE: 'uefi' }
  const providers = JSON.parse(await succeed(swarmWith(uefi, 'providers', '--json')))
  const kvm = providers.find((row: { name: string }) => row.name === 'kvm')
  if (major > 10 || (major === 10 && minor >= 10)) {
    expect(kvm).toMatchObject({ available: true })
    return
  }
  const reason = `checkpoints of a machine with UEFI need libvirt 10.10 or newer, and this is ${version}`
  expect(kvm).toMatchObject({ available: false, reason: `${reason}.` })
  expect(await swarmWith(uefi, 'create', 'LIFE-7')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(new RegExp(`${reason}[\\s\\S]*AGENT_SWARM_KVM_FIRMWARE=bios`)),
  })
  expect(await everything()).toEqual(before)
})
