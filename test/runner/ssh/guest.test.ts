import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openRun } from '../../../src/exec.ts'
import { forgetHostKey, loginKey, pinnedHostKey, sshArguments, sweepKeys } from '../../../src/runner/ssh/guest.ts'

const run = openRun(process.env)
let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm guest-'))
})
afterEach(() => rmSync(home, { recursive: true }))
const VM = 'as-drop-1-00000001'

test('the login key is one, however many ask for it first', async () => {
  const keys = await Promise.all(Array.from({ length: 5 }, () => loginKey(run, home)))
  expect(new Set(keys).size).toBe(1)
  expect(keys[0]).toMatch(/^ssh-ed25519 \S+ agent-swarm$/)
  expect(readdirSync(join(home, 'ssh'))).toEqual(['login'])
  expect(statSync(join(home, 'ssh', 'login', 'key')).mode & 0o777).toBe(0o600)
})

test('a host key is pinned under the name of its machine, and its private half is kept nowhere', async () => {
  const { privateKey, publicKey } = await pinnedHostKey(run, home, VM)
  expect(privateKey).toContain('BEGIN OPENSSH PRIVATE KEY')
  expect(readFileSync(join(home, 'ssh', `${VM}.known_hosts`), 'utf8')).toBe(
    `${VM} ${publicKey.split(' ').slice(0, 2).join(' ')}\n`,
  )
  expect(readdirSync(join(home, 'ssh'))).toEqual([`${VM}.known_hosts`])
  forgetHostKey(home, VM)
  expect(readdirSync(join(home, 'ssh'))).toEqual([])
})

test('a key that was in the making when its process died does not stay; one that is being made does', async () => {
  await loginKey(run, home)
  for (const name of ['new-dead', 'new-alive']) {
    mkdirSync(join(home, 'ssh', name))
    writeFileSync(join(home, 'ssh', name, 'key'), 'a private key')
  }
  const before = new Date(Date.now() - 2 * 60_000)
  for (const name of ['new-dead', 'login']) utimesSync(join(home, 'ssh', name), before, before)
  sweepKeys(home)
  expect(readdirSync(join(home, 'ssh')).sort()).toEqual(['login', 'new-alive'])
})

test('ssh never runs with host key checking off, and an address is an address', () => {
  const words = sshArguments(home, VM, { host: '192.0.2.1', port: 22, user: 'agent' })
  expect(words).toContain('StrictHostKeyChecking=yes')
  expect(words).toContain(`HostKeyAlias=${VM}`)
  expect(words).toContain(`UserKnownHostsFile="${join(home, 'ssh', `${VM}.known_hosts`)}"`)
  expect(() => sshArguments(home, VM, { host: '-oProxyCommand=reboot', port: 22, user: 'agent' })).toThrow(
    /is no address/,
  )
})
