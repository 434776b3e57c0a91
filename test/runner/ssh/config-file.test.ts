/** What an install does to a person's `.ssh`, byte by byte, and how OpenSSH reads the result. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openRegistry, type Registry } from '../../../src/registry/registry.ts'
import { installSshConfig, refreshSshConfig, uninstallSshConfig } from '../../../src/runner/ssh/config-file.ts'
import { knownMachine } from '../../support/context.ts'

let root: string
let folder: string
let config: string
let ours: string
let context: { home: string; registry: Registry }
const opened: Registry[] = []
const openHome = (name: string) => {
  const home = join(root, name)
  const registry = openRegistry(join(home, 'registry.db'))
  opened.push(registry)
  return { home, registry }
}
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'agent-swarm ssh-'))
  folder = join(root, '.ssh')
  config = join(folder, 'config')
  ours = join(folder, 'agent-swarm.config')
  context = openHome('state')
})
afterEach(() => {
  for (const registry of opened.splice(0)) registry.close()
  rmSync(root, { recursive: true, force: true })
})

const install = (dryRun = false) => installSshConfig(context, { folder, dryRun }).steps.map(step => step.description)
const uninstall = (dryRun = false) =>
  uninstallSshConfig(context, { folder, dryRun }).steps.map(step => step.description)

/** Every entry of a folder with its mode, owner and content. Names are bytes: not all of them are text. */
const fingerprint = (path: string): Record<string, string> => {
  const below = (path: Buffer): [string, string][] => {
    const stat = lstatSync(path)
    const sha256 = () => createHash('sha256').update(readFileSync(path)).digest('hex')
    const content = stat.isSymbolicLink() ? readlinkSync(path) : stat.isDirectory() ? 'folder' : sha256()
    const entries = stat.isDirectory() ? readdirSync(path, { encoding: 'buffer' }) : []
    return [
      [path.toString('latin1'), `${stat.mode.toString(8)} ${stat.uid} ${stat.gid} ${content}`],
      ...entries.flatMap(name => below(Buffer.concat([path, Buffer.from('/'), name]))),
    ]
  }
  return Object.fromEntries(below(Buffer.from(path)))
}

/** A `.ssh` that somebody may have, with difficult file names. */
const prepare = (text: string | Buffer): Record<string, string> => {
  mkdirSync(join(folder, 'config.d'), { recursive: true, mode: 0o755 })
  writeFileSync(config, text, { mode: 0o640 })
  writeFileSync(join(folder, 'id_ed25519'), 'a secret', { mode: 0o400 })
  const names = [
    '-F',
    '*',
    '$(reboot)',
    'a\nb',
    "it's",
    'config~',
    'config.bak',
    'agent-swarm.config.bak',
    '.agent-swarm',
  ]
  for (const name of names) writeFileSync(join(folder, name), name)
  writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), Buffer.from([0xff, 0xfe, 0x20])]), 'no text')
  symlinkSync('/nowhere', join(folder, 'dangling'))
  return fingerprint(folder)
}

/** The options that ssh itself would use. */
const ssh = (...words: string[]): string[] =>
  execFileSync('ssh', ['-G', ...words], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split('\n')
const hostName = (host: string, file = config) =>
  ssh('-F', file, host)
    .find(line => line.startsWith('hostname '))
    ?.slice(9)

describe('install and uninstall', () => {
  test.for<[string, string | Buffer]>([
    ['an empty configuration', ''],
    ['a configuration without a final newline', 'ServerAliveInterval 7\nHost web\n  User me'],
    ['a configuration with line ends of Windows', 'ServerAliveInterval 7\r\nHost web\r\n  User me\r\n'],
    [
      'a configuration that is not UTF-8',
      Buffer.from('# Sch\xf6ne Gr\xfc\xdfe \xff\xfe\nHost web\n  User me\n', 'latin1'),
    ],
    [
      'a configuration that includes other files',
      'Include config.d/*\nInclude "/nowhere/agent-swarm.config"\n\n\nHost *\n  User me\n\n',
    ],
    ['a configuration that includes our file for some hosts only', 'Host web\n  Include agent-swarm.config\n'],
  ])('%s: an install adds the hosts, and an uninstall restores every byte', ([, text]) => {
    knownMachine(context.registry, 'DROP-2100', '192.0.2.7')
    const before = prepare(text)
    const web = ssh('-F', config, 'web')
    install()
    expect(hostName('DROP-2100')).toBe('192.0.2.7')
    expect(hostName('drop-2100')).toBe('192.0.2.7')
    expect(ssh('-F', config, 'web')).toEqual(web)
    expect(statSync(ours).mode & 0o777).toBe(0o600)
    const installed = fingerprint(folder)
    expect(Object.keys(installed)).toEqual(expect.arrayContaining(Object.keys(before)))
    expect(install()).toEqual([])
    expect(fingerprint(folder)).toEqual(installed)
    uninstall()
    expect(fingerprint(folder)).toEqual(before)
    expect(uninstall()).toEqual([])
  })

  test('without a .ssh, the install makes private files, and the uninstall removes them', () => {
    install()
    const modes = [folder, config, ours].map(path => statSync(path).mode & 0o777)
    expect(modes).toEqual([0o700, 0o600, 0o600])
    uninstall()
    expect(existsSync(folder)).toBe(false)
  })

  test('an include that the person wrote is neither repeated nor removed', () => {
    const forms = [`Include "${ours}"`, 'include = ~/.ssh/agent-swarm.config', 'Include config.d/* agent-swarm.config']
    for (const line of forms) {
      const before = prepare(`# mine\n${line}\nHost web\n  User me\n`)
      install()
      expect(fingerprint(folder)).toMatchObject(before)
      uninstall()
      expect(fingerprint(folder)).toEqual(before)
      rmSync(folder, { recursive: true })
    }
  })

  test('an uninstall keeps what was written after the install', () => {
    install()
    writeFileSync(config, `# first\n${readFileSync(config, 'utf8')}Host web\n`)
    writeFileSync(join(folder, 'known_hosts'), 'web')
    uninstall()
    expect(readFileSync(config, 'utf8')).toBe('# first\nHost web\n')
    expect(readdirSync(folder).sort()).toEqual(['config', 'known_hosts'])
  })

  test('an uninstall works after the registry was lost', () => {
    const before = prepare('Host web\n')
    install()
    context.registry.setSshConfig(null)
    uninstall()
    expect(fingerprint(folder)).toEqual(before)
  })

  const linked = (text: string) => {
    const dotfiles = join(root, 'dotfiles')
    mkdirSync(dotfiles)
    mkdirSync(folder)
    writeFileSync(join(dotfiles, 'ssh_config'), text, { mode: 0o644 })
    symlinkSync('../dotfiles/ssh_config', config)
    return dotfiles
  }

  test('a link into a folder of dotfiles is followed, and stays a link', () => {
    const dotfiles = linked('Host web\n')
    const before = [fingerprint(folder), fingerprint(dotfiles)]
    install()
    expect(readlinkSync(config)).toBe('../dotfiles/ssh_config')
    expect(readFileSync(join(dotfiles, 'ssh_config'), 'utf8')).toBe(`Include "${ours}"\nHost web\n`)
    uninstall()
    expect([fingerprint(folder), fingerprint(dotfiles)]).toEqual(before)
  })

  // Root may write everywhere.
  test.skipIf(process.getuid?.() === 0)('a configuration in a read-only folder is written in place', () => {
    const dotfiles = linked('Host web\n')
    chmodSync(dotfiles, 0o500)
    install()
    expect(readFileSync(config, 'utf8')).toBe(`Include "${ours}"\nHost web\n`)
    uninstall()
    expect(readFileSync(config, 'utf8')).toBe('Host web\n')
    chmodSync(dotfiles, 0o700)
  })

  test('a configuration that is not a file is refused', () => {
    mkdirSync(folder)
    symlinkSync('/nowhere/at-all', config)
    expect(() => install()).toThrow(`${config} is not a file`)
    rmSync(config)
    mkdirSync(config)
    expect(() => install()).toThrow(`${config} is not a file`)
    expect(readdirSync(folder)).toEqual(['config'])
  })

  test('a file, link or folder of somebody else under the name of our file is not touched', () => {
    mkdirSync(folder)
    const precious = join(root, 'precious')
    writeFileSync(precious, '# mine\n')
    for (const put of [
      () => writeFileSync(ours, 'Host web\n'),
      () => symlinkSync(precious, ours),
      () => mkdirSync(ours),
    ]) {
      put()
      const before = fingerprint(folder)
      expect(() => install()).toThrow(`${ours} exists and was not written by agent-swarm`)
      expect(fingerprint(folder)).toEqual(before)
      rmSync(ours, { recursive: true })
    }
    expect(readFileSync(precious, 'utf8')).toBe('# mine\n')
  })

  test('leftovers of a killed write are removed', () => {
    const before = prepare('Host web\n')
    // No process has this id: it is above the largest one of Linux (2^22).
    for (const path of [ours, config]) writeFileSync(`${path}.4194305.new`, 'half')
    install()
    uninstall()
    expect(fingerprint(folder)).toEqual(before)
  })

  test('a folder that ssh cannot include from is refused before anything is written', () => {
    folder = join(root, 'a [b] 100%', '.ssh')
    expect(() => install()).toThrow('ssh cannot include a file from the folder')
    expect(existsSync(folder)).toBe(false)
  })

  test('a machine with an invalid address stops the install before anything is written', () => {
    knownMachine(context.registry, 'DROP-1', '192.0.2.1')
    context.registry.setAddress('DROP-1', { host: '-oProxyCommand=reboot', port: 22, user: 'agent' })
    expect(() => install()).toThrow('is not an IP address')
    expect(existsSync(folder)).toBe(false)
  })

  test('a second home is refused while the first one exists', () => {
    install()
    const before = fingerprint(folder)
    const first = context.home
    context = openHome('second')
    for (const change of [install, uninstall]) expect(() => change()).toThrow(`another home of agent-swarm, ${first}`)
    expect(fingerprint(folder)).toEqual(before)
    rmSync(first, { recursive: true })
    install()
    expect(readFileSync(ours, 'utf8')).toContain(`for its home ${context.home}\n`)
  })

  test('a dry run lists every step and changes nothing', () => {
    const before = prepare('Host web\n')
    expect(install(true)).toEqual([`write ${ours}`, `add one line at the top of ${config}: Include "${ours}"`])
    expect(fingerprint(folder)).toEqual(before)
    install()
    const installed = fingerprint(folder)
    expect(uninstall(true)).toEqual([`remove one line from ${config}: Include "${ours}"`, `remove ${ours}`])
    expect(fingerprint(folder)).toEqual(installed)
  })
})

describe('once installed, the file follows the registry', () => {
  const hosts = () => [...readFileSync(ours, 'utf8').matchAll(/^(?:Host|# DROP| {2}HostName).*$/gm)].map(String)

  test('new, changed and removed machines', () => {
    install()
    expect(hosts()).toEqual([])
    knownMachine(context.registry, 'DROP-2', '192.0.2.2')
    refreshSshConfig(context)
    expect(hosts()).toEqual(['Host DROP-2 drop-2', '  HostName 192.0.2.2'])
    context.registry.setAddress('DROP-2', { host: '192.0.2.3', port: 22, user: 'agent' })
    refreshSshConfig(context)
    expect(hosts()).toEqual(['Host DROP-2 drop-2', '  HostName 192.0.2.3'])
    context.registry.remove('DROP-2')
    refreshSshConfig(context)
    expect(hosts()).toEqual([])
  })

  test('an unchanged file is not written again', () => {
    install()
    const { ino } = statSync(ours)
    refreshSshConfig(context)
    expect(statSync(ours).ino).toBe(ino)
  })

  test('a file that somebody replaced is not overwritten', () => {
    install()
    writeFileSync(ours, '# mine now\n')
    knownMachine(context.registry, 'DROP-2', '192.0.2.2')
    expect(() => refreshSshConfig(context)).toThrow('was not written by agent-swarm')
    expect(readFileSync(ours, 'utf8')).toBe('# mine now\n')
  })
})
