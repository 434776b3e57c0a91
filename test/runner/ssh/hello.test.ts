/** The wait for an SSH server, on real ports of loopback. */
import { createServer, type Server, type Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { waitForHello } from '../../../src/runner/ssh/hello.ts'

const LONG_MS = 60_000

let servers: Server[] = []
let sockets: Socket[] = []
afterEach(() => {
  for (const socket of sockets) socket.destroy()
  for (const server of servers) server.close()
  servers = []
  sockets = []
})

/** Serves on this port, or on one that was free. `connected` is called with how many connections there were. */
const serve = (hello: string, { port = 0, connected = (_: number) => {} } = {}): Promise<number> =>
  new Promise(resolve => {
    let count = 0
    const server = createServer(socket => {
      sockets.push(socket)
      socket.on('error', () => {})
      if (hello !== '') socket.write(hello)
      connected(++count)
    }).listen(port, '127.0.0.1', () => resolve((server.address() as { port: number }).port))
    servers.push(server)
  })
/** A port that nothing listens at. */
const freePort = async (): Promise<number> => {
  const port = await serve('')
  await new Promise(resolve => servers.pop()?.close(resolve))
  return port
}
const at = (port: number) => ({ host: '127.0.0.1', port })

test.for([
  ['OpenSSH', 'SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7\r\n'],
  ['an older version', 'SSH-1.99-Cisco-1.25\n'],
  ['a server with lines before its version', 'Only for staff.\r\nSSH-2.0-x\r\n'],
])('%s says hello', async ([, hello]) => {
  expect(await waitForHello(at(await serve(hello ?? '')), LONG_MS)).toBe(true)
})

test('a server that starts later is noticed', async () => {
  const port = await freePort()
  const waiting = waitForHello(at(port), LONG_MS)
  await serve('SSH-2.0-x\r\n', { port })
  expect(await waiting).toBe(true)
})

test.for([
  ['nothing listens', freePort],
  ['it never stops talking', () => serve('x'.repeat(100_000))],
] as const)('the wait ends without a hello: %s', async ([, open]) => {
  expect(await waitForHello(at(await open()), 300)).toBe(false)
})

test('a server that accepted may say hello after the wait is over', async () => {
  const port = await serve('', { connected: () => setTimeout(() => sockets[0]?.write('SSH-2.0-x\r\n'), 300) })
  expect(await waitForHello(at(port), 50)).toBe(true)
})

test('a server that sends a byte again and again, and never its version, is given up', async () => {
  let timer: NodeJS.Timeout | undefined
  let sent = 0
  const connected = () => {
    timer ??= setInterval(() => {
      for (const socket of sockets) socket.write('x')
      sent += 1
    }, 10)
  }
  const port = await serve('', { connected })
  expect(await waitForHello(at(port), 50, undefined, 200)).toBe(false)
  clearInterval(timer)
  // Not because it said too much.
  expect(sent).toBeLessThan(8 * 1024)
})

test('an aborted wait ends, with its connection', async () => {
  const cancel = new AbortController()
  const port = await serve('', { connected: () => cancel.abort() })
  expect(await waitForHello(at(port), LONG_MS, cancel.signal)).toBe(false)
  await expect.poll(() => sockets.every(socket => socket.destroyed || socket.readableEnded)).toBe(true)
})

test('nothing is looked up by name', async () => {
  expect(await waitForHello({ host: 'guest.example', port: 22 }, 200)).toBe(false)
})
