/** The pieces of `ssh --via`: what is passed on to ssh and the host, what the host may answer, and what is written. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { keysScript, peopleKeys } from '../../../src/runner/ssh/people-keys.ts'
import { parseViaMachines, sshVariables, viaArguments, viaHost, viaProxyCommand } from '../../../src/runner/ssh/via.ts'
import { planViaInstall, planViaUninstall } from '../../../src/runner/ssh/via-config.ts'
import { isPublicKey } from '../../../src/schema/public-key.ts'

const KEY = `ssh-ed25519 ${'A'.repeat(68)}`
const folder = () => {
  const made = mkdtempSync(join(tmpdir(), 'agent-swarm-via-'))
  onTestFinished(() => rmSync(made, { recursive: true }))
  return made
}

test.for(['studio', 'alice@studio.example.org', 'mac-mini_2', '192.0.2.1', '2001:db8::1', 'a'])('%s is a host', host =>
  expect(viaHost(host)).toBe(host),
)
test.for([
  ...[
    '',
    '-oProxyCommand=touch x',
    '-v',
    'a b',
    'a;b',
    '$(id)',
    '`id`',
    '%h',
    "a'b",
    'a"b',
    'a\nb',
    'a@-b',
    '@b',
    'a@',
  ],
  ...['studio:22', 'alice@studio:22', 'ssh://a', 'a/b', 'a\\b', '..', 'x'.repeat(400)],
])('%j is not a host', host => expect(() => viaHost(host)).toThrow('is not a host for --via'))

test('what is typed after -- is one word for the shell of the host; a terminal is asked for where there is one', () => {
  const shell = { line: null, start: false, hasTerminal: true }
  expect(viaArguments('studio', 'DROP-1', shell)).toEqual(['-t', '--', 'studio', 'agent-swarm ssh DROP-1'])
  const line = { line: "echo 'a b' $HOME; reboot", start: true, hasTerminal: false }
  expect(viaArguments('studio', 'DROP-1', line)).toEqual([
    ...['--', 'studio'],
    `agent-swarm ssh --start DROP-1 -- 'echo '\\''a b'\\'' $HOME; reboot'`,
  ])
  expect(viaProxyCommand('studio', 'DROP-1')).toBe('ssh studio agent-swarm ssh --stdio DROP-1')
})

test("the person's ssh sees their agent, and no secret", () => {
  expect(sshVariables({ SSH_AUTH_SOCK: '/run/agent', GITHUB_TOKEN: 'x', DISPLAY: ':0' })).toEqual({
    ...{ SSH_AUTH_SOCK: '/run/agent', DISPLAY: ':0' },
  })
})

const machine = (more: object = {}) => ({
  ...{ ticket: 'DROP-1', names: ['x'], options: { HostKeyAlias: 'as-drop-1-00000001', User: 'agent', Port: '22' } },
  ...{ hostKey: KEY, reason: null, ...more },
})
test('of the answer of a host only names of the right form are taken', () => {
  const parse = (value: unknown) => parseViaMachines(JSON.stringify(value))
  expect(
    parse([machine(), machine({ options: null }), machine({ hostKey: null }), machine({ hostKey: undefined })]),
  ).toEqual([{ ticket: 'DROP-1', vmId: 'as-drop-1-00000001', user: 'agent', hostKey: KEY }])
  const options = (more: object) => machine({ options: { HostKeyAlias: 'as-drop-1-00000001', User: 'agent', ...more } })
  for (const hostile of [
    ...[machine({ ticket: 'DROP-1\n  ProxyCommand touch x' }), machine({ hostKey: `${KEY}\n* ${KEY}` })],
    ...[options({ User: 'agent\nProxyCommand x' }), options({ User: '-x' }), options({ HostKeyAlias: '*' })],
    machine({ ticket: 7 }),
  ])
    expect(() => parse([hostile])).toThrow()
  for (const text of ['', '{}', 'null', '[[[', `[${'1,'.repeat(20_000)}1]`])
    expect(() => parseViaMachines(text)).toThrow()
})

const [entry] = parseViaMachines(JSON.stringify([machine()]))
const machines = entry === undefined ? [] : [entry]
test('an install writes two files and one line, once; an uninstall takes them away, and nothing else', () => {
  const ssh = folder()
  writeFileSync(join(ssh, 'config'), 'Host mine\n')
  const install = () => planViaInstall(ssh, 'alice@studio', machines)
  expect(install().steps.map(({ description }) => description.replaceAll(ssh, ''))).toEqual([
    'write /agent-swarm-alice_studio.known_hosts',
    'write /agent-swarm-alice_studio.config',
    'add one line at the top of /config: Include "/agent-swarm-alice_studio.config"',
  ])
  expect(existsSync(join(ssh, 'agent-swarm-alice_studio.config'))).toBe(false)
  for (const step of install().steps) step.run()
  expect(install().steps).toEqual([])
  expect(readFileSync(join(ssh, 'agent-swarm-alice_studio.known_hosts'), 'utf8')).toBe(`as-drop-1-00000001 ${KEY}\n`)
  expect(planViaUninstall(ssh, 'other').steps).toEqual([])
  for (const step of planViaUninstall(ssh, 'alice@studio').steps) step.run()
  expect(readFileSync(join(ssh, 'config'), 'utf8')).toBe('Host mine\n')
  expect(existsSync(join(ssh, 'agent-swarm-alice_studio.known_hosts'))).toBe(false)
})

test('the machine asks the person for no password', () => {
  const text = planViaInstall(folder(), 'studio', machines).text ?? ''
  for (const option of [
    ...['PubkeyAuthentication yes', 'PasswordAuthentication no', 'KbdInteractiveAuthentication no'],
    ...['HostbasedAuthentication no', 'StrictHostKeyChecking yes', 'ForwardAgent no'],
  ])
    expect(text.match(new RegExp(`^  ${option}$`, 'm')), option).not.toBeNull()
})

test.for([
  ['at its top', 'Host mine\n', 'VIA\nHost mine\n'],
  ['below the machines of this host', 'Include "DIR/agent-swarm.config"\nHost mine\n', 'OWN\nVIA\nHost mine\n'],
  ['the same without an end of the line', 'User me\nInclude agent-swarm.config', 'User me\nOWN\nVIA\n'],
  ['moved below them', 'VIA\nUser me\nOWN\nHost mine\n', 'User me\nOWN\nVIA\nHost mine\n'],
  ['where it is already', 'OWN\nUser me\nVIA\n', 'OWN\nUser me\nVIA\n'],
  ['where the person wrote it', 'Include agent-swarm-studio.config\nOWN\n', 'Include agent-swarm-studio.config\nOWN\n'],
])(
  'ssh reads the machines of this host first, those that come later, too: the line is %s',
  ([, before = '', after = '']) => {
    const ssh = folder()
    const config = join(ssh, 'config')
    const own = `Include "${join(ssh, 'agent-swarm.config')}"`
    const via = `Include "${join(ssh, 'agent-swarm-studio.config')}"`
    writeFileSync(config, before.replace('DIR', ssh).replace('OWN', own).replace('VIA', via))
    for (const step of planViaInstall(ssh, 'studio', machines).steps) step.run()
    expect(planViaInstall(ssh, 'studio', machines).steps).toEqual([])
    expect(readFileSync(config, 'utf8').replace('Include agent-swarm.config', own)).toBe(
      after.replace('OWN', own).replace('VIA', via),
    )
  },
)

test('a file of somebody else is refused', () => {
  const ssh = folder()
  writeFileSync(join(ssh, 'agent-swarm-studio.config'), 'Host mine\n')
  expect(() => planViaInstall(ssh, 'studio', machines)).toThrow('was not written by agent-swarm')
  expect(() => planViaUninstall(ssh, 'studio')).toThrow('was not written by agent-swarm')
})

// ── Keys of people ──

test.for([
  [`${KEY} alice@example.org`, true],
  [KEY, true],
  [`sk-ssh-ed25519@openssh.com ${'A'.repeat(80)} a token`, true],
  [`command="x" ${KEY}`, false],
  [`${KEY} a\nb`, false],
  ['ssh-ed25519 AAAA', false],
  ['ssh-dss AAAAB3NzaC1kc3MAAACBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', false],
  ['/home/alice/.ssh/key.pub', false],
] as const)('%j is a key: %s', ([text, expected]) => expect(isPublicKey(text)).toBe(expected))

test('keys come from the setting and from files, each once; a line that is none is named', () => {
  const file = join(folder(), 'keys')
  writeFileSync(file, `# the team\n\n${KEY} bob\r\n${KEY} alice\n`)
  expect(peopleKeys({ authorizedKeys: [`${KEY} alice`, file] })).toEqual([`${KEY} alice`, `${KEY} bob`])
  expect(peopleKeys({ authorizedKeys: null })).toBeNull()
  writeFileSync(file, `${KEY}\nno-pty ${KEY}\n`)
  expect(() => peopleKeys({ authorizedKeys: [file] })).toThrow('line 2 is not a public key without options')
  expect(() => peopleKeys({ authorizedKeys: ['/nowhere'] })).toThrow('/nowhere: it is not a file')
  mkdirSync(`${file}-folder`)
  expect(() => peopleKeys({ authorizedKeys: [`${file}-folder`] })).toThrow('it is not a file')
})

test('the comment of a key reaches the guest as text', () => {
  expect(keysScript([`${KEY} $(id) 'x'`])).toContain(`printf '%s\\n' '${KEY} $(id) '\\''x'\\'' agent-swarm-person' >>`)
})

test('where the keys cannot be written, those of the machine stay', () => {
  const home = folder()
  const file = join(home, '.ssh/authorized_keys')
  mkdirSync(join(home, '.ssh'))
  writeFileSync(file, `${KEY} home\n${KEY} alice agent-swarm-person\n`)
  const before = readFileSync(file, 'utf8')
  const script = (limit: string) =>
    spawnSync('sh', ['-c', `${limit}\n${keysScript([])}`], { env: { ...process.env, HOME: home } })
  expect(script('ulimit -f 0').status).not.toBe(0)
  expect(readFileSync(file, 'utf8')).toBe(before)
  expect(script('').status).toBe(0)
  expect(readFileSync(file, 'utf8')).toBe(`${KEY} home\n`)
})

test('a ticket that another host, or this one, has already is not taken over', () => {
  const made = folder()
  const machines = parseViaMachines(JSON.stringify([machine()]))
  for (const { run } of planViaInstall(made, 'studio', machines).steps) run()
  expect(() => planViaInstall(made, 'attic', machines)).toThrow('DROP-1')
  expect(planViaInstall(made, 'studio', machines).steps).toEqual([])
  expect(
    planViaInstall(made, 'attic', parseViaMachines(JSON.stringify([machine({ ticket: 'DROP-2' })]))).steps,
  ).not.toEqual([])
})

test('two hosts whose files have one name, and keys of somebody else, are told apart', () => {
  const made = folder()
  for (const { run } of planViaInstall(made, 'alice@studio', []).steps) run()
  expect(() => planViaInstall(made, 'alice_studio', [])).toThrow('for alice_studio')
  expect(() => planViaUninstall(made, 'alice_studio')).toThrow('for alice_studio')
  writeFileSync(join(made, 'agent-swarm-attic.known_hosts'), 'mine\n')
  expect(() => planViaInstall(made, 'attic', [])).toThrow('without a file of agent-swarm beside it')
})
