import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openLog } from '../../../src/log.ts'
import { openServices, type Services } from '../../../src/runner/link/services.ts'
import type { LinkHandler } from '../../../src/runner/link/types.ts'
import { until } from '../../support/wait.ts'

let home: string
let opened: Services[]
let sockets: Socket[]
let floods: number
let known: boolean

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
  opened = []
  sockets = []
  floods = 0
  known = true
})
afterEach(() => {
  for (const socket of sockets) socket.destroy()
  for (const services of opened) services.close()
  rmSync(home, { recursive: true, force: true })
})

const says: LinkHandler = (machine, _request, response) => void response.end(machine.ticket)
const open = async (ticket = 'DROP-1', folder = home): Promise<Record<'git' | 'model' | 'swarm', string>> => {
  const vmId = `as-${ticket.toLowerCase()}-00000001`
  const services = await openServices({
    ...{ home: folder, vmId, services: { git: says, model: says, requests: says }, log: openLog('silent') },
    ...{ machine: () => (known ? { ticket, vmId } : null), ports: { git: 1, model: 2, requests: 3 }, loopback: null },
    onFlood: () => {
      floods += 1
    },
  })
  opened.push(services)
  const [git = '', model = '', swarm = ''] = services.forwards
    .filter(word => word !== '-R')
    .map(word => word.replace(/^127\.0\.0\.1:\d:/, ''))
  return { git, model, swarm }
}
const ask = (socketPath: string): Promise<string> =>
  new Promise((resolve, reject) => {
    request({ socketPath, path: '/', agent: false }, response => void text(response).then(resolve, reject))
      .on('error', reject)
      .end()
  })
const hold = (path: string, said = '') => {
  const socket = connect(path)
  let isClosed = false
  socket.on('error', () => {})
  socket.on('close', () => {
    isClosed = true
  })
  socket.resume()
  socket.write(said)
  sockets.push(socket)
  return () => isClosed
}

test("the socket says whose request it is, and only this user's programs reach it", async () => {
  const [one, other] = [await open('DROP-1'), await open('DROP-2')]
  expect([await ask(one.git), await ask(other.git), await ask(other.swarm)]).toEqual(['DROP-1', 'DROP-2', 'DROP-2'])
  expect([statSync(one.git).mode & 0o777, statSync(dirname(one.git)).mode & 0o777]).toEqual([0o600, 0o700])
  known = false
  expect(await ask(one.git)).toBe('this machine is no longer known to the runner\n')
})

test.for([
  ['an address of another host', 'GET http://127.0.0.1/x HTTP/1.1\r\nHost: x', 404],
  ['a tunnel', 'CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x', null],
  ['a server-wide request', 'OPTIONS * HTTP/1.1\r\nHost: x', 404],
  ['an unknown expectation', 'POST /x HTTP/1.1\r\nHost: x\r\nExpect: more\r\nContent-Length: 0', 417],
  ['two lengths', 'POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 5', 400],
  ['a length and chunks', 'POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked', 400],
  ['an upgrade is a request like others', 'GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c', 200],
] as const)('%s', async ([, head, status]) => {
  const { git } = await open()
  const socket = connect(git)
  socket.on('error', () => {})
  socket.write(`${head}\r\n\r\n`)
  let said = ''
  await new Promise<void>(resolve => {
    socket.on('close', () => resolve())
    socket.on('data', data => {
      said += data
      socket.destroy()
    })
  })
  expect(/^HTTP\/1\.1 (\d+)/.exec(said)?.[1] ?? null).toBe(status === null ? null : String(status))
})

test.for([
  ['a long path', 'x'.repeat(100)],
  ['a path with characters of its own for ssh', 'a:b %d "c"'],
])('with %s the sockets lie in a folder of this user elsewhere', async ([, name = '']) => {
  const folder = join(home, name)
  mkdirSync(folder)
  const { git } = await open('DROP-1', folder)
  expect(git).toMatch(/^[A-Za-z0-9/._-]{1,100}$/)
  expect(statSync(dirname(git)).mode & 0o777).toBe(0o700)
  expect(await ask(git)).toBe('DROP-1')
  // As after kill -9: the next link of the machine finds what this one left.
  const next = await open('DROP-1', folder)
  expect(next.git).not.toBe(git)
  expect(() => statSync(dirname(git))).toThrow('ENOENT')
  opened[1]?.close()
  expect(() => statSync(dirname(next.git))).toThrow('ENOENT')
})

test('who holds all connections of a service loses them in time, and holds up no other service', async () => {
  const { swarm, git } = await open()
  const held = Array.from({ length: 8 }, () => hold(swarm, 'POST /v1/status HTTP/1.1\r\nX-Slow: '))
  const more = hold(swarm)
  await until('the end of one too many', more)
  expect(held.map(isClosed => isClosed())).toEqual(held.map(() => false))
  expect(await ask(git)).toBe('DROP-1')
  await until('the end of slow headers', () => held.every(isClosed => isClosed()))
  expect(await ask(swarm)).toBe('DROP-1')
})

test('a flood is noticed once in a period', async () => {
  const { git } = await open()
  // Each is a connection and a request.
  for (let n = 0; n < 1_100; n += 1) await ask(git)
  expect(floods).toBeLessThanOrEqual(1)
  await until('the flood', () => floods === 1 || ask(git).then(() => false))
})
