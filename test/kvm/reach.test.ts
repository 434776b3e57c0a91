/** A machine reached as a person reaches it: by plain ssh, scp and rsync through the installed hosts, and by forwarded ports. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from '../support/wait.ts'
import { ensureBase, entry, home, program, swarmEnvironment } from './cli.ts'

const TICKET = 'REACH-1'
/** A name that must be quoted wherever it is told to ssh. */
const state = join(home, 'reach 100%')
let person: string
let folder: string
/** What the person's own configuration says; none of it may hold for a machine. */
const CONFIG =
  'Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  User nobody\n  ProxyCommand false\n'

const environment = () => ({ ...swarmEnvironment, AGENT_SWARM_HOME: state, HOME: person }) as Record<string, string>
const swarm = (...words: string[]) => program(process.execPath, [entry, ...words], environment())
/** As the person types it. ssh asks the system for the person's folder: there it is ours, for this one process. */
const plainly = (words: string[]): [string, string[]] => [
  'unshare',
  ['--mount', 'sh', '-c', 'mount --bind "$0" "$1" && shift && exec "$@"', person, userInfo().homedir, ...words],
]
const plain = (...words: string[]) => program(...plainly(words), { HOME: person })
const kept = () => readFileSync(join(folder, 'agent-swarm.config'), 'utf8')
const listed = async (): Promise<{ vmId: string; ip: string | null; status: string }> =>
  JSON.parse((await swarm('list', '--json')).stdout)[0]

const watched: ChildProcess[] = []
/** A program that goes on, and what it has said. */
const beside = (file: string, words: string[]) => {
  const child = spawn(file, words, { env: environment(), stdio: ['pipe', 'pipe', 'pipe'] })
  watched.push(child)
  const said = { stdout: '', stderr: '' }
  child.stdout.on('data', chunk => (said.stdout += chunk))
  child.stderr.on('data', chunk => (said.stderr += chunk))
  return { child, said, ended: once(child, 'close').then(([code]) => code as number | null) }
}
const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
const page = (port: number): Promise<string | null> =>
  fetch(`http://127.0.0.1:${port}/who`, { signal: AbortSignal.timeout(5_000) }).then(
    one => one.text(),
    () => null,
  )

beforeAll(async () => {
  await ensureBase()
  person = mkdtempSync(join(tmpdir(), 'agent-swarm person-'))
  folder = join(person, '.ssh')
  mkdirSync(folder, { mode: 0o700 })
  writeFileSync(join(folder, 'config'), CONFIG)
  expect(await swarm('ssh', '--config', '--install')).toMatchObject({ code: 0 })
  expect(await swarm('create', TICKET)).toMatchObject({ code: 0 })
})
afterAll(async () => {
  for (const child of watched) child.kill('SIGKILL')
  await swarm('delete', TICKET, '--force')
  rmSync(person, { recursive: true })
  rmSync(state, { recursive: true })
})

test('ssh reaches it by its ticket, in either case', async () => {
  const { vmId } = await listed()
  for (const name of [TICKET, TICKET.toLowerCase()])
    expect(await plain('ssh', name, 'hostname; whoami')).toMatchObject({ code: 0, stdout: `${vmId}\nagent\n` })
  expect(await plain('ssh', TICKET, 'exit 9')).toMatchObject({ code: 9 })
})

test('scp, rsync and tar carry files there and back', async () => {
  const shop = join(person, 'shop')
  mkdirSync(join(shop, 'deep'), { recursive: true })
  writeFileSync(join(shop, 'deep', "it's one"), 'first')
  expect(await plain('scp', '-q', join(shop, 'deep', "it's one"), `${TICKET}:by-scp`)).toMatchObject({ code: 0 })
  expect(await plain('rsync', '-a', `${shop}/`, `${TICKET}:by-rsync/`)).toMatchObject({ code: 0, stderr: '' })
  expect(
    await plain('sh', '-c', `tar -C "$0" -c . | ssh ${TICKET} 'mkdir by-tar && tar -C by-tar -x'`, shop),
  ).toMatchObject({ code: 0 })
  const read = `cat by-scp "by-rsync/deep/it's one" "by-tar/deep/it's one"`
  expect(await plain('ssh', TICKET, read)).toMatchObject({ code: 0, stdout: 'firstfirstfirst' })
  await plain('ssh', TICKET, `echo later > "by-rsync/deep/it's one"`)
  expect(await plain('rsync', '-a', `${TICKET}:by-rsync/`, `${shop}/`)).toMatchObject({ code: 0 })
  expect(readFileSync(join(shop, 'deep', "it's one"), 'utf8')).toBe('later\n')
})

test('its ports are ports here, by forward and by plain ssh, and gone afterwards', async () => {
  // On the machine's own loopback: nothing but a forwarded port reaches it.
  await plain(
    'ssh',
    TICKET,
    `mkdir www && echo ${TICKET} > www/who; cd www; setsid -f python3 -m http.server 3000 --bind 127.0.0.1 >/dev/null 2>&1`,
  )
  await until(
    'the server',
    async () =>
      (await plain('ssh', TICKET, 'python3 -c "import socket; socket.create_connection((\'127.0.0.1\', 3000))"'))
        .code === 0,
  )
  const [one, two, three] = [await freePort(), await freePort(), await freePort()]

  const forward = beside(process.execPath, [entry, 'forward', TICKET, `${one}:3000`, `${two}:5432`])
  await until('both lines', () => forward.said.stdout.split('\n').length === 3, { within: 60_000 })
  expect(forward.said.stdout).toBe(
    `http://127.0.0.1:${one} is port 3000 of ${TICKET}\n127.0.0.1:${two} is port 5432 of ${TICKET}\n`,
  )
  expect(await page(one)).toBe(`${TICKET}\n`)
  expect(await swarm('forward', TICKET, `${one}:3000`)).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(
      new RegExp(
        `port 3000 of ${TICKET}: 127\\.0\\.0\\.1:${one} is in use by another program\\n.*forward ${TICKET} \\d+:3000`,
      ),
    ),
  })
  forward.child.kill('SIGINT')
  expect([await forward.ended, forward.said.stderr]).toEqual([0, ''])
  expect(await page(one)).toBe(null)

  const json = beside(process.execPath, [entry, 'forward', TICKET, '--json', `${one}:3000`])
  await until('its object', () => json.said.stdout.endsWith('}\n'), { within: 60_000 })
  expect(JSON.parse(json.said.stdout)).toEqual({
    ticket: TICKET,
    forwards: [{ host: '127.0.0.1', port: one, to: 3000 }],
  })
  expect(await page(one)).toBe(`${TICKET}\n`)
  // The machine lets go of it.
  await swarm('ssh', TICKET, '--', 'sudo pkill -f "^sshd: agent"')
  expect(await json.ended).toBe(1)
  expect(json.said.stderr).toContain(`the connection to ${TICKET} is lost, and its ports here are closed`)

  const tunnel = beside(...plainly(['ssh', '-N', '-L', `${three}:localhost:3000`, TICKET]))
  await until('the page', async () => (await page(three)) === `${TICKET}\n`, { within: 60_000 })
  tunnel.child.kill()
  await tunnel.ended
})

test('a machine with another host key is refused through the installed hosts', async () => {
  const { vmId } = await listed()
  const pin = join(state, 'ssh', `${vmId}.known_hosts`)
  const own = readFileSync(pin, 'utf8')
  const other = join(person, 'other')
  await program('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', other])
  writeFileSync(pin, `${vmId} ${readFileSync(`${other}.pub`, 'utf8').split(' ').slice(0, 2).join(' ')}\n`)
  const refused = await plain('ssh', TICKET, 'true')
  expect(refused).toMatchObject({
    code: 255,
    stderr: expect.stringMatching(/Host key verification failed|IDENTIFICATION HAS CHANGED/),
  })
  expect((await plain('scp', '-q', other, `${TICKET}:stolen`)).code).not.toBe(0)
  writeFileSync(pin, own)
  expect(await plain('ssh', TICKET, 'test ! -e stolen')).toMatchObject({ code: 0 })
})

test('a stopped machine is no host, is offered to be started, and is one again where it then is', async () => {
  expect(await swarm('stop', TICKET)).toMatchObject({ code: 0 })
  expect(kept()).not.toContain('Host ')
  expect(kept()).toContain(`# ${TICKET} is stopped; to start it: agent-swarm start ${TICKET}\n`)
  const asked = async (answer: string) => {
    const line = `'${process.execPath}' '${entry}' ssh ${TICKET} -- hostname`
    const { child, said, ended } = beside('script', ['-qec', line, '/dev/null'])
    await until('the question', () => said.stdout.includes(`${TICKET} is stopped. Start it? [Y/n]`))
    child.stdin.write(`${answer}\n`)
    return { code: await ended, ...said }
  }
  expect(await asked('n')).toMatchObject({ code: 1, stdout: expect.stringContaining(`agent-swarm start ${TICKET}`) })
  expect(await listed()).toMatchObject({ status: 'stopped' })
  const { vmId } = await listed()
  expect(await asked('')).toMatchObject({ code: 0, stdout: expect.stringContaining(`${vmId}\r\n`) })
  const { ip, status } = await listed()
  expect(status).toBe('running')
  expect(kept()).toContain(`Host ${TICKET} ${TICKET.toLowerCase()}\n  HostName ${ip}\n`)
  expect(await plain('ssh', TICKET, 'hostname')).toMatchObject({ code: 0, stdout: `${vmId}\n` })
})

test('deleted, it is gone from the hosts; uninstalled, the configuration is as it was', async () => {
  expect(await swarm('delete', TICKET, '--force')).toMatchObject({ code: 0 })
  expect(kept()).not.toContain(TICKET)
  expect((await plain('ssh', '-G', TICKET)).stdout).toMatch(/^proxycommand false$/m)
  expect(await swarm('ssh', '--config', '--uninstall')).toMatchObject({ code: 0 })
  expect(readFileSync(join(folder, 'config'), 'utf8')).toBe(CONFIG)
})
