import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openRun } from '../../../src/exec.ts'
import {
  forgetHostKey,
  forgetPrivateHalf,
  hostKeyOfCreate,
  linkSecret,
  loginKey,
  pinnedHostKey,
  sweepKeys,
} from '../../../src/runner/ssh/keys.ts'
import { sshArguments } from '../../../src/runner/ssh/options.ts'

const run = openRun(process.env)
let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm keys-'))
})
afterEach(() => rmSync(home, { recursive: true }))
const VM = 'as-drop-1-00000001'

test('several first uses at the same time make one login key', async () => {
  const keys = await Promise.all(Array.from({ length: 5 }, () => loginKey(run, home)))
  expect(new Set(keys).size).toBe(1)
  expect(keys[0]).toMatch(/^ssh-ed25519 \S+ agent-swarm$/)
  expect(readdirSync(join(home, 'ssh'))).toEqual(['login'])
  expect(statSync(join(home, 'ssh', 'login', 'key')).mode & 0o777).toBe(0o600)
})

test("the secret of a machine's link is its own, for this user alone, and ends with its machine", () => {
  const file = join(home, 'ssh', `${VM}.link_secret`)
  const secret = linkSecret(home, VM)
  expect(secret).toMatch(/^[0-9a-f]{64}$/)
  expect([linkSecret(home, VM), readFileSync(file, 'utf8')]).toEqual([secret, secret])
  expect(statSync(file).mode & 0o777).toBe(0o600)
  expect(linkSecret(home, 'as-drop-1-1-00000002')).not.toBe(secret)
  // An empty one would let anybody in.
  writeFileSync(file, '')
  expect(linkSecret(home, VM)).toMatch(/^[0-9a-f]{64}$/)
  forgetHostKey(home, VM)
  expect(readdirSync(join(home, 'ssh'))).toEqual(['as-drop-1-1-00000002.link_secret'])
})

test('a host key is pinned under the id of its machine, and its private half is not kept', async () => {
  const { privateKey, publicKey } = await pinnedHostKey(run, home, VM)
  expect(privateKey).toContain('BEGIN OPENSSH PRIVATE KEY')
  expect(readFileSync(join(home, 'ssh', `${VM}.known_hosts`), 'utf8')).toBe(
    `${VM} ${publicKey.split(' ').slice(0, 2).join(' ')}\n`,
  )
  expect(readdirSync(join(home, 'ssh'))).toEqual([`${VM}.known_hosts`])
  forgetHostKey(home, VM)
  expect(readdirSync(join(home, 'ssh'))).toEqual([])
})

test('a create that is done again gets the host key that is pinned, until the machine answers', async () => {
  const made = await hostKeyOfCreate(run, home, VM)
  expect(made.privateKey).toContain('BEGIN OPENSSH PRIVATE KEY')
  expect(readFileSync(join(home, 'ssh', `${VM}.known_hosts`), 'utf8')).toBe(`${VM} ${made.publicKey}\n`)
  expect(statSync(join(home, 'ssh', `${VM}.host_key`)).mode & 0o777).toBe(0o600)
  expect(await hostKeyOfCreate(run, home, VM)).toEqual(made)
  forgetPrivateHalf(home, VM)
  expect(readdirSync(join(home, 'ssh'))).toEqual([`${VM}.known_hosts`])
})

test('without both halves, a create gets a new host key', async () => {
  const first = await hostKeyOfCreate(run, home, VM)
  rmSync(join(home, 'ssh', `${VM}.known_hosts`))
  const second = await hostKeyOfCreate(run, home, VM)
  forgetPrivateHalf(home, VM)
  const third = await hostKeyOfCreate(run, home, VM)
  expect(new Set([first, second, third].map(({ privateKey }) => privateKey)).size).toBe(3)
  expect(readFileSync(join(home, 'ssh', `${VM}.known_hosts`), 'utf8')).toBe(`${VM} ${third.publicKey}\n`)
  forgetHostKey(home, VM)
  expect(readdirSync(join(home, 'ssh'))).toEqual([])
})

test('a sweep keeps the private half of a machine that is being made, and of no other', async () => {
  const other = 'as-drop-2-00000002'
  for (const vmId of [VM, other]) await hostKeyOfCreate(run, home, vmId)
  sweepKeys(home, vmId => vmId === VM)
  expect(readdirSync(join(home, 'ssh')).sort()).toEqual([`${VM}.host_key`, `${VM}.known_hosts`, `${other}.known_hosts`])
})

test('a sweep removes the unfinished key of a dead process, and keeps one that is being made', async () => {
  await loginKey(run, home)
  for (const name of ['new-dead', 'new-alive']) {
    mkdirSync(join(home, 'ssh', name))
    writeFileSync(join(home, 'ssh', name, 'key'), 'a private key')
  }
  const before = new Date(Date.now() - 2 * 60_000)
  for (const name of ['new-dead', 'login']) utimesSync(join(home, 'ssh', name), before, before)
  sweepKeys(home, () => false)
  expect(readdirSync(join(home, 'ssh')).sort()).toEqual(['login', 'new-alive'])
})

test('ssh always checks the host key, and an address cannot be an option', () => {
  const words = sshArguments(home, VM, { host: '192.0.2.1', port: 22, user: 'agent' })
  expect(words).toContain('StrictHostKeyChecking=yes')
  expect(words).toContain(`HostKeyAlias=${VM}`)
  expect(words).toContain(`UserKnownHostsFile="${join(home, 'ssh', `${VM}.known_hosts`)}"`)
  expect(() => sshArguments(home, VM, { host: '-oProxyCommand=reboot', port: 22, user: 'agent' })).toThrow(
    /is not an IP address/,
  )
})
