/** What becomes of a person's `.ssh`, byte by byte, and what OpenSSH makes of it. */
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
import {
  hostsText,
  installSshConfig,
  refreshSshConfig,
  uninstallSshConfig,
} from '../../../src/runner/ssh/config-file.ts'
import { sshArguments } from '../../../src/runner/ssh/guest.ts'
import { knownMachine } from '../../support/context.ts'

let place: string
let folder: string
let config: string
let kept: string
let world: { home: string; registry: Registry }
const opened: Registry[] = []
const homeCalled = (name: string) => {
  const home = join(place, name)
  const registry = openRegistry(join(home, 'registry.db'))
  opened.push(registry)
  return { home, registry }
}
beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), 'agent-swarm ssh-'))
  folder = join(place, '.ssh')
  config = join(folder, 'config')
  kept = join(folder, 'agent-swarm.config')
  world = homeCalled('state')
})
afterEach(() => {
  for (const registry of opened.splice(0)) registry.close()
  rmSync(place, { recursive: true, force: true })
})

const install = (dryRun = false) => installSshConfig(world, { folder, dryRun }).steps.map(step => step.says)
const uninstall = (dryRun = false) => uninstallSshConfig(world, { folder, dryRun }).steps.map(step => step.says)

/** Every entry of a folder with mode, owner and what it holds. Names as bytes: not all of them are text. */
const fingerprint = (path: string): Record<string, string> => {
  const below = (path: Buffer): [string, string][] => {
    const stat = lstatSync(path)
    const sha256 = () => createHash('sha256').update(readFileSync(path)).digest('hex')
    const holds = stat.isSymbolicLink() ? readlinkSync(path) : stat.isDirectory() ? 'folder' : sha256()
    const entries = stat.isDirectory() ? readdirSync(path, { encoding: 'buffer' }) : []
    return [
      [path.toString('latin1'), `${stat.mode.toString(8)} ${stat.uid} ${stat.gid} ${holds}`],
      ...entries.flatMap(name => below(Buffer.concat([path, Buffer.from('/'), name]))),
    ]
  }
  return Object.fromEntries(below(Buffer.from(path)))
}

/** A `.ssh` as somebody may have it, names and all. */
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

/** What ssh itself says that it would do. */
const ssh = (...words: string[]): string[] =>
  execFileSync('ssh', ['-G', ...words], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).split('\n')
const hostName = (host: string, file = config) =>
  ssh('-F', file, host)
    .find(line => line.startsWith('hostname '))
    ?.slice(9)
/** All but what the host is called. */
const settings = (lines: string[]) => lines.filter(line => !/^(host|hostname) /.test(line))

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
`

describe('a host', () => {
  test('is held to what agent-swarm ssh is held to, whatever else is configured and however the home is called', () => {
    const home = join(place, 'a home, 100% of "mine"\\')
    const at = { host: '192.0.2.7', port: 2222, user: 'agent' }
    const one = {
      ticket: 'DROP-2100',
      provider: 'kvm',
      vmId: 'as-drop-2100-00000001',
      status: 'running',
      ssh: at,
    } as const
    const file = join(place, 'printed')
    writeFileSync(file, hostsText(home, [one]) + LAX)
    const promised = settings(ssh(...sshArguments(home, one.vmId, at), '--', at.host))
    expect(promised).toContain(`userknownhostsfile ${join(home, 'ssh', `${one.vmId}.known_hosts`)}`)
    expect(promised).toContain('stricthostkeychecking true')
    for (const name of ['DROP-2100', 'drop-2100']) {
      expect(settings(ssh('-F', file, name))).toEqual(promised)
      expect(hostName(name, file)).toBe(at.host)
    }
    // The comparison can fail: another host gets what is said for all.
    expect(ssh('-F', file, 'DROP-21')).toContain('stricthostkeychecking false')
  })

  test('is each machine that runs; the others are named with the reason', () => {
    const one = { provider: 'kvm', vmId: 'as-drop-1-00000001', ssh: null } as const
    const at = { host: '192.0.2.7', port: 22, user: 'agent' }
    const lines = hostsText(place, [
      { ...one, ticket: 'DROP-1', status: 'running', provider: 'synthetic' },
      { ...one, ticket: 'DROP-2', status: 'running', ssh: at },
      { ...one, ticket: 'DROP-3', status: 'stopped' },
      { ...one, ticket: 'DROP-4', status: 'creating', ssh: at },
      { ...one, ticket: 'DROP-5', status: 'deleting', ssh: at },
      { ...one, ticket: 'DROP-6', status: 'failed' },
      { ...one, ticket: 'DROP-7', status: 'lost' },
    ]).split('\n')
    expect(lines.filter(line => /^(Host|#)/.test(line))).toEqual([
      '# DROP-1 runs on synthetic and has no SSH address',
      'Host DROP-2 drop-2',
      '# DROP-3 is stopped; to start it: agent-swarm start DROP-3',
      '# DROP-4 is being made',
      '# DROP-5 is being deleted',
      '# DROP-6 could not be made; to make it anew: agent-swarm create DROP-6',
      '# DROP-7 has lost its machine; to make a new one: agent-swarm create DROP-7',
    ])
  })

  test.for([
    { host: '192.0.2.1\nProxyCommand reboot', port: 22, user: 'agent' },
    { host: '-oProxyCommand=reboot', port: 22, user: 'agent' },
    { host: '192.0.2.1', port: 22, user: 'agent\n  ProxyCommand reboot' },
    { host: '192.0.2.1', port: 22, user: '-l' },
  ])('is none with an address or a user that is no such thing: %j', at => {
    knownMachine(world.registry, 'DROP-1', at.host)
    world.registry.setAddress('DROP-1', at)
    expect(() => install()).toThrow(/is no (address|user)/)
    expect(existsSync(folder)).toBe(false)
  })
})

describe('install and uninstall', () => {
  test.for<[string, string | Buffer]>([
    ['an empty configuration', ''],
    ['one without a final newline', 'ServerAliveInterval 7\nHost web\n  User me'],
    ['one of Windows', 'ServerAliveInterval 7\r\nHost web\r\n  User me\r\n'],
    ['one that is no UTF-8', Buffer.from('# Sch\xf6ne Gr\xfc\xdfe \xff\xfe\nHost web\n  User me\n', 'latin1')],
    [
      'one that includes others',
      'Include config.d/*\nInclude "/nowhere/agent-swarm.config"\n\n\nHost *\n  User me\n\n',
    ],
    ['one that includes ours for some hosts alone', 'Host web\n  Include agent-swarm.config\n'],
  ])('%s: the hosts are there, and afterwards everything is as it was', ([, text]) => {
    knownMachine(world.registry, 'DROP-2100', '192.0.2.7')
    const before = prepare(text)
    const web = ssh('-F', config, 'web')
    install()
    expect(hostName('DROP-2100')).toBe('192.0.2.7')
    expect(hostName('drop-2100')).toBe('192.0.2.7')
    expect(ssh('-F', config, 'web')).toEqual(web)
    expect(statSync(kept).mode & 0o777).toBe(0o600)
    const installed = fingerprint(folder)
    expect(Object.keys(installed)).toEqual(expect.arrayContaining(Object.keys(before)))
    expect(install()).toEqual([])
    expect(fingerprint(folder)).toEqual(installed)
    uninstall()
    expect(fingerprint(folder)).toEqual(before)
    expect(uninstall()).toEqual([])
  })

  test('where there is nothing, folder and files are the person’s alone, and gone afterwards', () => {
    install()
    const modes = [folder, config, kept].map(path => statSync(path).mode & 0o777)
    expect(modes).toEqual([0o700, 0o600, 0o600])
    uninstall()
    expect(existsSync(folder)).toBe(false)
  })

  test('an include that the person wrote is neither doubled nor taken away', () => {
    const forms = [`Include "${kept}"`, 'include = ~/.ssh/agent-swarm.config', 'Include config.d/* agent-swarm.config']
    for (const line of forms) {
      const before = prepare(`# mine\n${line}\nHost web\n  User me\n`)
      install()
      expect(fingerprint(folder)).toMatchObject(before)
      uninstall()
      expect(fingerprint(folder)).toEqual(before)
      rmSync(folder, { recursive: true })
    }
  })

  test('what was written meanwhile stays', () => {
    install()
    writeFileSync(config, `# first\n${readFileSync(config, 'utf8')}Host web\n`)
    writeFileSync(join(folder, 'known_hosts'), 'web')
    uninstall()
    expect(readFileSync(config, 'utf8')).toBe('# first\nHost web\n')
    expect(readdirSync(folder).sort()).toEqual(['config', 'known_hosts'])
  })

  test('a registry that was lost between them is no hindrance', () => {
    const before = prepare('Host web\n')
    install()
    world.registry.setSshConfig(null)
    uninstall()
    expect(fingerprint(folder)).toEqual(before)
  })

  const linked = (text: string) => {
    const dotfiles = join(place, 'dotfiles')
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
    expect(readFileSync(join(dotfiles, 'ssh_config'), 'utf8')).toBe(`Include "${kept}"\nHost web\n`)
    uninstall()
    expect([fingerprint(folder), fingerprint(dotfiles)]).toEqual(before)
  })

  // Root may write everywhere.
  test.skipIf(process.getuid?.() === 0)('where nothing can be made beside it, it is written in place', () => {
    const dotfiles = linked('Host web\n')
    chmodSync(dotfiles, 0o500)
    install()
    expect(readFileSync(config, 'utf8')).toBe(`Include "${kept}"\nHost web\n`)
    uninstall()
    expect(readFileSync(config, 'utf8')).toBe('Host web\n')
    chmodSync(dotfiles, 0o700)
  })

  test('a configuration that is no file is refused', () => {
    mkdirSync(folder)
    symlinkSync('/nowhere/at-all', config)
    expect(() => install()).toThrow(`${config} is no file`)
    rmSync(config)
    mkdirSync(config)
    expect(() => install()).toThrow(`${config} is no file`)
    expect(readdirSync(folder)).toEqual(['config'])
  })

  test('a file of that name that is not ours is left alone, a link and a folder too', () => {
    mkdirSync(folder)
    const precious = join(place, 'precious')
    writeFileSync(precious, '# mine\n')
    for (const put of [
      () => writeFileSync(kept, 'Host web\n'),
      () => symlinkSync(precious, kept),
      () => mkdirSync(kept),
    ]) {
      put()
      const before = fingerprint(folder)
      expect(() => install()).toThrow(`${kept} is there and was not written by agent-swarm`)
      expect(fingerprint(folder)).toEqual(before)
      rmSync(kept, { recursive: true })
    }
    expect(readFileSync(precious, 'utf8')).toBe('# mine\n')
  })

  test('what a write left that was killed is cleared away', () => {
    const before = prepare('Host web\n')
    for (const path of [kept, config]) writeFileSync(`${path}.agent-swarm-new`, 'half')
    install()
    uninstall()
    expect(fingerprint(folder)).toEqual(before)
  })

  test('a folder that ssh cannot be told to include from is refused, before anything is written', () => {
    folder = join(place, 'a [b] 100%', '.ssh')
    expect(() => install()).toThrow('ssh cannot be told to include')
    expect(existsSync(folder)).toBe(false)
  })

  test('one home at a time: a second one is refused while the first is there', () => {
    install()
    const before = fingerprint(folder)
    const first = world.home
    world = homeCalled('second')
    for (const change of [install, uninstall]) expect(() => change()).toThrow(`another home of agent-swarm, ${first}`)
    expect(fingerprint(folder)).toEqual(before)
    rmSync(first, { recursive: true })
    install()
    expect(readFileSync(kept, 'utf8')).toContain(`for its home ${world.home}\n`)
  })

  test('a dry run tells every step, and takes none', () => {
    const before = prepare('Host web\n')
    expect(install(true)).toEqual([`write ${kept}`, `put one line at the top of ${config}: Include "${kept}"`])
    expect(fingerprint(folder)).toEqual(before)
    install()
    const installed = fingerprint(folder)
    expect(uninstall(true)).toEqual([`take one line out of ${config}: Include "${kept}"`, `remove ${kept}`])
    expect(fingerprint(folder)).toEqual(installed)
  })
})

describe('once installed, the file is kept', () => {
  const hosts = () => [...readFileSync(kept, 'utf8').matchAll(/^(?:Host|# DROP| {2}HostName).*$/gm)].map(String)

  test('what came, what moved, what is gone', () => {
    install()
    expect(hosts()).toEqual([])
    knownMachine(world.registry, 'DROP-2', '192.0.2.2')
    refreshSshConfig(world)
    expect(hosts()).toEqual(['Host DROP-2 drop-2', '  HostName 192.0.2.2'])
    world.registry.setAddress('DROP-2', { host: '192.0.2.3', port: 22, user: 'agent' })
    refreshSshConfig(world)
    expect(hosts()).toEqual(['Host DROP-2 drop-2', '  HostName 192.0.2.3'])
    world.registry.remove('DROP-2')
    refreshSshConfig(world)
    expect(hosts()).toEqual([])
  })

  test('what is as it should be is not written again', () => {
    install()
    const { ino } = statSync(kept)
    refreshSshConfig(world)
    expect(statSync(kept).ino).toBe(ino)
  })

  test('a file that is not ours any more is not overwritten', () => {
    install()
    writeFileSync(kept, '# mine now\n')
    knownMachine(world.registry, 'DROP-2', '192.0.2.2')
    expect(() => refreshSshConfig(world)).toThrow('was not written by agent-swarm')
    expect(readFileSync(kept, 'utf8')).toBe('# mine now\n')
  })
})
