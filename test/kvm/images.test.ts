/** Base images and firmware, by the CLI. Of a second image, one machine is created. */
import { createReadStream, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest'
import { isLong } from '../support/samples.ts'
import { BASE, ensureBase, everything, home, inside, program, succeed, swarm, swarmWith, virsh } from './cli.ts'

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
    profile: 'minimal',
    unproven: [],
    sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
  })
  expect(manifest.proven).not.toEqual([])
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

/** A cloud image at an address of this computer: the base image itself, whose packages are all there. */
const publishBase = async () => {
  const file = join(home, 'published.qcow2')
  await virsh('vol-download', '--pool', 'agent-swarm', `${BASE}.qcow2`, file)
  const sha256 = (await succeed(program('sha256sum', [file]))).match(/[0-9a-f]{64}/)?.[0] ?? ''
  const server = createServer((_, response) => {
    response.writeHead(200, { 'content-length': statSync(file).size })
    createReadStream(file).pipe(response)
  })
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  onTestFinished(() => {
    server.close()
    rmSync(file)
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/published.qcow2`, sha256 }
}
/** Without those of golden.test.ts, which a kept state has. */
const images = async () =>
  JSON.parse(await succeed(swarm('init-base', '--list', '--json'))).filter(
    ({ name }: { name: string }) => !name.startsWith('golden-'),
  )

test.skipIf(!isLong)(
  'a second image stands beside the first, with a step of its own, and goes when nothing uses it',
  async () => {
    const { url, sha256 } = await publishBase()
    const steps = join(home, 'base-image.d')
    mkdirSync(steps, { mode: 0o700 })
    onTestFinished(() => rmSync(steps, { recursive: true }))
    writeFileSync(join(steps, '50-own.sh'), 'echo "own step, $(id -un)" >/etc/own-step\n', { mode: 0o600 })

    // The machines of these tests have no internet, so the parts that `full` has besides are left out; its larger disk stays.
    const skipped = ['node', 'python', 'rust', 'postgres', 'redis', 'gcloud', 'pubsub']
    const from = ['--from', url, '--profile', 'full', '--skip', skipped.join(',')]
    expect(await swarm('init-base', 'second', ...from, '--sha256', '0'.repeat(64))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`its SHA-256 is ${sha256}`),
    })
    expect(await everything()).toEqual(before)

    const built = await swarm('init-base', 'second', ...from, '--sha256', sha256)
    expect(built.code, built.stderr).toBe(0)
    expect(built.stderr).toMatch(/download\n[\s\S]* set up: base\n[\s\S]* set up: 50-own\n[\s\S]* prove\n/)
    expect(built.stdout).toMatch(/^Built the base image second \(full, .* proven +base: .* unproven +node: /s)
    expect(readdirSync(join(home, 'downloads'))).toEqual([])
    expect(await images()).toMatchObject([
      { name: BASE },
      { name: 'second', source: `${url} (sha256 ${sha256})`, tickets: [] },
    ])

    const unproven = [...skipped, '50-own'].map(piece => ({ piece, why: expect.any(String) }))
    expect((await images())[1].unproven).toEqual(unproven)

    const second = { AGENT_SWARM_BASE_IMAGE: 'second' }
    expect(await swarmWith({ ...second, AGENT_SWARM_DISK_GIB: '4' }, 'create', 'LIFE-30')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('smaller than that of the base image second, 8 GiB'),
    })
    await succeed(swarmWith(second, 'create', 'LIFE-30'))
    expect(await inside('LIFE-30', 'cat /etc/own-step')).toBe('own step, root')
    expect(Number(await inside('LIFE-30', 'df --output=size -BM / | tr -dc 0-9'))).toBeGreaterThan(7_000)
    expect((await images())[1]).toMatchObject({ name: 'second', tickets: ['LIFE-30'] })
    for (const refused of [
      swarm('init-base', '--delete', 'second'),
      swarm('init-base', '--delete', 'second', '--dry-run'),
    ])
      expect(await refused).toMatchObject({ code: 1, stderr: expect.stringContaining('the machine of LIFE-30') })
    // Another home knows nothing of the ticket, and finds the machine by its disk.
    const other = { AGENT_SWARM_HOME: join(home, 'other-home') }
    expect(await swarmWith(other, 'init-base', '--delete', 'second')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/depend on it: as-life-30-/),
    })
    await succeed(swarm('delete', 'LIFE-30', '--force'))
    await succeed(swarm('init-base', '--delete', 'second'))
    expect(await images()).toMatchObject([{ name: BASE }])
    expect(await everything()).toEqual(before)
  },
  // It builds one in a guest.
  45 * 60_000,
)

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
