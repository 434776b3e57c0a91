/** The whole command line on Tart's stand-in, with a guest that answers over SSH. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { checkMachines } from '../../../src/cli/init/machines.ts'
import { readConfig } from '../../../src/config/config.ts'
import { openCli } from '../../support/cli.ts'
import { isLong } from '../../support/samples.ts'
import { type Mac, openMac, writeRawImage } from '../../support/tart/install.ts'

let cli: ReturnType<typeof openCli>
let mac: Mac
let environment: Record<string, string>
beforeAll(() => {
  cli = openCli()
  mac = openMac(join(cli.home, 'mac'))
  environment = {
    PATH: mac.environment.PATH,
    AGENT_SWARM_TART_HOME: mac.tartHome,
    AGENT_SWARM_PROVIDER: 'tart',
    AGENT_SWARM_BASE_IMAGE: 'golden',
  }
  writeRawImage(join(cli.home, 'debian-arm64.raw'))
})
afterAll(() => {
  mac.reboot()
  cli.close()
})
const swarm = async (...words: string[]) => {
  const ran = await cli.swarm(words, environment)
  expect([ran.code, ran.code === 0 ? '' : ran.stderr]).toEqual([0, ''])
  return ran
}
const json = (...words: string[]) => cli.json(words, environment)
const listed = async () => (await json('list'))[0]

test('without a base image, everything that says so names what Tart can begin with', async () => {
  const { stdout } = await cli.swarm(['doctor', '--json'], environment)
  expect(JSON.parse(stdout).checks).toContainEqual(expect.objectContaining({ remedy: 'agent-swarm init-base golden' }))
  const config = await readConfig({}, cli.environment(environment))
  expect(await checkMachines(config, new AbortController().signal, 'darwin')).toContainEqual(
    expect.objectContaining({ next: 'agent-swarm init-base golden' }),
  )
  for (const words of [
    ['create', 'DROP-1'],
    ['create', 'DROP-1', '--dry-run'],
    ['doctor', '--selftest'],
  ])
    expect((await cli.swarm(words, environment)).stderr).toContain(
      'Make it: agent-swarm init-base golden (or with --from FILE, a cloud image for arm64).',
    )
})

test('a base image is built of a cloud image for arm64, sealed and proven', async () => {
  const from = ['--from', join(cli.home, 'debian-arm64.raw'), '--profile', 'minimal']
  const manifest = await json('init-base', 'golden', ...from)
  expect(manifest).toMatchObject({
    ...{ name: 'golden', provider: 'tart', profile: 'minimal', contents: ['base-files 13.1'] },
    proven: [{ piece: 'ssh', how: 'logged in' }],
    sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
  })
  // Nothing of the build is left: neither its machines nor its files.
  expect(mac.vms()).toEqual([`agent-swarm-base.golden.${manifest.homeId}`])
  expect(await json('init-base', '--list')).toMatchObject([{ name: 'golden', source: from[1] }])
  expect((await cli.swarm(['init-base', 'golden', ...from], environment)).stderr).toContain('already exists')
})

test.for([
  ['a disk for another processor', '/images/debian-12-genericcloud-amd64.qcow2', 'for another processor'],
  ["Debian's packages", 'debian-packages', 'is made on Linux'],
  ['a file that is not a disk', import.meta.filename, 'not a disk that a system boots from'],
  ['an image that the registry lacks', 'oci:ghcr.io/acme/nothing:1', '404'],
] as const)('%s is refused, and nothing is left', async ([, from, text]) => {
  const { code, stderr } = await cli.swarm(['init-base', 'other', '--from', from], environment)
  expect(code).not.toBe(0)
  expect(stderr).toContain(text)
  expect(mac.vms()).toEqual([expect.stringMatching(/^agent-swarm-base\.golden\./)])
})

test('a life: create, checkpoint, restore, stop, start, delete', async () => {
  await swarm('create', 'DROP-1')
  const [running] = await json('list')
  expect(running).toMatchObject({ ticket: 'DROP-1', provider: 'tart', status: 'running', checkpoints: [] })
  expect(running.ssh).toMatchObject({ host: running.ip, port: 22, user: 'agent' })

  await swarm('checkpoint', 'DROP-1', 'one')
  expect(await listed()).toMatchObject({ status: 'running', checkpoints: ['one'] })

  await swarm('restore', 'DROP-1', 'one')
  const restored = await listed()
  expect(restored).toMatchObject({ vmId: running.vmId, status: 'running' })
  // Another MAC, another address; the key that was pinned is in the same seed.
  expect(restored.ip).not.toBe(running.ip)
  expect(restored.checkpoints).toEqual(['one', expect.stringMatching(/^pre-restore-/)])

  await swarm('stop', 'DROP-1')
  expect(await listed()).toMatchObject({ status: 'stopped' })
  await swarm('start', 'DROP-1')
  expect(await json('status', 'DROP-1')).toMatchObject({ ticket: 'DROP-1', environment: { status: 'running' } })

  await swarm('delete', 'DROP-1')
  expect(await json('list')).toEqual([])
  expect(mac.vms()).toHaveLength(1)
})

test.skipIf(!isLong)('an image is pushed to a registry, and taken from there', async () => {
  const [own = ''] = mac.vms()
  mac.tart('push', own, 'ghcr.io/acme/base:1')
  const from = ['--from', 'oci:ghcr.io/acme/base:1', '--profile', 'minimal']
  const { stdout } = await swarm('init-base', 'taken', ...from, '--dry-run')
  expect(stdout).toContain('take it from oci:ghcr.io/acme/base:1')
  expect(stdout).not.toContain('seal')
  const manifest = await json('init-base', 'taken', ...from)
  expect(manifest).toMatchObject({ name: 'taken', source: 'oci:ghcr.io/acme/base:1', contents: ['base-files 13.1'] })
  await swarm('init-base', '--delete', 'taken')
  expect((await json('init-base', '--list')).map(({ name }: { name: string }) => name)).toEqual(['golden'])
})

test('another provider takes no image of a registry', async () => {
  const { code, stderr } = await cli.swarm(['init-base', 'x', '--from', 'oci:ghcr.io/acme/base:1'], {
    AGENT_SWARM_PROVIDER: 'synthetic',
  })
  expect(code).not.toBe(0)
  expect(stderr).toContain('synthetic')
})

test('without tart it says what to install, or on another system what it is for', async () => {
  const bin = join(cli.home, 'empty')
  const { stderr } = await cli.swarm(['create', 'DROP-3'], { ...environment, PATH: `${bin}:/usr/bin:/bin` })
  expect(stderr).toContain(process.platform === 'darwin' ? 'brew install openai/tools/tart' : 'it is for macOS')
  rmSync(bin, { recursive: true, force: true })
})
