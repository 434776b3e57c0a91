/** Plain ssh, scp and rsync through the installed hosts, whose ProxyCommand is `ssh --stdio`: a real ssh and a real sshd. */
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { homeId } from '../../src/config/home.ts'
import { openCli } from '../support/cli.ts'
import { entry } from '../support/cli-processes.ts'
import { knownMachine, openTestContext, type TestContext } from '../support/context.ts'
import { machineVirsh } from '../support/machine-virsh.ts'
import { noSshd, useSshd } from '../support/sshd.ts'

const T = 'DROP-1'
const VM = 'as-drop-1-00000001'
const MIB = 1024 ** 2
const hashOf = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('hex')

let cli: ReturnType<typeof openCli>
let it: TestContext
let guests: Awaited<ReturnType<typeof useSshd>>
let machine: ReturnType<typeof machineVirsh>
let tools: string
let config: string
let user: string
let address: { host: string; port: number }

const environment = () =>
  cli.environment({ PATH: `${tools}:${process.env.PATH}`, AGENT_SWARM_KVM_URI: 'qemu:///session' })
/** A program with this input, and its output as bytes. */
const run = async (program: string, words: readonly string[], input: Buffer | string = '') => {
  const child = spawn(program, words, { env: environment(), stdio: ['pipe', 'pipe', 'pipe'] })
  const stdout: Buffer[] = []
  let stderr = ''
  child.stdout.on('data', chunk => stdout.push(chunk))
  child.stderr.on('data', chunk => (stderr += chunk))
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const [code] = await once(child, 'close')
  return { code: code as number, stdout: Buffer.concat(stdout), stderr }
}
const ssh = (...words: string[]) => run('ssh', ['-F', config, '-o', `User=${user}`, T, ...words])
const stdio = (input: Buffer | string = '') => run(process.execPath, [entry, 'ssh', '--stdio', T], input)

const atHome = (state: { running: boolean; saved: boolean }) => {
  machine.set(state)
  cli.know(registry => {
    registry.setStatus(T, state.running ? 'running' : 'stopped')
    registry.setAddress(T, state.running ? { ...address, user: 'agent' } : null)
    if (state.saved)
      registry.setIdleness(T, {
        ...{ idleMs: 0, operation: 0, report: { state: 'saved', at: '2026-11-24T10:00:00.000Z' } },
        ssh: { ...address, user: 'agent' },
      })
  })
}

describe.skipIf(noSshd !== null)('ssh --stdio', () => {
  beforeAll(async () => {
    cli = openCli()
    const state = join(cli.home, 'state')
    it = await openTestContext({ guest: 'shell' })
    // The machine has the keys of the home that the command line uses.
    const context = Object.assign(it.context, { home: state })
    mkdirSync(state, { recursive: true, mode: 0o700 })
    guests = await useSshd(context, join(cli.home, 'guest'))
    const sshd = await guests.sshdOf(VM)
    user = sshd.ssh.user
    address = { host: sshd.ssh.host, port: sshd.ssh.port }
    // The test installs nothing on this system.
    writeFileSync(join(cli.home, 'guest', `sshd-${VM}`, 'tools', 'sudo'), '#!/bin/sh\ncat >/dev/null\n')
    tools = join(cli.home, 'tools')
    machine = machineVirsh(tools, { vmId: VM, ticket: T, home: await homeId(state), port: address.port })
    // The user of machines is not one of this system.
    const realSsh = (await run('sh', ['-c', 'PATH=/usr/bin:/bin command -v ssh'])).stdout.toString().trim()
    writeFileSync(join(tools, 'ssh'), `#!/bin/sh\nexec ${realSsh} -o User=${user} "$@"\n`)
    chmodSync(join(tools, 'ssh'), 0o755)
    cli.know(registry => knownMachine(registry, T, address.host, address.port))
    config = join(cli.home, 'config')
  })
  beforeEach(async () => {
    atHome({ running: true, saved: false })
    const printed = await run(process.execPath, [entry, 'ssh', '--config'])
    writeFileSync(config, printed.stdout)
  })
  afterAll(async () => {
    await guests.close()
    it.close()
    cli.close()
  })

  test('ssh runs commands through it, with their exit status, and carries large files both ways', async () => {
    expect(readFileSync(config, 'utf8')).toMatch(
      /^ {2}ProxyCommand '\/.*' '\/.*agent-swarm\.js' ssh --stdio DROP-1 --home '/m,
    )
    expect(await ssh('echo hello; exit 9')).toMatchObject({ code: 9, stdout: Buffer.from('hello\n'), stderr: '' })
    const file = join(cli.home, 'large')
    const bytes = randomBytes(24 * MIB)
    writeFileSync(file, bytes)
    const there = join(cli.home, 'there')
    expect(await run('scp', ['-qO', '-F', config, '-o', `User=${user}`, file, `${T}:${there}`])).toMatchObject({
      ...{ code: 0, stderr: '' },
    })
    expect(hashOf(readFileSync(there))).toBe(hashOf(bytes))
    const back = await run('ssh', ['-F', config, '-o', `User=${user}`, T, `cat ${there}`])
    expect(hashOf(back.stdout)).toBe(hashOf(bytes))
    const through = await run('ssh', ['-F', config, '-o', `User=${user}`, T, 'cat'], bytes)
    expect(hashOf(through.stdout)).toBe(hashOf(bytes))
  })

  test('it works without AGENT_SWARM_HOME and our PATH, as an editor starts it', async () => {
    const { AGENT_SWARM_HOME: _, ...rest } = environment()
    const child = spawn(
      'ssh',
      ['-F', config, '-o', `User=${user}`, '-o', 'ConnectTimeout=30', T, 'echo from an editor'],
      {
        env: rest,
      },
    )
    let stdout = ''
    child.stdout.on('data', chunk => (stdout += chunk))
    await once(child, 'close')
    expect(stdout).toBe('from an editor\n')
  })

  test('a machine that sleeps is woken, and what is said of it is on standard error alone', async () => {
    atHome({ running: false, saved: true })
    const printed = await run(process.execPath, [entry, 'ssh', '--config'])
    expect(printed.stdout.toString()).toContain(`Host ${T} ${T.toLowerCase()}\n`)
    const answer = await ssh('echo awake')
    expect(answer).toMatchObject({ code: 0, stdout: Buffer.from('awake\n') })
    expect(answer.stderr).toContain('DROP-1 sleeps. It is being woken.')
    expect(machine.isRunning()).toBe(true)
    cli.know(registry => {
      expect(registry.environment(T)).toMatchObject({ status: 'running', desired: 'running' })
      expect(registry.idleness(T)).toBe(null)
      // An editor connects again by itself. A merge that nobody heard of yet still deletes the machine.
      expect(registry.lastManualOperation(T)?.kind).toBe('create')
    })
  })

  test('a machine that a person stopped stays so, and says how to start it', async () => {
    atHome({ running: false, saved: false })
    expect(await stdio()).toMatchObject({
      ...{ code: 1, stdout: Buffer.alloc(0) },
      stderr: expect.stringContaining('agent-swarm start DROP-1'),
    })
    expect(machine.isRunning()).toBe(false)
  })

  const serve = async (onConnection: Parameters<typeof createServer>[1]): Promise<Server> => {
    const server = createServer({ allowHalfOpen: true }, onConnection).listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => {
      server.close()
      machineVirsh(tools, {
        vmId: VM,
        ticket: T,
        home: readFileSync(join(cli.home, 'state/id'), 'utf8').trim(),
        port: address.port,
      })
    })
    const { port } = server.address() as AddressInfo
    machineVirsh(tools, { vmId: VM, ticket: T, home: readFileSync(join(cli.home, 'state/id'), 'utf8').trim(), port })
    return server
  }

  test('the end of our input is passed on, and the answer to it arrives whole', async () => {
    const answer = randomBytes(8 * MIB)
    const request = randomBytes(3 * MIB)
    let got = ''
    await serve(socket => {
      const parts: Buffer[] = []
      socket.on('data', part => parts.push(part))
      socket.on('end', () => {
        got = hashOf(Buffer.concat(parts))
        socket.end(answer)
      })
    })
    const { code, stdout, stderr } = await stdio(request)
    expect([code, stderr, hashOf(stdout)]).toEqual([0, '', hashOf(answer)])
    expect(got).toBe(hashOf(request))
  })

  test('a connection that breaks, and one that is refused, are failures', async () => {
    const server = await serve(socket => socket.resetAndDestroy())
    expect(await stdio('hello')).toMatchObject({ code: 1, stderr: expect.stringMatching(/connection|connecting/) })
    await new Promise(resolve => server.close(resolve))
    expect(await stdio('hello')).toMatchObject({ code: 1, stderr: expect.stringContaining('ECONNREFUSED') })
  })

  test('wrong use is named', async () => {
    expect(await run(process.execPath, [entry, 'ssh', '--stdio'])).toMatchObject({ code: 2 })
    expect(await run(process.execPath, [entry, 'ssh', '--stdio', T, '--', 'ls'])).toMatchObject({ code: 2 })
    expect(await run(process.execPath, [entry, 'ssh', '--home', '/x', T])).toMatchObject({ code: 2 })
  })
})
