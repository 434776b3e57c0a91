/** Base images: what is said of them, and when one may be deleted. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Answer, failureOf, fakeKvm, options, pool, version } from './fake-virsh.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-images-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

const manifest = {
  ...{ name: 'node-24', provider: 'kvm', sha256: 'ab', source: 'debian-packages (bookworm)', contents: ['git 2'] },
  ...{ createdAt: '2026-11-28T10:00:00.000Z', sizeBytes: 400_000_000 },
}
const volumes = (...names: string[]): Answer => ({
  to: 'vol-list',
  stdout: names.map(name => ` ${name}   /pool/${name}`).join('\n'),
})
/** `vol-dumpxml` of a disk, as libvirt 9.0 prints it. */
const disk = (name: string, backing: string | null): Answer => ({
  to: `vol-dumpxml --pool agent-swarm ${name}`,
  stdout: `<volume type='file'>
  <name>${name}</name>
  <key>/pool/${name}</key>
  <target>
    <path>/pool/${name}</path>
    <format type='qcow2'/>
  </target>
${backing === null ? '' : `  <backingStore>\n    <path>${backing}</path>\n    <format type='qcow2'/>\n  </backingStore>\n`}</volume>`,
})
/** A pool, with this text for every manifest. */
const open = (answers: readonly Answer[], text: string = JSON.stringify(manifest)) =>
  fakeKvm([pool(9_000), ...answers], { home }, call => {
    const path = call.match(/vol-download .*manifest\.json (\S+)/)?.[1]
    if (path !== undefined) writeFileSync(path, text)
  })
const IMAGE = ['node-24.qcow2', 'node-24.manifest.json']
const WEB = 'as-web-1-0000000b'

test('an image of an earlier version has no profile, and nothing was proven', async () => {
  const { provider } = open([volumes(...IMAGE), disk('node-24.qcow2', null)])
  const expected = { ...manifest, profile: null, proven: [], unproven: [], homeId: null }
  expect(await provider.describeBaseImages?.()).toEqual([{ name: 'node-24', manifest: expected, machines: [] }])
})

test('a machine uses the image under its disk, also through another disk', async () => {
  const { provider } = open([
    volumes(
      ...IMAGE,
      `${WEB}.qcow2`,
      'as-web-1-0000000c.qcow2',
      'other.qcow2',
      'other.manifest.json',
      `${WEB}.seed.iso`,
    ),
    disk('node-24.qcow2', null),
    disk('other.qcow2', null),
    disk(`${WEB}.qcow2`, '/pool/node-24.qcow2'),
    disk('as-web-1-0000000c.qcow2', `/pool/${WEB}.qcow2`),
  ])
  expect(await provider.describeBaseImages?.()).toMatchObject([
    { name: 'node-24', machines: [WEB, 'as-web-1-0000000c'] },
    // Its manifest names another image.
    { name: 'other', manifest: null, machines: [] },
  ])
})

test.for([
  ['what a killed build left', ['node-24.qcow2'], JSON.stringify(manifest)],
  ['a manifest that is no JSON', IMAGE, '{'],
  ['a manifest of another form', IMAGE, '{"name":"node-24"}'],
] as const)('%s has no manifest', async ([, names, text]) => {
  const { provider } = open([volumes(...names), disk('node-24.qcow2', null)], text)
  expect(await provider.describeBaseImages?.()).toEqual([{ name: 'node-24', manifest: null, machines: [] }])
})

test('an image that nothing uses is deleted, its manifest first', async () => {
  const names = [...IMAGE]
  const { provider, calls } = open([volumes(...names), disk('node-24.qcow2', null)])
  await provider.deleteBaseImage?.('node-24')
  expect(calls.filter(call => call.includes('vol-delete')).map(call => call.split(' ').at(-1))).toEqual([
    'node-24.manifest.json',
    'node-24.qcow2',
  ])
})

test.for<[string, readonly Answer[], string, string]>([
  [
    'that a machine of any home uses',
    [volumes(...IMAGE, `${WEB}.qcow2`), disk(`${WEB}.qcow2`, '/pool/node-24.qcow2')],
    'refused',
    `${WEB} depend on it`,
  ],
  ['that does not exist', [volumes('other.qcow2')], 'no-such-image', 'it does not exist'],
  [
    'whose users cannot be read',
    [volumes(...IMAGE), { to: 'vol-dumpxml', stderr: 'error: internal error: something' }],
    'unknown',
    'something',
  ],
])('an image %s stays', async ([, answers, kind, text]) => {
  const { provider, calls } = open(answers)
  expect(await failureOf(provider.deleteBaseImage?.('node-24'))).toMatchObject({
    kind,
    message: expect.stringContaining(text),
  })
  expect(calls.join()).not.toContain('vol-delete')
})

test("a machine's disk is no image", async () => {
  const { provider, calls } = open([volumes(`${WEB}.qcow2`)])
  expect(await failureOf(provider.deleteBaseImage?.(WEB))).toMatchObject({ kind: 'usage' })
  expect(await provider.describeBaseImages?.()).toEqual([])
  expect(calls.join()).not.toContain('vol-delete')
})

test('an image that is being built stays', async () => {
  mkdirSync(join(home, 'kvm'))
  writeFileSync(join(home, 'kvm', 'building-node-24'), JSON.stringify({ pid: process.pid, folder: '/x' }))
  const { provider } = open([volumes('node-24.qcow2')])
  expect(await failureOf(provider.deleteBaseImage?.('node-24'))).toMatchObject({ kind: 'busy' })
})

test('a machine does not get a smaller disk than its image has', async () => {
  const info = {
    to: 'vol-info --pool agent-swarm node-24.qcow2 --bytes',
    stdout: 'Capacity:       8589934592\nAllocation: 1',
  }
  const absent = { to: 'metadata', stderr: 'error: failed to get domain' }
  const { provider } = fakeKvm([absent, version('9.0.0'), pool(9_000), info], { home })
  expect(await failureOf(provider.createVm('A-1', 'node-24', options))).toEqual({
    kind: 'usage',
    message: `creating ${options.vmId}: its disk of 4 GiB is smaller than that of the base image node-24, 8 GiB`,
    remedy: 'Give machines a larger disk: AGENT_SWARM_DISK_GIB=8',
  })
})

test('an arm64 host is refused by name', async () => {
  const arch = vi.spyOn(process, 'arch', 'get').mockReturnValue('arm64')
  const { provider, calls } = open([])
  expect(await provider.available()).toEqual({
    available: false,
    reason: 'it makes x86-64 machines on Linux, and this is linux on arm64.',
    remedy: 'Run the runner on a host with Linux on x86-64.',
  })
  expect(calls).toEqual([])
  arch.mockRestore()
})
