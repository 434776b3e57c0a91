/** What differs on Windows and macOS. The platform is given as a value: none of this was run there. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { providers } from '../providers/index.ts'
import { keepPrivate, makePrivateHome, othersIn } from '../src/access-list.ts'
import { personHome } from '../src/cli/person-ssh.ts'
import { endSignals, showsUnicode } from '../src/cli/terminal/output.ts'
import { checkWindowsHome } from '../src/doctor/home.ts'
import { pick, type Run } from '../src/exec.ts'
import { renameOver } from '../src/files.ts'
import { findHolder } from '../src/free-lock.ts'
import { pathValue } from '../src/runner/ssh/options.ts'
import { includeLine } from '../src/runner/ssh/person-config.ts'
import { systemName } from '../src/system-name.ts'
import { programFile, WINDOWS_VARIABLES } from '../src/windows.ts'

const ROOT = { SystemRoot: 'C:\\Windows' }

test('the ssh of Windows is used where it is installed, also from a copy of the environment', () => {
  const ssh = 'C:\\Windows\\System32\\OpenSSH\\ssh.exe'
  const there = (path: string) => path === ssh
  expect(programFile('ssh', ROOT, 'win32', there)).toBe(ssh)
  expect(programFile('ssh', { SYSTEMROOT: 'C:\\Windows' }, 'win32', there)).toBe(ssh)
  expect(programFile('ssh-keygen', ROOT, 'win32', there)).toBe('ssh-keygen')
  expect(programFile('git', ROOT, 'win32', () => true)).toBe('git')
  expect(programFile('ssh', {}, 'win32', () => true)).toBe('ssh')
  for (const platform of ['linux', 'darwin'] as const) expect(programFile('ssh', ROOT, platform, there)).toBe('ssh')
})

test.each([
  ['whoami', 'System32\\whoami.exe'],
  ['icacls', 'System32\\icacls.exe'],
  ['schtasks', 'System32\\schtasks.exe'],
  ['powershell.exe', 'System32\\WindowsPowerShell\\v1.0\\powershell.exe'],
])('%s is that of Windows, also where Git or the current folder has one', (program, path) => {
  expect(programFile(program, ROOT, 'win32', () => true)).toBe(`C:\\Windows\\${path}`)
  expect(programFile(program, ROOT, 'win32', () => false)).toBe(program)
  expect(programFile(program, ROOT, 'linux', () => true)).toBe(program)
})

test('programs on Windows see what they need to start, and no PSModulePath', () => {
  const environment = {
    Path: 'C:\\x',
    PSModulePath: 'C:\\7',
    USERPROFILE: 'C:\\Users\\a',
    TEMP: 'C:\\t',
    GITHUB_TOKEN: 'x',
  }
  // Without the last one, execa looks in the current folder before PATH.
  expect(pick(environment, [], 'win32')).toEqual({
    ...{ PATH: 'C:\\x', USERPROFILE: 'C:\\Users\\a', TEMP: 'C:\\t', NoDefaultCurrentDirectoryInExePath: '1' },
  })
  expect(pick(environment, [], 'linux')).toEqual({})
})

/** A rename that fails `times` times. */
const renameFailing = (times: number, code: string) => {
  const calls: string[] = []
  const rename = (from: unknown, to: unknown) => {
    calls.push(`${from} ${to}`)
    if (calls.length <= times) throw Object.assign(new Error(code), { code })
  }
  return { calls, rename }
}
test.for([
  ['win32', 3, 'EPERM', 4, null],
  ['win32', 3, 'EBUSY', 4, null],
  ['win32', 3, 'ENOSPC', 1, 'ENOSPC'],
  ['win32', 99, 'EACCES', 9, 'EACCES'],
  ['linux', 1, 'EPERM', 1, 'EPERM'],
  ['darwin', 1, 'EBUSY', 1, 'EBUSY'],
] as const)(
  'on %s, a rename that fails %i times with %s is tried %i times',
  ([platform, times, code, tries, error]) => {
    const { calls, rename } = renameFailing(times, code)
    const waits: number[] = []
    const work = () => renameOver('a', 'b', { platform, rename, wait: milliseconds => void waits.push(milliseconds) })
    if (error === null) work()
    else expect(work).toThrow(error)
    expect(calls).toEqual(Array(tries).fill('a b'))
    expect(waits).toHaveLength(tries - 1)
  },
)

test('paths for ssh have slashes on Windows, and their backslashes elsewhere', () => {
  const path = 'C:\\Users\\a b\\.agent-swarm\\100%'
  expect(pathValue(path, 'win32')).toBe('"C:/Users/a b/.agent-swarm/100%%"')
  expect(pathValue('/a\\b', 'linux')).toBe('"/a\\\\b"')
  expect(includeLine('C:\\Users\\a\\.ssh\\agent-swarm.config', 'win32')).toBe(
    'Include "C:/Users/a/.ssh/agent-swarm.config"',
  )
  expect(() => includeLine('/a\\b/agent-swarm.config', 'linux')).toThrow('ssh cannot include')
})

test('HOME of another world does not say where ssh of Windows looks', () => {
  expect(personHome({ HOME: '/c/Users/a' }, 'win32')).not.toBe('/c/Users/a')
  expect(personHome({ HOME: '/Users/a' }, 'darwin')).toBe('/Users/a')
})

test('a folder with keys is taken from other users of Windows by ids, and left to its mode elsewhere', async () => {
  const calls: string[][] = []
  const run: Run = async (program, argv) => {
    calls.push([program, ...argv])
    return { stdout: '"studio\\alice","S-1-5-21-1-2-3-1001"\r\n', stderr: '', exitCode: 0, milliseconds: 0 }
  }
  for (const platform of ['linux', 'darwin'] as const) await keepPrivate(run, '/x', platform)
  expect(calls).toEqual([])
  await keepPrivate(run, 'C:\\x', 'win32')
  expect(calls).toEqual([
    ['whoami', '/user', '/fo', 'csv', '/nh'],
    [
      'icacls',
      'C:\\x',
      '/inheritance:r',
      '/grant:r',
      ...['*S-1-5-21-1-2-3-1001', '*S-1-5-18', '*S-1-5-32-544'].map(who => `${who}:(OI)(CI)F`),
    ],
  ])
  const nameless: Run = async () => ({ stdout: 'ERROR', stderr: '', exitCode: 0, milliseconds: 0 })
  await expect(keepPrivate(nameless, 'C:\\x', 'win32')).rejects.toThrow('whoami names no id of this user')
})

const SELF = 'S-1-5-21-1-2-3-1001'
test.for([
  [
    'this user, the system and administrators',
    `O:BAG:SYD:PAI(A;OICI;FA;;;${SELF})(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)`,
    [],
  ],
  ['by their ids', `D:(A;;FA;;;${SELF})(A;;FA;;;S-1-5-18)(A;;FA;;;S-1-5-32-544)(A;;0x1200a9;;;S-1-5-83-0)`, []],
  [
    'Hyper-V is let in, who is denied is not',
    `D:(A;;FA;;;${SELF})(D;;FA;;;WD)(A;;FA;;;S-1-5-83-1-2)S:(AU;;FA;;;BU)`,
    [],
  ],
  ['a folder of C:', 'D:AI(A;OICIID;FA;;;BA)(A;OICIID;0x1200a9;;;BU)(A;ID;0x1301bf;;;AU)', ['BU', 'AU']],
  ['another user', `D:(A;;FA;;;${SELF})(A;;FR;;;S-1-5-21-1-2-3-1002)`, ['S-1-5-21-1-2-3-1002']],
  ['no list', 'O:BAG:SYD:NO_ACCESS_CONTROL', ['everybody']],
  ['no answer', '', ['everybody']],
] as const)('who may read a folder of Windows: %s', ([, sddl, expected]) =>
  expect(othersIn(sddl, SELF)).toEqual(expected),
)

/** Windows with `whoami`, and a folder with this access list. */
const windows = (sddl: string) => {
  const calls: string[] = []
  const run: Run = async (program, argv, { env = {} } = {}) => {
    calls.push([program, ...argv, ...Object.values(env)].join(' '))
    const stdout = program === 'whoami' ? `"studio\\alice","${SELF}"\r\n` : sddl
    return { stdout, stderr: '', exitCode: 0, milliseconds: 0 }
  }
  return { calls, run }
}

test('doctor reads who may read the home, and its remedy runs in both shells and in each language', async () => {
  const own = windows(`D:P(A;OICI;FA;;;${SELF})(A;OICI;FA;;;SY)\r\n`)
  expect(await checkWindowsHome(own.run, 'D:\\swarm')).toMatchObject({ status: 'ok' })
  expect(own.calls[1]).toMatch(/^powershell\.exe .*Get-Acl.* D:\\swarm$/)
  const { remedy, status } = await checkWindowsHome(windows('D:AI(A;OICIID;FA;;;BU)').run, 'D:\\my swarm')
  expect([status, remedy]).toEqual([
    'warning',
    `icacls "D:\\my swarm" /inheritance:r /grant:r "*${SELF}:(OI)(CI)F" "*S-1-5-18:(OI)(CI)F" "*S-1-5-32-544:(OI)(CI)F"`,
  ])
})

test('a home outside of the profile is closed for others when it is made, or not made', async () => {
  const root = mkdtempSync(join(tmpdir(), 'windows-home-'))
  try {
    const { run, calls } = windows('')
    const [home, profile] = [join(root, 'new', 'home'), join(root, 'profile')]
    await makePrivateHome(run, home, { platform: 'linux', profile })
    await makePrivateHome(run, `${root}\\x`, { platform: 'win32', profile: root })
    expect(calls).toEqual([])
    const failing: Run = (program, ...more) =>
      program === 'icacls' ? Promise.reject(new Error('FAT has no lists')) : run(program, ...more)
    await expect(makePrivateHome(failing, home, { platform: 'win32', profile })).rejects.toThrow('FAT')
    expect(existsSync(home)).toBe(false)
    await makePrivateHome(run, home, { platform: 'win32', profile })
    expect(calls.at(-1)).toBe(
      `icacls ${home} /inheritance:r /grant:r *${SELF}:(OI)(CI)F *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F`,
    )
    const before = calls.length
    await makePrivateHome(run, home, { platform: 'win32', profile })
    expect([existsSync(home), calls.length]).toEqual([true, before])
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
})

test('no provider names what programs of Windows get anyway', () => {
  const named = providers.flatMap(({ environment }) => environment)
  expect(named.filter(name => WINDOWS_VARIABLES.includes(name))).toEqual([])
})

test('what ends a command: Windows has no SIGTERM', () => {
  expect(endSignals('win32')).toEqual(['SIGINT', 'SIGBREAK', 'SIGHUP'])
  expect([endSignals('darwin'), endSignals('linux')]).toEqual(Array(2).fill(['SIGINT', 'SIGTERM']))
})

test.for([
  ['win32', { WT_SESSION: 'x' }, true],
  ['win32', { TERM_PROGRAM: 'vscode' }, true],
  ['win32', {}, false],
  ['win32', { WT_SESSION: 'x', TERM: 'dumb' }, false],
  ['darwin', { LANG: 'de_DE.UTF-8' }, true],
  ['darwin', { WT_SESSION: 'x' }, false],
] as const)('on %s with %j, more than ASCII is shown: %s', ([platform, env, expected]) =>
  expect(showsUnicode({ platform, env })).toBe(expected),
)

test('the system is named on each platform', () => {
  const files: Record<string, string> = {
    '/etc/os-release': 'NAME=x\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    '/System/Library/CoreServices/SystemVersion.plist': '<key>ProductVersion</key>\n\t<string>15.1</string>',
  }
  const host = (platform: NodeJS.Platform) => ({
    platform,
    read: (path: string) => files[path] ?? '',
    version: () => 'Windows 11 Pro',
  })
  expect((['linux', 'darwin', 'win32'] as const).map(platform => systemName(host(platform)))).toEqual([
    ...['Debian GNU/Linux 12 (bookworm)', 'macOS 15.1', 'Windows 11 Pro'],
  ])
  expect(systemName({ platform: 'darwin', read: () => '', version: () => '' })).toBeNull()
})

test('how to find who holds a file', () => {
  expect(findHolder('/a b', 'linux')).toContain("fuser '/a b'")
  expect(findHolder('/a', 'darwin')).toContain('lsof /a')
  expect(findHolder('C:\\a', 'win32')).toContain('Task Manager')
})
