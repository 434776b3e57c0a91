/** Small bundles that would cost the host much, and a guest that prints without end. Real git under its limits. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { devNull, tmpdir } from 'node:os'
import { join } from 'node:path'
import { deflateSync } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openRun } from '../../../src/exec.ts'
import { parseBundleReport } from '../../../src/runner/rescue/bundle-report.ts'
import { rescue } from '../../../src/runner/rescue/rescue.ts'
import { actions, openTestContext } from '../../support/context.ts'

const MIB = 1024 ** 2
const unsaved = { line: 1, path: '/home/agent/shop', uncommitted: 0, untracked: 0, stashes: 0, unpushed: 1 }
const machine = { ticket: 'DROP-1', provider: 'synthetic', vmId: 'as-drop-1-00000001', baseImage: 'base' }
const TOO_MUCH = /git on this host would need more memory, processor time or disk space/

let home: string
let guest: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
  guest = mkdtempSync(join(tmpdir(), 'agent-swarm-guest-'))
  git(['init', '-q', '-b', 'main'])
  git(['commit', '-q', '--allow-empty', '-m', 'one'])
})
afterEach(() => {
  for (const folder of [home, guest]) rmSync(folder, { recursive: true, force: true })
})
const git = (argv: string[], input?: string | Uint8Array | number) =>
  execFileSync('git', ['-c', 'user.name=n', '-c', 'user.email=e', '-c', 'pack.depth=0', ...argv], {
    ...{
      cwd: guest,
      env: { PATH: process.env.PATH, HOME: guest, GIT_CONFIG_GLOBAL: devNull, GIT_CONFIG_NOSYSTEM: '1' },
    },
    ...{ maxBuffer: 64 * MIB, stdio: [typeof input === 'number' ? input : 'pipe', 'pipe', 'inherit'] as const },
    ...(typeof input === 'number' || input === undefined ? {} : { input }),
  })
    .toString()
    .trim()
/** The honest form: what git itself makes of the guest's repository. */
const bundleOf = () => {
  const file = join(guest, 'out.bundle')
  git(['bundle', 'create', '-q', file, '--all'])
  return { bundle: readFileSync(file), report: reportOf(git(['for-each-ref', '--format=%(objectname)\t%(refname)'])) }
}
const reportOf = (refs: string) => `path\t${unsaved.path}\n${refs.replaceAll(/^/gm, 'ref\t')}\nend\n`

const save = (bundle: Buffer, report: string) =>
  rescue({ home, run: openRun(process.env), clock: () => new Date() }, machine, [unsaved], {
    stream: async (_script, { file }) => {
      writeFileSync(file, bundle, { mode: 0o600 })
      return { stderr: report }
    },
    lookAgain: async () => ({ known: true, repositories: [] }),
    by: { via: 'cli', who: 'dev' },
    signal: new AbortController().signal,
    onPhase: () => {},
  })
const refuses = async ({ bundle, report }: { bundle: Buffer; report: string }, reason: RegExp) => {
  expect(bundle.length).toBeLessThan(2 * MIB)
  await expect(save(bundle, report)).rejects.toThrow(reason)
  expect(readdirSync(join(home, 'rescued'))).toEqual([])
}

/** One object of a pack: its type, the size that it claims, and its content. */
const packed = (type: number, size: number, content: Uint8Array, before = Buffer.alloc(0)) => {
  const header = [(type << 4) | (size & 15)]
  for (let rest = Math.floor(size / 16); rest > 0; rest = Math.floor(rest / 128)) {
    header[header.length - 1] = (header.at(-1) ?? 0) | 128
    header.push(rest & 127)
  }
  return Buffer.concat([Buffer.from(header), before, deflateSync(content, { level: 1 })])
}
const packBundle = (objects: Buffer[], count = objects.length, head = git(['rev-parse', 'HEAD'])) => {
  const start = Buffer.alloc(12)
  start.write('PACK')
  start.writeUInt32BE(2, 4)
  start.writeUInt32BE(count, 8)
  const pack = Buffer.concat([start, ...objects])
  const header = `# v2 git bundle\n${head} refs/heads/main\n\n`
  const bundle = Buffer.concat([Buffer.from(header), pack, createHash('sha1').update(pack).digest()])
  return { bundle, report: reportOf(`${head}\trefs/heads/main`) }
}
const varint = (value: number) => {
  const bytes = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    bytes.push((rest & 127) | (rest >= 128 ? 128 : 0))
    if (rest < 128) return Buffer.from(bytes)
  }
}

/** The raw content of an object and its id. */
const objectOf = (type: 'commit' | 'tree' | 'blob', content: Buffer) => ({
  content,
  id: createHash('sha1').update(`${type} ${content.length}\0`).update(content).digest(),
})

test('a file of 300 MB in a bundle of 1.5 MB is streamed, and saved within the limits', async () => {
  const blob = objectOf('blob', Buffer.alloc(300 * MIB, 'x'))
  const tree = objectOf('tree', Buffer.concat([Buffer.from('100644 large\0'), blob.id]))
  const person = 'n <e> 1790000000 +0000'
  const text = `tree ${tree.id.toString('hex')}\nauthor ${person}\ncommitter ${person}\n\nlarge\n`
  const commit = objectOf('commit', Buffer.from(text))
  const objects = [commit, tree, blob].map(({ content }, index) => packed(index + 1, content.length, content))
  const { bundle, report } = packBundle(objects, objects.length, commit.id.toString('hex'))
  expect(bundle.length).toBeLessThan(2 * MIB)
  expect(readdirSync(await save(bundle, report))).toContain('1-shop.bundle')
})

/** A delta that copies its base of 1 MB a thousand times. */
const deltaBomb = () => {
  const base = Buffer.alloc(MIB, 'x')
  const copy = Buffer.from([0x80 | 0x40, 0x10])
  const delta = Buffer.concat([varint(MIB), varint(1000 * MIB), ...Array.from({ length: 1000 }, () => copy)])
  return packBundle([packed(3, MIB, base), packed(7, delta.length, delta, objectOf('blob', base).id)])
}

test('a bundle of a few kB that unfolds to 1 GB is refused', () => refuses(deltaBomb(), TOO_MUCH))

test('the machine that sends such a bundle is stopped and kept, and that is reported', async () => {
  const it = await openTestContext({ guest: 'shell' })
  try {
    await it.do(actions.create('DROP-1'))
    const provider = await it.provider()
    const { bundle, report } = deltaBomb()
    writeFileSync(join(guest, 'bomb'), bundle)
    writeFileSync(join(guest, 'report'), report)
    const evil = (isBundle: boolean) =>
      isBundle ? `cat ${guest}/bomb; cat ${guest}/report >&2` : `printf '0\\t0\\t0\\t1\\t0\\t${unsaved.path}\\nend\\n'`
    it.context.provider = async () => ({
      ...provider,
      runInGuest: (id, _script, options = {}) =>
        provider.runInGuest?.(id, evil(options.into !== undefined), options) ?? Promise.reject(),
    })
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({
      result: 'failed',
      failure: {
        kind: 'unsaved-work',
        message: expect.stringMatching(
          new RegExp(`DROP-1 is kept and stopped: 1 unpushed commit .*could not be saved: .*${TOO_MUCH.source}`),
        ),
        remedy: expect.stringContaining('agent-swarm start DROP-1'),
      },
    })
    expect(it.context.registry.environments()).toMatchObject([{ ticket: 'DROP-1', status: 'stopped' }])
    expect(it.machines()).toHaveLength(1)
    expect(readdirSync(join(it.home, 'rescued'))).toEqual([])
  } finally {
    it.close()
  }
})

test('a pack that claims a thousand million objects', async () => {
  await refuses(packBundle([packed(3, 1, Buffer.from('x'))], 1_000_000_000), TOO_MUCH)
})

test('refs that nobody reported are not written', async () => {
  const { bundle, report } = bundleOf()
  const head = git(['rev-parse', 'HEAD'])
  const many = Array.from({ length: 20_000 }, (_, n) => `${head} refs/tags/t${n}\n`).join('')
  const end = bundle.indexOf('\n\n')
  const flooded = Buffer.concat([bundle.subarray(0, end + 1), Buffer.from(many), bundle.subarray(end + 1)])
  await refuses({ bundle: flooded, report }, /its refs are not those that the machine reported/)
})

test('the bundles of one machine have 20 GiB together', async () => {
  const { bundle } = bundleOf()
  const limits: number[] = []
  const head = git(['rev-parse', 'HEAD'])
  const report = reportOf(`${head}\trefs/heads/main`)
  await rescue({ home, run: openRun(process.env), clock: () => new Date() }, machine, [unsaved, unsaved], {
    stream: async (_script, { file, limit }) => {
      limits.push(limit)
      writeFileSync(file, bundle, { mode: 0o600 })
      return { stderr: report }
    },
    lookAgain: async () => ({ known: true, repositories: [] }),
    by: { via: 'cli', who: 'dev' },
    signal: new AbortController().signal,
    onPhase: () => {},
  })
  const [first = 0, second = 0] = limits
  expect(first).toBeLessThanOrEqual(20 * 1024 ** 3)
  // On a small disk the free space is the lower limit.
  if (first === 20 * 1024 ** 3) expect(second).toBe(first - bundle.length)
})

test('a report of more than 20,000 refs is refused', () => {
  const refs = Array.from({ length: 20_001 }, (_, n) => `${'a'.repeat(40)}\trefs/tags/t${n}`).join('\n')
  expect(() => parseBundleReport(reportOf(refs), unsaved.path)).toThrow('more than 20000 branches, tags and stashes')
})

test('folders in folders that name ten thousand million files', async () => {
  let entry = `100644 blob ${git(['hash-object', '-w', '--stdin'], 'x')}`
  for (let level = 0; level < 10; level += 1) {
    const lines = Array.from({ length: 10 }, (_, n) => `${entry}\tname-${n}\n`).join('')
    entry = `040000 tree ${git(['mktree'], lines)}`
  }
  const tree = entry.slice('040000 tree '.length)
  git(['update-ref', 'refs/agent-swarm/rescued/head', 'HEAD'])
  git(['update-ref', 'refs/agent-swarm/rescued/worktree', git(['commit-tree', '-p', 'HEAD', '-m', 'w', tree])])
  await refuses(bundleOf(), TOO_MUCH)
})

test.for([
  ['prints without end', 'echo "export PATH=$PWD/bin:$PATH"; yes', 'printed more than 100000 characters'],
  ['names a path of 1 MB', 'head -c 1000000 /dev/zero | tr "\\0" x', 'printed more than 100000 characters'],
] as const)('a machine whose git %s is stopped and kept, and that is told', async ([, evil, reason]) => {
  const it = await openTestContext({ guest: 'shell' })
  try {
    await it.do(actions.create('DROP-1'))
    const provider = await it.provider()
    it.context.provider = async () => ({
      ...provider,
      // What the guest answers is the guest's: its own shell ignores our script.
      runInGuest: (id, _script, options) => provider.runInGuest?.(id, evil, options) ?? Promise.reject(),
    })
    const outcome = await it.do(actions.delete('DROP-1'))
    expect(outcome).toMatchObject({
      result: 'failed',
      failure: { kind: 'unsaved-work', message: expect.stringMatching(`DROP-1 is kept and stopped: .*${reason}`) },
    })
    expect(it.context.registry.environments()).toMatchObject([{ ticket: 'DROP-1', status: 'stopped' }])
    expect(existsSync(join(it.home, 'synthetic', it.vmIdOf('DROP-1')))).toBe(true)
  } finally {
    it.close()
  }
})

test('a limit that the host set before stays when it is stricter', async () => {
  const limits = { memoryBytes: 64 * MIB, cpuSeconds: 10, fileBytes: 4 * MIB }
  const run = openRun({ PATH: process.env.PATH })
  const { stdout } = await run('sh', ['-c', 'ulimit -d; ulimit -t; ulimit -f; ulimit -c'], { limits })
  expect(stdout.split('\n')).toEqual(['65536', '10', '8192', '0'])
  const file = join(home, 'large')
  await expect(run('sh', ['-c', `head -c 9000000 /dev/zero > ${file}`], { limits })).rejects.toThrow()
  expect(statSync(file).size).toBeLessThanOrEqual(4 * MIB)
})
