/**
 * `ssh --via HOST`: a person's computer, the runner's host and a machine. Between them are a real ssh and two real sshd, and on the
 * host the real program.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { homeId, registryFile } from '../../src/config/home.ts'
import { openRegistry } from '../../src/registry/registry.ts'
import { putPeopleKeys } from '../../src/runner/ssh/people-keys.ts'
import { compiled, openCli } from '../support/cli.ts'
import { entry } from '../support/cli-processes.ts'
import { knownMachine, openTestContext, type TestContext } from '../support/context.ts'
import { machineVirsh } from '../support/machine-virsh.ts'
import { noSshd, useSshd } from '../support/sshd.ts'

const T = 'DROP-1'
const VM = 'as-drop-1-00000001'
const HOST = 'runner-host'
const HOST_ID = 'as-host-0-00000002'

let person: ReturnType<typeof openCli>
let it: TestContext
let guests: Awaited<ReturnType<typeof useSshd>>
let user: string
let machineHome: string
let publicKey: string

const run = async (program: string, words: readonly string[], input = '') => {
  const env = person.environment({ PATH: `${join(person.home, 'tools')}:${process.env.PATH}` })
  const child = spawn(program, words, { env, stdio: ['pipe', 'pipe', 'pipe'] })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', chunk => (output.stdout += chunk))
  child.stderr.on('data', chunk => (output.stderr += chunk))
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const [code] = await once(child, 'close')
  return { code: code as number, ...output }
}
/** In this process: it starts only ssh. */
const swarm = (...words: string[]) => person.swarm(words, { PATH: `${join(person.home, 'tools')}:${process.env.PATH}` })
const login = () => run('ssh', ['-o', `User=${user}`, T, 'echo in the machine'])
const executable = (path: string, text: string) => {
  writeFileSync(path, `#!/bin/sh\n${text}\n`)
  chmodSync(path, 0o755)
}
const giveKeys = async (authorizedKeys: string[] | null) => {
  const context = { ...it.context, config: { ...it.context.config, authorizedKeys } }
  await putPeopleKeys(context, await it.context.provider('synthetic'), VM, new AbortController().signal)
}
const inSsh = (name: string) => join(person.home, '.ssh', name)

/** The runner's host, and the machine on it. `realSsh`: the system's. */
const openHost = async (realSsh: string) => {
  const at = (...names: string[]) => join(person.home, ...names)
  it = await openTestContext({ guest: 'shell' })
  const context = Object.assign(it.context, { home: at('host') })
  guests = await useSshd(context, at('guest'), { hasHome: true })
  const [host, machine] = await Promise.all([guests.sshdOf(HOST_ID), guests.sshdOf(VM)])
  user = machine.ssh.user
  machineHome = at('guest', `sshd-${VM}`, 'home')
  const marked = { vmId: VM, ticket: T, home: await homeId(at('host')), port: machine.ssh.port }
  machineVirsh(at('host-tools'), marked).set({ running: true, saved: false })
  // The user of machines is not one of this system.
  executable(at('host-tools/ssh'), `exec ${realSsh} -o User=${user} "$@"`)
  const variables = `AGENT_SWARM_HOME='${at('host')}' AGENT_SWARM_KVM_URI=qemu:///session NODE_COMPILE_CACHE='${compiled.NODE_COMPILE_CACHE}'`
  executable(
    at(`guest/sshd-${HOST_ID}/tools/agent-swarm`),
    `exec env ${variables} PATH='${at('host-tools')}':"$PATH" '${process.execPath}' '${entry}' "$@"`,
  )
  const registry = openRegistry(registryFile(at('host')))
  knownMachine(registry, T, machine.ssh.host, machine.ssh.port)
  registry.close()
  return host.ssh
}

describe.skipIf(noSshd !== null)('ssh --via', () => {
  beforeAll(async () => {
    person = openCli()
    for (const name of ['.ssh', 'tools', 'host', 'host-tools']) mkdirSync(join(person.home, name), { mode: 0o700 })
    const realSsh = (await run('sh', ['-c', 'PATH=/usr/bin:/bin command -v ssh'])).stdout.trim()
    // ssh asks the system for the home folder of its user, and must not read that of the person who runs the test.
    executable(join(person.home, 'tools/ssh'), `exec ${realSsh} -F '${inSsh('config')}' "$@"`)
    const host = await openHost(realSsh)
    // The key opens the host; machines get it by `authorizedKeys`.
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'alice@laptop', '-f', inSsh('key')])
    publicKey = readFileSync(inSsh('key.pub'), 'utf8').trim()
    writeFileSync(join(person.home, `guest/sshd-${HOST_ID}/authorized_keys`), `${publicKey}\n`)
    writeFileSync(
      inSsh('config'),
      [
        ...[`Host ${HOST}`, 'HostName 127.0.0.1', `Port ${host.port}`, `User ${host.user}`, `HostKeyAlias ${HOST_ID}`],
        `UserKnownHostsFile "${join(person.home, `host/ssh/${HOST_ID}.known_hosts`)}"`,
        ...['Host *', `IdentityFile "${inSsh('key')}"`, 'IdentitiesOnly yes', 'BatchMode yes', ''],
      ].join('\n'),
    )
  })
  afterAll(async () => {
    await guests.close()
    it.close()
    person.close()
  })

  test('a command runs in the machine with its words, its input and its exit status; no key comes here', async () => {
    const line = `printf '%s|' "a  b" '$HOME'; cat; exit 9`
    const argv = [entry, 'ssh', '--via', HOST, T.toLowerCase(), '--', line]
    expect(await run(process.execPath, argv, 'typed')).toMatchObject({ code: 9, stdout: 'a  b|$HOME|typed' })
    expect(existsSync(join(person.home, 'state', 'ssh'))).toBe(false)
  })

  test('the machines become hosts of ssh, with the key of the person and the pinned key of the machine', async () => {
    expect(await swarm('ssh', '--config', '--via', HOST, '--install')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`The machines of ${HOST} are now hosts of ssh`),
    })
    const file = inSsh(`agent-swarm-${HOST}.config`)
    const text = readFileSync(file, 'utf8')
    expect(text).toContain(`Host ${T} drop-1\n`)
    expect(text).toContain(`\n  ProxyCommand ssh ${HOST} agent-swarm ssh --stdio ${T}\n`)
    expect(text).not.toContain('IdentityFile')
    expect(readFileSync(inSsh('config'), 'utf8')).toMatch(/^Include ".*agent-swarm-runner-host\.config"\nHost /)
    expect(await login()).toMatchObject({ code: 255, stderr: expect.stringContaining('Permission denied') })
    await giveKeys([publicKey])
    expect(await login()).toMatchObject({ code: 0, stdout: 'in the machine\n' })
    // Another key of the machine is refused.
    const known = inSsh(`agent-swarm-${HOST}.known_hosts`)
    writeFileSync(known, `${VM} ${publicKey}\n`)
    expect(await login()).toMatchObject({ code: 255, stdout: '' })
    expect(await swarm('ssh', '--config', '--via', HOST, '--uninstall')).toMatchObject({ code: 0 })
    expect([existsSync(file), existsSync(known)]).toEqual([false, false])
    expect(readFileSync(inSsh('config'), 'utf8')).toMatch(/^Host runner-host\n/)
  })

  test('keys that are not wanted any more are taken out, and those of others stay', async () => {
    const file = join(machineHome, '.ssh', 'authorized_keys')
    const keys = () => readFileSync(file, 'utf8')
    writeFileSync(file, 'ssh-ed25519 AAAA of-the-machine')
    await giveKeys([publicKey])
    expect(keys()).toBe(`ssh-ed25519 AAAA of-the-machine\n${publicKey} agent-swarm-person\n`)
    await giveKeys(null)
    expect(keys()).toContain('agent-swarm-person')
    await giveKeys([])
    expect(keys()).toBe('ssh-ed25519 AAAA of-the-machine\n')
  })

  test('a host that does not answer says what to try', async () => {
    const missing = await swarm('ssh', '--config', '--via', 'nowhere.invalid', '--install')
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining('ssh nowhere.invalid agent-swarm list') })
  })
})
