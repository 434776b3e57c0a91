/** What a machine could send to cost its host much, or to break the mirror. Real git under its limits. */
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { createServer, request as httpRequest } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { deflateSync, gzipSync } from 'node:zlib'
import { expect, onTestFinished, test } from 'vitest'
import { lockFile } from '../../../src/lock-file.ts'
import { openGitGateway } from '../../../src/runner/git-gateway/gateway.ts'
import { some } from '../../support/samples.ts'
import { until } from '../../support/wait.ts'
import { openStage, runGit } from './stage.ts'

const MIB = 1024 ** 2
const ZERO = '0'.repeat(40)
type Stage = Awaited<ReturnType<typeof openStage>>

const pkt = (text: string) => `${(text.length + 4).toString(16).padStart(4, '0')}${text}`
const commands = (lines: readonly string[]) =>
  Buffer.from(`${lines.map((line, n) => pkt(n === 0 ? `${line}\0report-status side-band-64k` : line)).join('')}0000`)

/** One object of a pack: its type, the size that it claims, what stands before its content, and its content. */
const packed = (type: number, size: number, content: Uint8Array, before = Buffer.alloc(0)) => {
  const header = [(type << 4) | (size & 15)]
  for (let rest = Math.floor(size / 16); rest > 0; rest = Math.floor(rest / 128)) {
    header[header.length - 1] = (header.at(-1) ?? 0) | 128
    header.push(rest & 127)
  }
  return Buffer.concat([Buffer.from(header), before, deflateSync(content, { level: 1 })])
}
const packOf = (objects: readonly Buffer[], count = objects.length) => {
  const start = Buffer.alloc(12)
  start.write('PACK')
  start.writeUInt32BE(2, 4)
  start.writeUInt32BE(count, 8)
  const body = Buffer.concat([start, ...objects])
  return Buffer.concat([body, createHash('sha1').update(body).digest()])
}
const idOf = (type: string, content: Uint8Array) =>
  createHash('sha1').update(`${type} ${content.length}\0`).update(content).digest('hex')
const commitOf = (tree: string) => Buffer.from(`tree ${tree}\nauthor n <e> 1 +0000\ncommitter n <e> 1 +0000\n\nx\n`)
/** A pack of one commit with this tree, and these blobs. */
const treePack = (tree: Buffer, blobs: readonly Buffer[]) => {
  const commit = commitOf(idOf('tree', tree))
  const objects = [
    packed(1, commit.length, commit),
    packed(2, tree.length, tree),
    ...blobs.map(blob => packed(3, blob.length, blob)),
  ]
  return { tip: idOf('commit', commit), pack: packOf(objects) }
}
const entry = (mode: string, name: string, id: string) =>
  Buffer.concat([Buffer.from(`${mode} ${name}\0`), Buffer.from(id, 'hex')])

/** Sends a request by hand; a connection that the gateway ends is status 0. */
const send = (
  address: string,
  path: string,
  body: Uint8Array | null,
  headers: Record<string, string> = {},
): Promise<{ status: number; text: string }> =>
  new Promise(done => {
    const service = path.split('/').at(-1)
    const sent = httpRequest(
      `${address}${path}`,
      {
        method: body === null ? 'GET' : 'POST',
        headers: { 'content-type': `application/x-${service}-request`, ...headers },
      },
      response => {
        let text = ''
        response.on('data', chunk => {
          text += chunk
        })
        response.on('close', () => done({ status: response.statusCode ?? 0, text }))
      },
    )
    sent.on('error', () => done({ status: 0, text: '' }))
    sent.end(body ?? undefined)
  })
const RECEIVE = '/acme/shop/git-receive-pack'
const UPLOAD = '/acme/shop/git-upload-pack'
const push = (address: string, lines: readonly string[], pack: Uint8Array, headers = {}) =>
  send(address, RECEIVE, Buffer.concat([commands(lines), pack]), headers)

/** A mirror, and the address of a machine. */
const openMirror = async (change: Parameters<typeof openStage>[0] = {}) => {
  const stage = await openStage(change)
  const one = await stage.machine('DROP-1')
  expect(await one.clone()).toMatchObject({ code: 0 })
  return { stage, one, address: one.address }
}
/** Nothing came of it: neither here nor at the remote, nothing is left, and the next honest push is taken. */
const expectUnharmed = async (stage: Stage, one: Awaited<ReturnType<Stage['machine']>>) => {
  expect(stage.server.git('acme/shop', 'for-each-ref', '--format=%(refname)')).toBe('refs/heads/main')
  expect(await stage.mirrorGit('for-each-ref', '--format=%(refname)', 'refs/heads', 'refs/tags')).toBe(
    'refs/heads/main',
  )
  expect(readdirSync(join(stage.mirror(), 'objects')).filter(name => name.includes('incoming'))).toEqual([])
  expect(stage.pushes).toEqual([])
  await one.commit('honest')
  expect(await one.git('push', '-q', 'origin', 'HEAD:DROP-1-honest')).toMatchObject({ code: 0 })
  expect(await runGit(stage.home, ['--git-dir', stage.mirror(), 'fsck', '--strict'])).toMatchObject({ code: 0 })
}

test('a delta that unfolds to 2 GiB is not unfolded', async () => {
  const { stage, one, address } = await openMirror()
  const base = Buffer.alloc(0xffffff)
  const copies = 128
  const size = base.length * copies
  const varint = (value: number): number[] =>
    value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))]
  const delta = Buffer.from([
    ...varint(base.length),
    ...varint(size),
    // Copy from offset 0, with three bytes of size.
    ...Array.from({ length: copies }, () => [0b11110000, 0xff, 0xff, 0xff]).flat(),
  ])
  const baseId = Buffer.from(idOf('blob', base), 'hex')
  const { pack, tip } = treePack(entry('100644', 'x', baseId.toString('hex')), [])
  const objects = packOf(
    [pack.subarray(12, -20), packed(3, base.length, base), packed(7, delta.length, delta, baseId)],
    4,
  )
  expect(objects.length).toBeLessThan(MIB)
  const { text } = await push(address, [`${ZERO} ${tip} refs/heads/DROP-1-x`], objects)
  expect(text).toMatch(/unpack |out of memory/i)
  expect(text).not.toContain('ok refs/heads')
  await expectUnharmed(stage, one)
})

test.for(
  some(
    [
      ['an object that claims 100 GB', (_: Buffer) => packOf([packed(3, 100_000_000_000, Buffer.alloc(100))])],
      ['a truncated pack', (pack: Buffer) => pack.subarray(0, pack.length - 30)],
      [
        'a wrong checksum',
        (pack: Buffer) => Buffer.concat([pack.subarray(0, -1), Buffer.from([(pack.at(-1) ?? 0) ^ 1])]),
      ],
      ['4 billion objects that are not there', (pack: Buffer) => packOf([pack.subarray(12, -20)], 0xffffffff)],
      ['no pack', () => Buffer.alloc(0)],
      ['garbage', () => Buffer.from('garbage'.repeat(1_000))],
    ] as const,
    2,
  ),
)('%s', async ([, change]) => {
  const { stage, one, address } = await openMirror()
  const blob = Buffer.from('x')
  const { tip, pack } = treePack(entry('100644', 'x', idOf('blob', blob)), [blob])
  const { text } = await push(address, [`${ZERO} ${tip} refs/heads/DROP-1-x`], change(pack))
  expect(text).not.toContain('ok refs/heads')
  await expectUnharmed(stage, one)
})

const evil = Buffer.from('[submodule "x"]\n\tpath = x\n\turl = --upload-pack=touch\n')
test.for(
  some(
    [
      ['a file .git', entry('100644', '.git', idOf('blob', Buffer.from('x'))), Buffer.from('x')],
      ['a path with ..', entry('40000', '..', idOf('tree', Buffer.alloc(0))), Buffer.from('x')],
      ['a submodule whose address is an option', entry('100644', '.gitmodules', idOf('blob', evil)), evil],
      ['a tree whose blob is missing', entry('100644', 'x', 'b'.repeat(40)), Buffer.from('other')],
    ] as const,
    2,
  ),
)('bad objects: %s', async ([, tree, blob]) => {
  const { stage, one, address } = await openMirror()
  const { tip, pack } = treePack(tree, [blob])
  const { text } = await push(address, [`${ZERO} ${tip} refs/heads/DROP-1-x`], pack)
  expect(text).toMatch(/unpack |missing necessary objects/)
  expect(text).not.toContain('ok refs/heads')
  await expectUnharmed(stage, one)
})

test('a branch that points to a blob or to a commit that the machine made up', async () => {
  const { stage, one, address } = await openMirror()
  const blob = Buffer.from('x')
  const pack = packOf([packed(3, 1, blob)])
  expect((await push(address, [`${ZERO} ${idOf('blob', blob)} refs/heads/DROP-1-x`], pack)).text).toContain(
    'ng refs/heads/DROP-1-x',
  )
  expect((await push(address, [`${ZERO} ${'c'.repeat(40)} refs/heads/DROP-1-x`], pack)).text).toContain(
    'missing necessary objects',
  )
  await expectUnharmed(stage, one)
})

test('thousands of refs are refused at once', async () => {
  const { stage, one, address } = await openMirror()
  const tip = stage.server.git('acme/shop', 'rev-parse', 'main')
  const lines = Array.from({ length: 5_000 }, (_, n) => `${ZERO} ${tip} refs/heads/DROP-1-${n}`)
  const { text } = await push(address, lines, packOf([]))
  expect(text).toContain('agent-swarm: a push changes at most 50 refs, and this one 5000')
  const more = Array.from({ length: 30_000 }, (_, n) => `${ZERO} ${tip} refs/heads/DROP-1-${n}`)
  expect((await push(address, more, packOf([]))).text).toContain('agent-swarm: the push changes too many refs')
  await expectUnharmed(stage, one)
})

test('a body without end, and one that unfolds, end at the limit of a push', async () => {
  const limitsOf = () => ({ mirrorBytes: 100 * MIB, pushBytes: 2 * MIB, push: true })
  const { stage, one, address } = await openMirror({ limitsOf })
  const tip = stage.server.git('acme/shop', 'rev-parse', 'main')
  const { port } = new URL(address)
  const socket = connect(Number(port), '127.0.0.1')
  const chunk = randomBytes(64 * 1024)
  const start = Buffer.concat([
    commands([`${ZERO} ${tip} refs/heads/DROP-1-x`]),
    Buffer.from('PACK\0\0\0\x02\0\xff\xff\xff'),
  ])
  const asChunk = (bytes: Buffer) =>
    Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')])
  socket.write(
    `POST ${RECEIVE} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-git-receive-pack-request\r\ntransfer-encoding: chunked\r\n\r\n`,
  )
  socket.write(asChunk(start))
  let sent = 0
  await new Promise<void>(done => {
    socket.on('close', () => done())
    socket.on('error', () => done())
    socket.resume()
    const more = () => {
      if (socket.destroyed) return
      sent += chunk.length
      if (socket.write(asChunk(chunk))) setImmediate(more)
      else socket.once('drain', more)
    }
    more()
  })
  expect(sent).toBeLessThan(64 * MIB)
  const bomb = gzipSync(Buffer.concat([start, Buffer.alloc(64 * MIB)]))
  const unfolded = await send(address, RECEIVE, bomb, { 'content-encoding': 'gzip' })
  expect(unfolded).toMatchObject({ status: 400, text: expect.stringContaining('the body of a push has an encoding') })
  // The commits that a machine has, without end.
  const wants = gzipSync(Buffer.from(`${pkt(`want ${tip} \n`)}0000${pkt(`have ${'d'.repeat(40)}\n`).repeat(400_000)}`))
  expect((await send(address, UPLOAD, wants, { 'content-encoding': 'gzip' })).status).not.toBe(500)
  await expectUnharmed(stage, one)
})

test('a machine that sends nothing more, or goes, ends its request; nothing runs on', async () => {
  const { stage, one, address } = await openMirror({ stallMs: 300 })
  const { port } = new URL(address)
  const open = () => {
    const socket = connect(Number(port), '127.0.0.1')
    socket.write(
      `POST ${RECEIVE} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-git-receive-pack-request\r\ncontent-length: 9999\r\n\r\n0032`,
    )
    return socket
  }
  const stalled = open()
  await new Promise(done => stalled.resume().on('close', done))
  const gone = open()
  await new Promise(done => gone.write('x', done))
  gone.destroy()
  await expectUnharmed(stage, one)
})

/** A push by hand that says a length and sends what it is told to. */
const openPush = (address: string, length: number) => {
  const socket = connect(Number(new URL(address).port), '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  let text = ''
  socket.on('data', chunk => {
    text += chunk
  })
  socket.on('error', () => {})
  socket.write(
    `POST ${RECEIVE} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-git-receive-pack-request\r\ncontent-length: ${length}\r\n\r\n`,
  )
  return { socket, read: () => text, closed: new Promise(done => socket.on('close', done)) }
}
/** The whole body of a push of one commit with a large blob. */
const largePush = (ref: string) => {
  const blob = randomBytes(4 * MIB)
  const { tip, pack } = treePack(entry('100644', 'x', idOf('blob', blob)), [blob])
  return Buffer.concat([commands([`${ZERO} ${tip} ${ref}`]), pack])
}
const quarantines = (stage: Stage) =>
  readdirSync(join(stage.mirror(), 'objects')).filter(name => name.includes('incoming'))

test('what a machine breaks off in a push is removed at once; a push under way keeps what it has', async () => {
  const { stage, one, address } = await openMirror()
  // As git leaves it when a signal ends it.
  mkdirSync(join(stage.mirror(), 'objects', 'tmp_objdir-incoming-dead'))
  const two = await stage.machine('DROP-2')
  const whole = largePush('refs/heads/DROP-2-x')
  const slow = openPush(two.address, whole.length)
  slow.socket.write(whole.subarray(0, MIB))
  const [kept = ''] = await until('its folder', () => {
    const found = quarantines(stage).filter(name => !name.endsWith('-dead'))
    return found.length > 0 ? found : null
  })
  const gone = openPush(address, 100 * MIB)
  gone.socket.write(largePush('refs/heads/DROP-1-x').subarray(0, 3 * MIB))
  await until('the folder of the other', () => quarantines(stage).length === 3)
  gone.socket.destroy()
  await until('the end of both', () => quarantines(stage).join() === kept, { within: 60_000 })
  slow.socket.write(whole.subarray(MIB))
  await until('the answer', () => slow.read().includes('refs/heads/DROP-2-x'))
  expect(slow.read()).toContain('ok refs/heads/DROP-2-x')
  await until('the end of the last one', () => quarantines(stage).length === 0, { within: 60_000 })
  await one.commit('honest')
  expect(await one.git('push', '-q', 'origin', 'HEAD:DROP-1-honest')).toMatchObject({ code: 0 })
  expect(await runGit(stage.home, ['--git-dir', stage.mirror(), 'fsck', '--strict'])).toMatchObject({ code: 0 })
})

test('what a machine sends of a push before it sends nothing more is removed', async () => {
  const { stage, one, address } = await openMirror({ stallMs: 2_000 })
  const stalled = openPush(address, 100 * MIB)
  stalled.socket.write(largePush('refs/heads/DROP-1-x').subarray(0, 3 * MIB))
  await until('its folder', () => quarantines(stage).length > 0)
  await stalled.closed
  await until('the end of its folder', () => quarantines(stage).length === 0, { within: 60_000 })
  await expectUnharmed(stage, one)
})

test.for([
  ['withholds', false],
  ['leaves without sending', true],
] as const)('a machine that %s the last byte of a push keeps no lock', async ([, goes]) => {
  const { stage, one, address } = await openMirror()
  const tip = stage.server.git('acme/shop', 'rev-parse', 'main')
  const body = Buffer.concat([commands([`${ZERO} ${tip} refs/heads/other`]), packOf([])])
  const { socket, read } = openPush(address, body.length + 1)
  socket.write(body)
  await until('the refusal', () => read().includes('does not belong to DROP-1'))
  if (goes) socket.destroy()
  const isFree = () => {
    const release = lockFile(`${stage.mirror()}.lock`)
    release?.()
    return release !== null
  }
  await until('the lock', isFree, { within: 60_000 })
  await expectUnharmed(stage, one)
})

test('a push whose time ends while it waits for the lock takes no lock, and reaches no remote', async () => {
  const { stage, one } = await openMirror()
  let decided = 0
  const hasty = openGitGateway({
    ...{ ...stage.options, deadlineMs: 5_000 },
    // Under the lock.
    rulesOf: (...about) => {
      decided += 1
      return stage.options.rulesOf(...about)
    },
  })
  const machine = { ticket: 'DROP-1', vmId: 'as-drop-1-00000001' }
  const listener = createServer((request, response) => void hasty.handle(machine, request, response))
  onTestFinished(async () => {
    await hasty.close()
    listener.close()
  })
  await new Promise<void>(done => listener.listen(0, '127.0.0.1', done))
  const tip = stage.server.git('acme/shop', 'rev-parse', 'main')
  const release = lockFile(`${stage.mirror()}.lock`)
  const address = `http://127.0.0.1:${(listener.address() as AddressInfo).port}`
  const { text } = await push(address, [`${ZERO} ${tip} refs/heads/DROP-1-x`], packOf([]))
  expect(text).not.toContain('ok refs/heads')
  release?.()
  // Its time ended by a signal.
  await until('the end of its folder', () => quarantines(stage).length === 0, { within: 60_000 })
  await expectUnharmed(stage, one)
  expect(decided).toBe(0)
})

test('a machine that reads no answer gives its place up', async () => {
  const { stage, one, address } = await openMirror({ stallMs: 1_000, slots: { total: 1, each: 1, waiting: 8 } })
  const dana = await stage.colleague()
  writeFileSync(join(dana.shop, 'large'), randomBytes(16 * MIB))
  await dana.git('add', '-A')
  await dana.git('commit', '-q', '-m', 'large')
  await dana.git('push', '-q', 'origin', 'HEAD:main')
  expect(await one.git('ls-remote', '-q', 'origin')).toMatchObject({ code: 0 })
  const tip = stage.server.git('acme/shop', 'rev-parse', 'main')
  const body = `${pkt(`want ${tip} side-band-64k ofs-delta\n`)}0000${pkt('done\n')}`
  const socket = connect(Number(new URL(address).port), '127.0.0.1').pause()
  onTestFinished(() => void socket.destroy())
  socket.write(
    `POST ${UPLOAD} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-git-upload-pack-request\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  )
  await new Promise(done => socket.once('readable', done))
  expect(await one.git('ls-remote', '-q', 'origin')).toMatchObject({ code: 0 })
})

test('protocol garbage, other encodings and types, and the dumb protocol', async () => {
  const { stage, one, address } = await openMirror()
  for (const body of ['zzzz', '0000', 'ffff', '0004', '0003x', `${pkt('push-cert\0')}0000`, `0010${'x'.repeat(100)}`])
    for (const path of [RECEIVE, UPLOAD])
      expect((await send(address, path, Buffer.from(body))).text, body).not.toContain('ok refs')
  expect((await send(address, RECEIVE, Buffer.from('0000'), { 'content-encoding': 'br' })).status).toBe(400)
  expect((await send(address, RECEIVE, Buffer.from('0000'), { 'content-type': 'text/plain' })).status).toBe(400)
  for (const path of [
    '/acme/shop.git/HEAD',
    '/acme/shop.git/info/refs',
    '/acme/shop.git/objects/info/packs',
    '/acme/shop/git-upload-archive',
    '/../x',
    '/',
  ])
    expect((await send(address, path, null)).status, path).toBe(404)
  const archive = await runGit(one.place, ['archive', `--remote=${address}/acme/shop`, 'main'])
  expect(archive.code).not.toBe(0)
  await expectUnharmed(stage, one)
})

test('requests that claim other things in their headers change nothing', async () => {
  const { stage, address } = await openMirror()
  const path = '/acme/shop/info/refs?service=git-upload-pack'
  for (const headers of [
    { 'git-protocol': 'version=2:$(touch x)' },
    { 'x-git-dir': '/etc', 'git-dir': '/etc', 'path-info': '/etc/passwd' },
    { 'content-length': '0', 'x-forwarded-for': '\t; touch x' },
  ] as Record<string, string>[])
    expect(await send(address, path, null, headers)).toMatchObject({ status: 200 })
  expect(existsSync(join(stage.home, 'x'))).toBe(false)
})

test('one machine has two requests at once, and does not keep another from being served', async () => {
  const { stage, address } = await openMirror({ slots: { total: 3, each: 2, waiting: 1 }, stallMs: 20_000 })
  const { port } = new URL(address)
  const sockets = [1, 2, 3, 4].map(() => {
    const socket = connect(Number(port), '127.0.0.1')
    socket.write(
      `POST ${UPLOAD} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-git-upload-pack-request\r\ncontent-length: 9999\r\n\r\n0032`,
    )
    let text = ''
    socket.on('data', chunk => {
      text += chunk
    })
    return { socket, read: () => text, closed: new Promise(done => socket.on('close', done)) }
  })
  await Promise.race(sockets.map(({ closed }) => closed))
  expect(sockets.filter(({ read }) => read().includes('503')).map(({ read }) => read())[0]).toContain(
    'requests of this machine wait',
  )
  expect(await (await stage.machine('DROP-2')).clone()).toMatchObject({ code: 0 })
  for (const { socket } of sockets) socket.destroy()
})

test('a repository over the limit of its mirror is not served, and leaves nothing', async () => {
  const limitsOf = () => ({ mirrorBytes: MIB / 2, pushBytes: MIB, push: true })
  const stage = await openStage({ limitsOf })
  const dana = await stage.colleague()
  writeFileSync(join(dana.shop, 'large'), randomBytes(2 * MIB))
  execFileSync('git', ['add', '-A'], { cwd: dana.shop })
  await dana.git('commit', '-q', '-m', 'large')
  await dana.git('push', '-q', 'origin', 'HEAD:main')
  const one = await stage.machine('DROP-1')
  const { code, stderr } = await one.clone()
  expect(code).toBe(128)
  expect(stderr).toContain('remote: agent-swarm: the mirror of acme/shop would be larger than')
  expect(existsSync(stage.mirror())).toBe(false)
})

test('a mirror stays while a machine may use it, and is removed afterwards', async () => {
  let now = Date.now()
  const { stage } = await openMirror({ clock: () => now })
  now += 60 * 60_000
  await stage.gateway().sweep()
  expect(existsSync(stage.mirror())).toBe(true)
  stage.setRepositories(['acme/api'])
  await stage.gateway().sweep()
  expect(existsSync(stage.mirror())).toBe(false)
  // A machine that comes again has it made again.
  expect(await (await stage.machine('DROP-1')).clone()).toMatchObject({ code: 0 })
})
