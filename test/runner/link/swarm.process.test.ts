/** `swarm` in three shells, and its MCP server, against a runner's requests on loopback. */
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'

const guest = join(import.meta.dirname, '../../../guest')
let folder: string
let server: Server
let asked: { url: string; body: string }[]
let answer: [status: number, text: string]

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-guest-'))
  server = createServer(async (request, response) => {
    asked.push({ url: `${request.method} ${request.url}`, body: await text(request) })
    response.writeHead(answer[0], { 'content-type': 'text/plain', connection: 'close' })
    response.end(`${answer[1]}\n`)
  }).listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
})
afterAll(() => {
  server.close()
  rmSync(folder, { recursive: true, force: true })
})
beforeEach(() => {
  asked = []
  answer = [200, 'done']
})

const environment = (more: Record<string, string> = {}) => ({
  PATH: '/usr/bin:/bin',
  AGENT_SWARM_REQUESTS_PORT: String((server.address() as AddressInfo).port),
  AGENT_SWARM_STATE: folder,
  AGENT_SWARM_LIBRARY: guest,
  ...more,
})
type Ran = { code: number | null; stdout: string; stderr: string }
const run = async (shell: string[], words: string[], env = environment()): Promise<Ran> => {
  const [program = '', ...argv] = shell
  const child = spawn(program, [...argv, join(guest, 'swarm'), ...words], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise<number | null>(resolve => child.once('close', resolve))
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
  return { code, stdout, stderr }
}

const shells = [['dash'], ['bash', '--posix'], ['busybox', 'sh']].filter(
  ([program = '']) => spawnSync('which', [program]).status === 0,
)

describe.for(shells)('swarm in %s', shell => {
  test('a note goes to the runner byte for byte, and the answer is printed', async () => {
    const note = 'tried "X" & $(touch /tmp/x) `y`;\nö\t\\n %s 100%'
    expect(await run(shell, ['note', note])).toEqual({ code: 0, stdout: 'done\n', stderr: '' })
    expect(asked).toEqual([{ url: 'POST /v1/note', body: note }])
  })

  test('each command asks for its own, behind the prefix of the link', async () => {
    writeFileSync(join(folder, 'link-prefix'), '/0123\n')
    await run(shell, ['status'])
    await run(shell, ['checkpoint'])
    await run(shell, ['checkpoint', 'a'])
    await run(shell, ['restore', 'a', '--yes'])
    await run(shell, ['note', 'two', 'words'])
    rmSync(join(folder, 'link-prefix'))
    expect(asked).toEqual([
      { url: 'POST /0123/v1/status', body: '' },
      { url: 'POST /0123/v1/checkpoint', body: '' },
      { url: 'POST /0123/v1/checkpoint', body: 'a' },
      { url: 'POST /0123/v1/restore', body: 'a' },
      { url: 'POST /0123/v1/note', body: 'two words' },
    ])
  })

  test('what the runner refuses is an error', async () => {
    answer = [429, 'at most one checkpoint a minute: try again in 42 s']
    expect(await run(shell, ['checkpoint'])).toEqual({
      ...{ code: 1, stdout: '' },
      stderr: 'swarm: at most one checkpoint a minute: try again in 42 s\n',
    })
  })

  test.for<[string, string[], string]>([
    ['a restore without --yes', ['restore', 'a'], 'swarm restore a --yes'],
    ['a restore of nothing', ['restore', '--yes'], 'which checkpoint?'],
    ['an unknown option', ['restore', 'a', '--force'], 'unknown option --force'],
    ['an unknown command', ['destroy'], 'unknown command "destroy"'],
    ['a note without text', ['note'], 'what shall be noted?'],
    ['too much', ['checkpoint', 'a', 'b'], 'too many arguments'],
  ])('%s is wrong usage, and nothing is asked', async ([, words, message]) => {
    expect(await run(shell, words)).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(message) })
    expect(asked).toEqual([])
  })

  test('without a runner it says what has to run', async () => {
    const env = environment({ AGENT_SWARM_REQUESTS_PORT: '1' })
    expect(await run(shell, ['status'], env)).toMatchObject({
      code: 1,
      stderr: 'swarm: the runner does not answer. It has to run on the host of this machine: agent-swarm up\n',
    })
  })

  test('without Node.js only mcp is missing, and says so', async () => {
    const tools = join(folder, `tools-${shell[0]}`)
    mkdirSync(tools)
    for (const tool of ['bash', 'cat', 'printf', 'sed', 'wc', 'tr', 'dirname'])
      if (existsSync(`/usr/bin/${tool}`)) symlinkSync(`/usr/bin/${tool}`, join(tools, tool))
    const env = environment({ PATH: tools })
    const program = spawnSync('which', [shell[0] ?? ''], { encoding: 'utf8' }).stdout.trim()
    expect(await run([program, ...shell.slice(1)], ['mcp'], env)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('needs Node.js'),
    })
    expect(await run([program, ...shell.slice(1)], ['status'], env)).toMatchObject({ code: 0, stdout: 'done\n' })
  })
})

test('both scripts pass shellcheck', ({ skip }) => {
  if (spawnSync('which', ['shellcheck']).status !== 0) skip('shellcheck is not installed')
  const files = ['swarm', 'link.sh'].map(name => join(guest, name))
  expect(spawnSync('shellcheck', files, { encoding: 'utf8' })).toMatchObject({ stdout: '', status: 0 })
})

test.skipIf(!existsSync(join(guest, 'mcp.mjs')))(
  'the MCP server has the same four tools, for this machine',
  async () => {
    const bin = join(folder, 'node-bin')
    mkdirSync(bin)
    writeFileSync(join(bin, 'node'), `#!/bin/sh\nexec '${process.execPath}' "$@"\n`)
    chmodSync(join(bin, 'node'), 0o755)
    const env = environment({ PATH: `${bin}:/usr/bin:/bin` })
    const child = spawn('dash', [join(guest, 'swarm'), 'mcp'], { env, stdio: ['pipe', 'pipe', 'inherit'] })
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    let id = 0
    const call = async (method: string, params: unknown) => {
      child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', id: ++id, method, params })}\n`)
      return JSON.parse(String((await lines.next()).value)).result
    }
    const client = { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'test', version: '1' } }
    expect(await call('initialize', client)).toMatchObject({ serverInfo: { name: 'agent-swarm' } })
    child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' })}\n`)
    const { tools } = await call('tools/list', {})
    expect(tools.map(({ name }: { name: string }) => name)).toEqual(['status', 'checkpoint', 'restore', 'note'])
    const tool = (name: string, more: Record<string, unknown> = {}) => call('tools/call', { name, arguments: more })
    expect(await tool('status')).toEqual({ content: [{ type: 'text', text: 'done' }], isError: false })
    await tool('note', { text: 'tried X\n"y"' })
    answer = [404, 'there is no checkpoint a']
    expect(await tool('restore', { name: 'a' })).toMatchObject({ isError: true })
    expect(await tool('checkpoint', { name: 7 })).toMatchObject({ isError: true })
    expect(await tool('constructor')).toMatchObject({ isError: true })
    expect(asked).toEqual([
      { url: 'POST /v1/status', body: '' },
      { url: 'POST /v1/note', body: 'tried X\n"y"' },
      { url: 'POST /v1/restore', body: 'a' },
    ])
    const ended = new Promise(resolve => child.once('close', resolve))
    child.stdin.end()
    await ended
  },
)
