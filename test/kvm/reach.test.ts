/** A machine as a person reaches it: by plain ssh, scp and rsync through the installed hosts, and by forwarded ports. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from '../support/wait.ts'
import { ensureMachines, entry, FIRST, home, listed, program, swarmEnvironment, swarmWith } from './cli.ts'

const TICKET = FIRST
let person: string
let folder: string
/** The person's own configuration of ssh, none of which may apply to a machine. */
const CONFIG = `Host *
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  User nobody
  ProxyCommand false
  RemoteCommand tmux new -A -s x
  SessionType none
  PermitLocalCommand yes
  LocalCommand false
  Tunnel yes
  PubkeyAuthentication no
  KnownHostsCommand /bin/false
`

const environment = () => ({ ...swarmEnvironment, HOME: person })
const swarm = (...words: string[]) => swarmWith({ HOME: person }, ...words)
/** The command as the person types it. ssh asks the system for the person's home folder, which is ours in this one process. */
const plainly = (words: string[]): [string, string[]] => [
  'unshare',
  ['--mount', 'sh', '-c', 'mount --bind "$0" "$1" && shift && exec "$@"', person, userInfo().homedir, ...words],
]
const plain = (...words: string[]) => program(...plainly(words), { HOME: person })
const hosts = () => readFileSync(join(folder, 'agent-swarm.config'), 'utf8')

const children: ChildProcess[] = []
/** A program that goes on running, and its output so far. */
const beside = (file: string, words: string[]) => {
  const child = spawn(file, words, { env: environment(), stdio: ['pipe', 'pipe', 'pipe'] })
  children.push(child)
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', chunk => (output.stdout += chunk))
  child.stderr.on('data', chunk => (output.stderr += chunk))
  return { child, output, ended: once(child, 'close').then(([code]) => code as number | null) }
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
    response => response.text(),
    () => null,
  )

beforeAll(async () => {
  await ensureMachines(TICKET)
  person = mkdtempSync(join(tmpdir(), 'agent-swarm person-'))
  folder = join(person, '.ssh')
  mkdirSync(folder, { mode: 0o700 })
  writeFileSync(join(folder, 'config'), CONFIG)
  expect(await swarm('ssh', '--config', '--install')).toMatchObject({ code: 0 })
})
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL')
  await swarm('ssh', '--config', '--uninstall')
  rmSync(person, { recursive: true })
})

test('ssh reaches it by its ticket, in upper and lower case', async () => {
  const { vmId } = await listed(TICKET)
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

test('its ports are local ports while forward or ssh runs, and not afterwards', async () => {
  // On the machine's loopback, which only a forwarded port reaches.
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
  const [web, database, tunnelled] = [await freePort(), await freePort(), await freePort()]

  const forward = beside(process.execPath, [entry, 'forward', TICKET, `${web}:3000`, `${database}:5432`])
  await until('both lines', () => forward.output.stdout.split('\n').length === 3, { within: 60_000 })
  expect(forward.output.stdout).toContain(`http://127.0.0.1:${web} `)
  expect(forward.output.stdout).toMatch(new RegExp(`^127\\.0\\.0\\.1:${database} .*\\b5432\\b`, 'm'))
  expect(await page(web)).toBe(`${TICKET}\n`)
  // A port that is taken is refused, with another one that is free.
  expect(await swarm('forward', TICKET, `${web}:3000`)).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(new RegExp(`\\b${web}\\b[\\s\\S]*forward ${TICKET} \\d+:3000`)),
  })
  forward.child.kill('SIGINT')
  expect([await forward.ended, forward.output.stderr]).toEqual([0, ''])
  expect(await page(web)).toBe(null)

  const json = beside(process.execPath, [entry, 'forward', TICKET, '--json', `${web}:3000`])
  await until('its object', () => json.output.stdout.endsWith('}\n'), { within: 60_000 })
  expect(JSON.parse(json.output.stdout)).toEqual({
    ticket: TICKET,
    forwards: [{ host: '127.0.0.1', port: web, to: 3000 }],
  })
  expect(await page(web)).toBe(`${TICKET}\n`)
  // The machine ends the connection.
  await swarm('ssh', TICKET, '--', 'sudo pkill -f "^sshd: agent"')
  expect(await json.ended).toBe(1)
  expect(json.output.stderr).toContain(`the connection to ${TICKET} `)

  const tunnel = beside(...plainly(['ssh', '-N', '-L', `${tunnelled}:localhost:3000`, TICKET]))
  await until('the page', async () => (await page(tunnelled)) === `${TICKET}\n`, { within: 60_000 })
  tunnel.child.kill()
  await tunnel.ended
})

test('a machine with another host key is refused by plain ssh', async () => {
  const { vmId } = await listed(TICKET)
  const pin = join(home, 'ssh', `${vmId}.known_hosts`)
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

test('a stopped machine is not among the hosts; ssh offers to start it, and it is again', async () => {
  expect(await swarm('stop', TICKET)).toMatchObject({ code: 0 })
  expect(hosts()).not.toContain(`Host ${TICKET}`)
  expect(hosts()).toMatch(new RegExp(`^# ${TICKET} is stopped.*agent-swarm start ${TICKET}`, 'm'))
  const { vmId } = await listed(TICKET)
  const answer = async (line: string) => {
    const command = `'${process.execPath}' '${entry}' ssh ${TICKET} -- hostname`
    const { child, output, ended } = beside('script', ['-qec', command, '/dev/null'])
    await until('the question', () => output.stdout.includes('[Y/n]'), { within: 60_000 })
    child.stdin.write(`${line}\n`)
    return { code: await ended, ...output }
  }
  expect(await answer('n')).toMatchObject({ code: 1, stdout: expect.stringContaining(`agent-swarm start ${TICKET}`) })
  expect(await listed(TICKET)).toMatchObject({ status: 'stopped' })
  expect(await answer('')).toMatchObject({ code: 0, stdout: expect.stringContaining(`${vmId}\r\n`) })
  const { ip, status } = await listed(TICKET)
  expect(status).toBe('running')
  expect(hosts()).toContain(`Host ${TICKET} ${TICKET.toLowerCase()}\n  HostName ${ip}\n`)
  expect(await plain('ssh', TICKET, 'hostname')).toMatchObject({ code: 0, stdout: `${vmId}\n` })
})

test("uninstalled, the person's configuration is as before", async () => {
  expect(await swarm('ssh', '--config', '--uninstall')).toMatchObject({ code: 0 })
  expect(readFileSync(join(folder, 'config'), 'utf8')).toBe(CONFIG)
  expect((await plain('ssh', '-G', TICKET)).stdout).toMatch(/^proxycommand false$/m)
})
