/** What `--from` and `--sha256` mean, and where a checksum comes from. */
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { ubuntu } from '../../../providers/kvm/ubuntu.ts'
import type { ImageBeginning } from '../../../providers/provider.ts'
import { isFailure } from '../../../src/errors.ts'
import { openSource, readWanted, type Wanted } from '../../../src/runner/images/source.ts'

const HEX = 'ab'.repeat(32)
const messageOf = (work: () => unknown): string => {
  try {
    work()
    return 'no failure'
  } catch (error) {
    return isFailure(error) ? `${error.failure.kind}: ${error.failure.message}` : String(error)
  }
}

test.for<[string, string | null, string | null, unknown]>([
  ['nothing: the cloud image of the provider', null, null, { kind: 'cloud-image', image: ubuntu, sha256: null }],
  ['its checksum alone pins it', null, HEX, { kind: 'cloud-image', image: ubuntu, sha256: HEX }],
  ["the system's packages", 'debian-packages', null, { kind: 'debian-packages' }],
  ['a file', 'a.qcow2', null, { kind: 'file', path: resolve('a.qcow2'), sha256: null }],
  ['a file with its checksum', '/a.qcow2', HEX, { kind: 'file', path: '/a.qcow2', sha256: HEX }],
  [
    'an address',
    'https://example.org/a.img',
    HEX,
    { kind: 'download', url: new URL('https://example.org/a.img'), sha256: HEX },
  ],
  ['an image of a registry', 'oci:ghcr.io/acme/base:1', null, { kind: 'registry', reference: 'ghcr.io/acme/base:1' }],
  [
    'one that its digest pins',
    `oci:registry.local:5000/base@sha256:${HEX}`,
    null,
    { kind: 'registry', reference: `registry.local:5000/base@sha256:${HEX}` },
  ],
])('%s', ([, from, sha256, expected]) => expect(readWanted(from, sha256, { cloudImage: ubuntu })).toEqual(expected))

test.for<[string, string | null, string | null, string]>([
  [
    'an address without a checksum',
    'https://example.org/a.img?key=secret',
    null,
    '--sha256 is missing: what https://example.org/a.img sends',
  ],
  ['http elsewhere', 'http://example.org/a.img', HEX, 'http://example.org/a.img is not an https address'],
  ['another protocol', 'ftp://example.org/a.img', HEX, 'is not an https address'],
  ['a password', 'https://me:pw@example.org/a.img', HEX, 'the address at example.org holds a user name or a password'],
  ['a checksum of packages', 'debian-packages', HEX, 'cannot be combined with --from debian-packages'],
  ['an empty word', '', null, '--from is empty'],
  ['a registry alone', 'oci:ghcr.io', null, '"ghcr.io" is not an image in a registry'],
  ['a flag', 'oci:--insecure/x', null, '"--insecure/x" is not an image in a registry'],
  ['an address of a registry', 'oci:https://ghcr.io/a', null, 'is not an image in a registry'],
  ['a checksum of an image of a registry', 'oci:ghcr.io/acme/base:1', HEX, '--sha256 is of a file or an address'],
])('%s is wrong usage', ([, from, sha256, text]) => {
  const message = messageOf(() => readWanted(from, sha256, { cloudImage: ubuntu }))
  expect(message).toMatch(/^usage: /)
  expect(message).toContain(text)
  expect(message).not.toMatch(/secret|me:pw/)
})

test('a provider without a cloud image needs --from', () =>
  expect(messageOf(() => readWanted(null, null, {}))).toBe('usage: --from is missing'))

test("the image that nobody names is Ubuntu's, from the server of its checksums", () => {
  expect(new URL(ubuntu.url).origin).toBe(new URL(ubuntu.checksums).origin)
  expect(ubuntu.url).toMatch(/^https:.*ubuntu-24\.04-server-cloudimg-amd64\.img$/)
})

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-source-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

const phases: string[] = []
const notes: string[] = []
const open = async (
  wanted: Exclude<Wanted, { kind: 'registry' }>,
  beginning: ImageBeginning = { from: 'debian-packages', or: '' },
) => {
  phases.length = 0
  notes.length = 0
  const source = openSource(wanted, {
    ...{ home, signal: new AbortController().signal, onBytes: () => {}, beginning },
    onPhase: phase => phases.push(phase),
    onNote: note => notes.push(note),
  })
  if (source.from.kind !== 'file') throw new Error('no file')
  return { ...source, file: await source.from.open() }
}

const IMAGE = 'an image'
const SHA256 = createHash('sha256').update(IMAGE).digest('hex')
const serve = async (listener: RequestListener) => {
  const server = createServer(listener)
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    kind: 'cloud-image',
    image: { label: 'Noble', url: `${origin}/noble.img`, checksums: `${origin}/SHA256SUMS` },
    sha256: null,
  } as const
}
const publishing =
  (checksums: string): RequestListener =>
  ({ url }, response) =>
    void response.end(url === '/SHA256SUMS' ? checksums : IMAGE)

test('the checksum of the cloud image comes from its server, and that is reported', async () => {
  const wanted = await serve(publishing(`${'0'.repeat(64)} *other.img\n${SHA256} *noble.img\n`))
  const { file, end } = await open(wanted)
  expect(readFileSync(file.path, 'utf8')).toBe(IMAGE)
  expect(file.source).toBe(`${wanted.image.url} (sha256 ${SHA256})`)
  expect(phases).toEqual(['checksum', 'download'])
  expect(notes.join()).toContain('it shows that the download is whole, not who made it')
  expect(notes.join()).toContain(`--sha256 ${SHA256}`)
  end(true)
})

test('a pinned cloud image asks nobody for its checksum', async () => {
  const { end } = await open({ ...(await serve(publishing('nothing'))), sha256: SHA256 })
  expect(phases).toEqual(['download'])
  end(true)
})

test.for<[string, RequestListener, string]>([
  ['does not name the image', publishing(`${SHA256} *other.img\n`), 'it does not name noble.img'],
  ['cannot be read', (_, response) => void response.writeHead(500).end(), 'HTTP 500'],
  [
    'leads elsewhere',
    (_, response) => void response.writeHead(302, { location: 'https://example.org/' }).end(),
    'it redirects to https://example.org',
  ],
  ['has no end', (_, response) => void response.end('x'.repeat(2 * 1024 ** 2)), 'it has more than'],
])('a file of checksums that %s', async ([, listener, text]) => {
  const wanted = await serve(listener)
  const error = await open(wanted).catch(thrown => thrown)
  expect(error.failure.message).toContain(text)
  expect(error.failure.message).toContain(wanted.image.checksums)
  expect(phases).toEqual(['checksum'])
})

test('a server that cannot be reached: its address, and the other ways', async () => {
  const url = 'http://127.0.0.1:9'
  const image = { label: 'Noble', url: `${url}/noble.img`, checksums: `${url}/SHA256SUMS` }
  const error = await open({ kind: 'cloud-image', image, sha256: null }).catch(thrown => thrown)
  expect(error.failure).toMatchObject({ kind: 'network', remedy: expect.stringContaining('--from debian-packages') })
  expect(error.failure.message).toContain(`${url}/SHA256SUMS`)
  // Only where the provider can begin with them.
  const elsewhere = await open({ kind: 'cloud-image', image, sha256: null }, { from: null, or: '' }).catch(e => e)
  expect(elsewhere.failure.remedy).toMatch(/^((?!debian-packages).)*--from FILE/)
})

test('a file with a checksum is read by nobody before it is compared', async () => {
  const path = join(home, 'a.img')
  writeFileSync(path, IMAGE)
  expect((await open({ kind: 'file', path, sha256: SHA256 })).file).toEqual({ path, source: path })
  const error = await open({ kind: 'file', path, sha256: HEX }).catch(thrown => thrown)
  expect(error.failure).toMatchObject({ kind: 'refused', message: expect.stringContaining(`not ${HEX}`) })
})
