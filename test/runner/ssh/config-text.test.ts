/** The text of the hosts, and how OpenSSH reads it. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Idleness } from '../../../src/registry/registry.ts'
import { type Host, hostOf, hostsText } from '../../../src/runner/ssh/config-text.ts'
import { sshArguments } from '../../../src/runner/ssh/options.ts'
import { commandWord } from '../../../src/runner/ssh/proxy-command.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'agent-swarm ssh-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const ADDRESS = { host: '192.0.2.7', port: 2222, user: 'agent' }
const host = (ticket: string, status: Host['status'], ssh: Host['ssh'] = null): Host => ({
  ticket,
  provider: 'kvm',
  vmId: 'as-drop-1-00000001',
  status,
  ssh,
  isAsleep: false,
})

/** What somebody's configuration may say for all hosts. */
const LAX = `
Host *
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /tmp/everybody
  HostKeyAlias another
  VerifyHostKeyDNS yes
  UpdateHostKeys yes
  ForwardAgent yes
  ForwardX11 yes
  IdentitiesOnly no
  ProxyCommand nc somewhere 22
  ProxyJump somewhere
  ControlPath /tmp/%r@%h:%p
  User root
  Port 2022
  RemoteCommand tmux new -A -s x
  SessionType none
  PermitLocalCommand yes
  LocalCommand touch /tmp/ran
  Tunnel yes
  GSSAPIDelegateCredentials yes
  HostbasedAuthentication yes
  PasswordAuthentication yes
  KbdInteractiveAuthentication yes
  PubkeyAuthentication no
  KnownHostsCommand /usr/bin/everybody %H
  IgnoreUnknown UseKeychain
  UseKeychain yes
`
/** The options that ssh itself would use. */
const ssh = (...words: string[]): string[] =>
  execFileSync('ssh', ['-G', ...words], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split('\n')
// A command that PermitLocalCommand does not permit stays written, and is not run.
// The connection of a host goes through us.
const withoutNames = (options: string[]) =>
  options.filter(line => !/^(host|hostname|localcommand|proxycommand) /.test(line))

test('a host has the options of agent-swarm ssh, whatever else is configured and whatever the path of the home', () => {
  const home = join(root, 'a home, 100% of "mine"\\')
  const machine = host('DROP-2100', 'running', ADDRESS)
  const file = join(root, 'config')
  writeFileSync(file, hostsText(home, [machine]) + LAX)
  const expected = withoutNames(ssh(...sshArguments(home, machine.vmId, ADDRESS), '--', ADDRESS.host))
  expect(expected).toContain(`userknownhostsfile ${join(home, 'ssh', `${machine.vmId}.known_hosts`)}`)
  expect(expected).toEqual(
    expect.arrayContaining([
      ...['stricthostkeychecking true', 'permitlocalcommand no', 'tunnel false', 'gssapidelegatecredentials no'],
      ...['hostbasedauthentication no', 'passwordauthentication no', 'kbdinteractiveauthentication no'],
      ...['pubkeyauthentication true', 'sessiontype default', 'clearallforwardings no'],
    ]),
  )
  expect(expected.filter(line => /^(remotecommand|knownhostscommand) /.test(line))).toEqual([])
  for (const name of ['DROP-2100', 'drop-2100']) {
    const options = ssh('-F', file, name)
    expect(withoutNames(options)).toEqual(expected)
    expect(options).toContain(`hostname ${ADDRESS.host}`)
    expect(options.filter(line => line.startsWith('proxycommand '))).toEqual([
      expect.stringMatching(
        /^proxycommand '\/.*' '\/.*\/bin\/agent-swarm\.js' ssh --stdio DROP-2100 --home '\/.* home, 100%% of "mine"'\\\\''$/,
      ),
    ])
    expect(options.some(line => line.startsWith('proxyjump '))).toBe(false)
  }
  // The comparison can fail: another host has the options of `Host *`.
  expect(ssh('-F', file, 'DROP-21')).toContain('stricthostkeychecking false')
})

test('a machine that sleeps is a host, and one that a person stopped is none', () => {
  const sleeping: Idleness = {
    ...{ idleMs: 0, operation: 1, ssh: ADDRESS },
    report: { state: 'saved', at: '2026-11-24T10:00:00.000Z' },
  }
  const hosts = [hostOf(host('DROP-1', 'stopped'), sleeping), hostOf(host('DROP-2', 'stopped'), undefined)]
  expect(hostsText(root, hosts)).toMatch(/^Host DROP-1 drop-1\n {2}HostName 192\.0\.2\.7\n[\s\S]*# DROP-2 is stopped/)
})

test.for([
  ['linux', "/home/o'neil/100% mine", `'/home/o'\\''neil/100%% mine'`],
  ['darwin', '/Users/me/Library/a "b"', `'/Users/me/Library/a "b"'`],
  ['linux', 'a\\', `'a'\\\\''`],
  ['win32', 'C:\\Program Files\\node.exe', '"C:\\Program Files\\node.exe"'],
  ['win32', 'C:\\home\\', '"C:\\home\\\\"'],
] as const)('on %s, a path of the ProxyCommand is one word: %s', ([platform, path, expected]) =>
  expect(commandWord(path, platform)).toBe(expected),
)

test('machines that nobody can log in to are comments with the reason', () => {
  const text = hostsText(root, [
    { ...host('DROP-1', 'running'), provider: 'synthetic' },
    host('DROP-2', 'running', ADDRESS),
    host('DROP-3', 'stopped'),
    host('DROP-4', 'creating', ADDRESS),
    host('DROP-5', 'deleting', ADDRESS),
    host('DROP-6', 'failed'),
    host('DROP-7', 'lost'),
  ])
  expect(text.split('\n').filter(line => /^(Host|#)/.test(line))).toEqual([
    '# DROP-1 runs on synthetic, which has no SSH address',
    'Host DROP-2 drop-2',
    '# DROP-3 is stopped. Start it: agent-swarm start DROP-3',
    '# DROP-4 is being created',
    '# DROP-5 is being deleted',
    '# DROP-6 could not be created. Try again: agent-swarm create DROP-6',
    '# DROP-7 has lost its machine. Create a new one: agent-swarm create DROP-7',
  ])
})

test.for([
  [{ host: '192.0.2.1\nProxyCommand reboot', port: 22, user: 'agent' }, 'is not an IP address'],
  [{ host: '-oProxyCommand=reboot', port: 22, user: 'agent' }, 'is not an IP address'],
  [{ host: '192.0.2.1', port: 22, user: 'agent\n  ProxyCommand reboot' }, 'is not a user name'],
  [{ host: '192.0.2.1', port: 22, user: '-l' }, 'is not a user name'],
] as const)('an address or a user that could be an option is refused: %j', ([address, message]) =>
  expect(() => hostsText(root, [host('DROP-1', 'running', address)])).toThrow(message),
)

test.for([
  ['a ticket', { ticket: 'DROP-1\n  ProxyCommand touch /tmp/owned\nHost *' }],
  ['a machine', { vmId: 'as-drop-1-00000001\n  ProxyCommand x' }],
  ['a path as a machine', { vmId: '../../known' }],
  ['a user', { ssh: { ...ADDRESS, user: 'agent\nProxyCommand x' } }],
  ['an address', { ssh: { ...ADDRESS, host: '192.0.2.7\nProxyCommand x' } }],
  ['a port', { ssh: { ...ADDRESS, port: '22\nProxyCommand x' as never } }],
  ['a provider in a comment', { ssh: null, provider: 'kvm\nHost *\n  ProxyCommand x' }],
  ['a stopped ticket in a comment', { status: 'stopped', ticket: 'DROP-1\nHost *' }],
  ['a line separator', { ssh: null, provider: 'kvm\u2028Host *' }],
] as [string, Partial<Host>][])('nothing is written for %s with a line break or a path', ([, more]) => {
  expect(() => hostsText(root, [{ ...host('DROP-1', 'running', ADDRESS), ...more }])).toThrow()
})

test('a home with a line break writes nothing into a configuration', () => {
  expect(() => hostsText('/home/me\nHost *', [host('DROP-1', 'running', ADDRESS)])).toThrow('cannot hold the path')
})
