/** Limits for connections, over real sockets. Each address of 127.0.0.0/8 is another client; one of them is the proxy. */
import { createHmac } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { clientOf, exemptFrom } from '../../../src/bot/http/connections.ts'
import { openMetrics } from '../../../src/bot/http/metrics.ts'
import { openServer, type Server } from '../../../src/bot/http/server.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'
import { until } from '../../support/wait.ts'

const SECRET = 'a secret of 16 characters'
const [STRANGER, OTHER, PROXY] = ['127.0.0.2', '127.0.0.3', '127.0.0.4'] as const
let server: Server | null
let lines: string[]
let sockets: Socket[]
let store: ReturnType<typeof openStore> | null
const open = async (idleMs: number) => {
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
  const opened = openStore(':memory:', Date.now)
  store = opened
  server = await openServer({
    ...{
      host: '127.0.0.1',
      port: 0,
      github: { secret: SECRET },
      jira: null,
      automation: null,
      store: opened,
      runnerRoutes: {},
    },
    lanes: { github: event => event, jira: () => 'jira' },
    metrics: openMetrics({ store: opened, rate: () => null, clock: Date.now }),
    ...{ clock: Date.now, log: log as never, onAccepted: () => {}, idleMs, isExempt: address => address === PROXY },
  })
}
beforeEach(() => {
  server = null
  store = null
  lines = []
  sockets = []
})
afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  await server?.close()
  await store?.close()
})

const from = async (localAddress: string) => {
  const socket = connect({ host: '127.0.0.1', port: server?.port ?? 0, localAddress })
  sockets.push(socket)
  const state = { socket, isOpen: true, text: '' }
  socket.on('data', chunk => {
    state.text += chunk
  })
  socket.on('error', () => {})
  socket.on('close', () => {
    state.isOpen = false
  })
  await new Promise(resolve => socket.once('connect', resolve).once('close', resolve))
  return state
}
type State = Awaited<ReturnType<typeof from>>
const ask = async (state: State, text: string) => {
  state.text = ''
  state.socket.write(text)
  await until('an answer', () => state.text.includes('\r\n\r\n') || !state.isOpen)
  return state.text.slice(0, 12)
}
const health = 'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n'
const delivery = (secret: string) => {
  const signature = `sha256=${createHmac('sha256', secret).update('{}').digest('hex')}`
  return [
    'POST /api/github/webhooks HTTP/1.1',
    ...['host: x', 'content-type: application/json', 'x-github-event: push', 'x-github-delivery: 1'],
    ...[`x-hub-signature-256: ${signature}`, 'content-length: 2', '', '{}'],
  ].join('\r\n')
}

test('one address has at most 100 connections; others come through, a proxy has more, and the log says so once', async () => {
  await open(600_000)
  const all = await Promise.all(Array.from({ length: 130 }, () => from(STRANGER)))
  await until('30 are closed', () => all.filter(({ isOpen }) => !isOpen).length === 30)
  expect(await ask(await from(OTHER), health)).toBe('HTTP/1.1 200')
  const proxied = await Promise.all(Array.from({ length: 130 }, () => from(PROXY)))
  expect(await ask(proxied.at(-1) as State, health)).toBe('HTTP/1.1 200')
  expect(proxied.every(({ isOpen }) => isOpen)).toBe(true)
  const warnings = lines.map(line => JSON.parse(line)).filter(({ level }) => level === 40)
  expect(warnings).toMatchObject([
    { from: STRANGER, msg: 'connections were refused: one address may have 100', remedy: expect.any(String) },
  ])
  const page = await (await fetch(`${server?.url}/metrics`)).text()
  expect(page).toContain('agent_swarm_connections_refused_total{limit="address"} 30')
  // Whoever ends one may open another.
  const [first] = all.filter(({ isOpen }) => isOpen)
  first?.socket.destroy()
  await until('room', async () => {
    const again = await from(STRANGER)
    return (await ask(again, health)) === 'HTTP/1.1 200'
  })
})

test('an idle connection ends soon, unless it carried a valid signature or comes from a proxy', async () => {
  await open(500)
  const proxied = await from(PROXY)
  const signed = await from(STRANGER)
  expect(await ask(signed, delivery(SECRET))).toBe('HTTP/1.1 202')
  const healthy = await from(STRANGER)
  await ask(healthy, health)
  const unsigned = await from(STRANGER)
  await ask(unsigned, delivery('a wrong secret of 16 characters'))
  const silent = await from(STRANGER)
  const dribbling = await from(OTHER)
  dribbling.socket.write('GET /healthz HTTP/1.1\r\nhost')
  await until('strangers are gone', () => [silent, healthy, unsigned, dribbling].every(({ isOpen }) => !isOpen))
  // Later than all of these, and idle for longer.
  const last = await from(OTHER)
  await until('the last stranger is gone', () => !last.isOpen)
  expect([proxied.isOpen, signed.isOpen]).toEqual([true, true])
  expect(await ask(signed, health)).toBe('HTTP/1.1 200')
})

test.for([
  ['loopback', '127.0.0.9', true],
  ['loopback of IPv6', '::1', true],
  ['a listed address', '192.0.2.1', true],
  ['an address of a listed range', '198.51.100.77', true],
  ['an address of a listed range of IPv6', '2001:db8::5', true],
  ['another address', '192.0.2.2', false],
  ['no address', '', false],
] as const)('the limits and %s', ([, address, expected]) => {
  expect(exemptFrom(['192.0.2.1', '198.51.100.0/24', '2001:db8::/32'])(address)).toBe(expected)
})

test('a client is an IPv4 address, or a /64 of IPv6', () => {
  expect(clientOf('192.0.2.1')).toBe('192.0.2.1')
  const [one, same, other] = ['2001:db8:1:2::1', '2001:db8:1:2:ffff::9', '2001:db8:1:3::1'].map(clientOf)
  expect([one === same, one === other]).toEqual([true, false])
  expect(clientOf('fe80::1%eth0')).toBe(clientOf('fe80::2'))
})
