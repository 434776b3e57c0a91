/** Installing, looking at and removing services: on Linux through the command line, elsewhere with the systems' own programs. */
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { openRun } from '../../src/exec.ts'
import { install as installAndWait, look, planInstall, uninstall } from '../../src/service/install.ts'
import { openService } from '../../src/service/open.ts'
import type { Host, ServiceSystem } from '../../src/service/system.ts'
import { openCli } from '../support/cli.ts'
import { openServiceSystems } from '../support/service-systems.ts'

let cli: ReturnType<typeof openCli>
let systems: ReturnType<typeof openServiceSystems>
beforeEach(() => {
  cli = openCli()
  systems = openServiceSystems()
})
afterEach(() => {
  cli.close()
  systems.close()
})

const CONFIG = `githubToken: ghp_0123456789abcdef0123456789abcdef0123
githubRepositories: [acme/shop]
jiraProjects: [DROP]
port: 0
`
const configure = (text = CONFIG) => {
  const home = join(cli.home, 'state')
  mkdirSync(home, { recursive: true, mode: 0o700 })
  writeFileSync(join(home, 'config.yaml'), text, { mode: 0o600 })
}
/** Without the moment in which a program that cannot work ends. */
const install = (system: ServiceSystem) => installAndWait(system, 0)
/** The calls that were no looks. */
const changes = () => systems.calls().filter(line => !/ (?:show|print|\/Query) /.test(line))
const unit = () => join(cli.home, '.config/systemd/user/agent-swarm-up.service')
const environment = () => ({ PATH: `${systems.bin}:${process.env.PATH}`, AGENT_SWARM_PROVIDER: undefined })
const swarm = (words: string[], more: Record<string, string> = {}) => cli.swarm(words, { ...environment(), ...more })

const hostOn = (platform: NodeJS.Platform): Host => {
  const env = { PATH: `${systems.bin}:${process.env.PATH}`, HOME: cli.home, AGENT_SWARM_HOME: join(cli.home, 'state') }
  return { platform, run: openRun(env), environment: env, root: systems.root }
}
const OWN = { name: 'up', system: false, user: null, home: null } as const
const openOn = (platform: NodeJS.Platform): Promise<ServiceSystem> => openService(hostOn(platform), OWN)

describe('on Linux', () => {
  test('install writes the unit and starts it, and again changes nothing', async () => {
    configure()
    const ran = await swarm(['service', 'install'])
    expect(ran).toMatchObject({ code: 0, stdout: `Installed ${unit()}; agent-swarm up runs.\n` })
    expect(statSync(unit()).mode & 0o777).toBe(0o644)
    expect(readFileSync(unit(), 'utf8')).not.toContain('ghp_')
    expect(changes()).toEqual([
      expect.stringMatching(/^loginctl enable-linger \S+$/),
      'systemctl --user daemon-reload',
      'systemctl --user enable agent-swarm-up.service',
      'systemctl --user restart agent-swarm-up.service',
    ])
    const system = await openOn('linux')
    expect(await look(system)).toMatchObject({ installed: true, current: true, survivesLogout: true, notes: [] })
    systems.calls()
    expect(await install(system)).toEqual({ result: 'skipped', running: true, notes: [] })
    expect(systems.calls()).toEqual([expect.stringContaining('systemctl --user show agent-swarm-up.service')])
    // One that was stopped by hand is started.
    rmSync(systems.file('running'))
    expect(await install(system)).toMatchObject({ result: 'done' })
  })

  test('after a change of config.yaml, an install starts it again, once', async () => {
    configure()
    const system = await openOn('linux')
    await install(system)
    const later = new Date(Date.now() + 60_000)
    utimesSync(join(cli.home, 'state/config.yaml'), later, later)
    changes()
    expect(await install(system)).toEqual({ result: 'restarted', running: true, notes: [] })
    expect(changes()).toEqual(['systemctl --user restart agent-swarm-up.service'])
    utimesSync(system.file, later, later)
    expect(await install(system)).toMatchObject({ result: 'skipped' })
    expect(await swarm(['service', 'install'])).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('systemctl --user restart agent-swarm-up.service'),
    })
  })

  test('a service that ends at once is not said to run', async () => {
    configure()
    writeFileSync(systems.file('ends-at-once'), '')
    const ran = await swarm(['service', 'install'])
    expect(ran).toMatchObject({ code: 1, stdout: expect.stringContaining('agent-swarm up does not run: see its log.') })
    expect(ran.stderr).toContain('It failed (exit-code)')
  })

  test('install refuses beside another program on its port, and beside another bot of its home', async () => {
    const server = createServer((_, response) => void response.end('{}'))
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void server.close())
    const { port } = server.address() as AddressInfo
    configure(CONFIG.replace('port: 0', `port: ${port}`))
    const inUse = { code: 1, stderr: expect.stringContaining(`another program listens on 127.0.0.1:${port}`) }
    expect(await swarm(['service', 'install'])).toMatchObject(inUse)
    expect(await swarm(['service', 'install', '--dry-run'])).toMatchObject({ ...inUse, code: 0 })
    const door = { url: `http://127.0.0.1:${port}`, token: 'the-token-of-an-operator' }
    writeFileSync(join(cli.home, 'state/operator.json'), JSON.stringify(door), { mode: 0o600 })
    expect(await swarm(['service', 'install'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('a bot runs already with AGENT_SWARM_HOME'),
    })
    expect([changes(), existsSync(unit())]).toEqual([[], false])
    // The service itself has them.
    configure()
    rmSync(join(cli.home, 'state/operator.json'))
    await install(await openOn('linux'))
    configure(CONFIG.replace('port: 0', `port: ${port}`))
    expect(await swarm(['service', 'install'])).toMatchObject({ code: 0 })
  })

  test('variables that the configured hypervisor needs are refused; those of others and of the system are not', async () => {
    configure(`${CONFIG}provider: aws\n`)
    const refused = await swarm(['service', 'install'], { AWS_PROFILE: 'swarm', TEMP: '/tmp', APPDATA: '/tmp' })
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('set here: AWS_PROFILE\n') })
    expect(changes()).toEqual([])
    configure(`${CONFIG}provider: hyperv\n`)
    const others = {
      AWS_PROFILE: 'swarm',
      HTTPS_PROXY: 'http://proxy',
      TEMP: '/tmp',
      USERPROFILE: '/tmp',
      ComSpec: 'x',
    }
    const ran = await cli.swarmOn('win32', ['service', 'install'], { ...environment(), ...others })
    expect(ran.code).toBe(0)
    expect(ran.stderr).not.toContain('does not see')
  })

  test.runIf(process.getuid?.() === 0)(
    'sudo without --system would make a service of root, and is refused',
    async () => {
      const host = hostOn('linux')
      const asRoot = { ...host, environment: { ...host.environment, SUDO_UID: '1000' } }
      await expect(openService(asRoot, OWN)).rejects.toMatchObject({ failure: { kind: 'refused' } })
    },
  )

  test('--dry-run shows the file and the commands, and does neither', async () => {
    const ran = await swarm(['service', 'install', 'bot', '--dry-run'])
    expect(ran.code).toBe(0)
    expect(ran.stdout).toContain('[Service]\n')
    expect(ran.stderr).toContain('systemctl --user enable agent-swarm-bot.service')
    expect([systems.calls(), existsSync(unit())]).toEqual([[], false])
  })

  test.for([
    ['a variable of a setting', { LOG_LEVEL: 'debug' }, 'LOG_LEVEL'],
    ['a secret, which is not shown', { WEBHOOK_SECRET: 'hunter2-hunter2-hunter2' }, 'WEBHOOK_SECRET'],
    ['another value than the file has', { GITHUB_REPOSITORIES: 'acme/other' }, 'GITHUB_REPOSITORIES'],
  ] as const)('install refuses what the service would not see: %s', async ([, variables, name]) => {
    configure()
    const ran = await swarm(['service', 'install'], variables)
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining(`same value: ${name}\n`) })
    expect(ran.stderr).not.toContain('hunter2')
    expect([systems.calls(), existsSync(unit())]).toEqual([[], false])
  })

  test('a variable with the value of the file does no harm, and one of a hypervisor is named', async () => {
    configure()
    const ran = await swarm(['service', 'install'], {
      ...{ GITHUB_REPOSITORIES: 'acme/shop', GITHUB_TOKEN: 'ghp_0123456789abcdef0123456789abcdef0123' },
      LIBVIRT_DEFAULT_URI: 'qemu:///session',
    })
    expect(ran).toMatchObject({ code: 0, stderr: expect.stringContaining('LIBVIRT_DEFAULT_URI') })
  })

  test.for([
    ['up', 'Neither GitHub nor Jira is configured'],
    ['bot', 'AGENT_SWARM_RUNNER_TOKEN is missing'],
    ['runner', 'AGENT_SWARM_BOT_URL and AGENT_SWARM_RUNNER_TOKEN are missing'],
  ] as const)('install refuses %s without what it needs: it would not start', async ([name, missing]) => {
    configure('provider: synthetic\n')
    const ran = await swarm(['service', 'install', name])
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining(missing) })
    expect(systems.calls()).toEqual([])
  })

  test('a unit that somebody changed is shown, and replaced only when the person agrees', async () => {
    configure()
    await swarm(['service', 'install'])
    const ours = readFileSync(unit(), 'utf8')
    writeFileSync(unit(), ours.replace('RestartSec=5\n', 'RestartSec=50\n'))
    systems.calls()
    const refused = await swarm(['service', 'install'])
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain('- RestartSec=50\n+ RestartSec=5\n')
    expect(changes()).toEqual([])
    expect(readFileSync(unit(), 'utf8')).toContain('RestartSec=50\n')
    const { screen } = await cli.terminal(['service', 'install'], {
      environment: environment(),
      type: { prompt: 'Replace it? [y/N]', text: 'y\n' },
    })
    expect(screen).toContain('Installed')
    expect(readFileSync(unit(), 'utf8')).toBe(ours)
    expect(systems.calls()).toContain('systemctl --user daemon-reload')
  })

  test('a file of somebody else, and a link, are neither changed nor removed', async () => {
    configure()
    mkdirSync(join(cli.home, '.config/systemd/user'), { recursive: true })
    const foreign = '[Service]\nExecStart=/bin/true\n'
    const other = join(cli.home, 'other')
    writeFileSync(other, `# Made by: agent-swarm service install up\n${foreign}`)
    for (const place of [() => writeFileSync(unit(), foreign), () => symlinkSync(other, unit())]) {
      place()
      for (const command of ['install', 'uninstall', 'status'])
        expect(await swarm(['service', command])).toMatchObject({
          code: 1,
          stderr: expect.stringContaining('was not written by agent-swarm'),
        })
      expect(existsSync(unit())).toBe(true)
      rmSync(unit())
    }
    expect(readFileSync(other, 'utf8')).toContain(foreign)
    expect(systems.calls()).toEqual([])
  })

  test('uninstall ends the unit, then removes it', async () => {
    configure()
    await swarm(['service', 'install'])
    systems.calls()
    expect(await swarm(['service', 'uninstall', '--dry-run'])).toMatchObject({
      stdout: expect.stringContaining('disable --now agent-swarm-up.service'),
    })
    expect([systems.calls(), existsSync(unit())]).toEqual([[], true])
    expect(await swarm(['service', 'uninstall'])).toMatchObject({ code: 0 })
    expect(systems.calls().slice(1)).toEqual([
      'systemctl --user disable --now agent-swarm-up.service',
      'systemctl --user daemon-reload',
    ])
    expect(existsSync(unit())).toBe(false)
    expect(await swarm(['service', 'uninstall'])).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('Not installed'),
    })
  })

  test.for([
    ['systemctl', 'Failed to connect to bus: No medium found', 'loginctl enable-linger'],
    [
      'systemctl',
      "System has not been booted with systemd as init system (PID 1). Can't operate.",
      'another supervisor',
    ],
    ['systemctl', 'Failed to enable unit: Access denied', 'Run it as root.'],
  ] as const)('%s fails with "%s": the way on', async ([program, text, remedy]) => {
    configure()
    systems.breaks(program, text)
    const ran = await swarm(['service', 'install'])
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining(remedy) })
    expect(ran.stderr).toContain(text)
    // Another try goes on where it ended.
    systems.breaks(program, null)
    expect(await swarm(['service', 'install'])).toMatchObject({ code: 0 })
  })

  test('without the right to linger it is installed, and says what that means', async () => {
    configure()
    systems.breaks('loginctl', 'Could not enable linger: Access denied')
    const ran = await swarm(['service', 'install'])
    expect(ran).toMatchObject({ code: 0, stderr: expect.stringContaining('sudo loginctl enable-linger') })
    expect(await look(await openOn('linux'))).toMatchObject({
      ...{ running: true, startsAt: 'log-in', survivesLogout: false },
      notes: [expect.stringContaining('lingering is off')],
    })
  })

  test('a system without systemd is named', async () => {
    configure()
    const ran = await swarm(['service', 'status'], { PATH: '/nowhere' })
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining('this system has no systemctl') })
  })

  test('before an install, status says only that there is none', async () => {
    const ran = await swarm(['service', 'status'])
    expect(ran).toMatchObject({ code: 0, stderr: 'To install it: agent-swarm service install up\n' })
    expect(ran.stdout).not.toContain('log-out')
  })

  test('status shows a unit that fails, and logs what journald has', async () => {
    configure()
    await swarm(['service', 'install'])
    const shown = (await swarm(['service', 'status'])).stdout
    for (const text of ['running, process 4711', 'restarts  2', 'starts    at']) expect(shown).toContain(text)
    rmSync(systems.file('running'))
    writeFileSync(systems.file('result'), 'exit-code\n')
    expect((await swarm(['service', 'status'])).stderr).toContain('It failed (exit-code)')
    systems.calls()
    expect(await swarm(['service', 'logs'])).toMatchObject({ code: 0, stdout: 'the first line\n' })
    expect(systems.calls()).toEqual([expect.stringContaining('--user-unit=agent-swarm-up.service')])
    const following = cli.begin(['service', 'logs', '-f', '--system'], environment())
    await following.says('the first line')
    following.interrupt()
    expect((await following.ended).code).toBe(0)
    expect(systems.calls()).toEqual([expect.stringMatching(/ --unit=agent-swarm-up.service --follow$/)])
  })

  test('a unit of the system is that of the user who is named', async () => {
    const wanted = { name: 'bot', system: true, user: 'swarmbot', home: null } as const
    const system = await openService(hostOn('linux'), wanted)
    expect(system.file).toBe(join(systems.root, 'etc/systemd/system/agent-swarm-bot.service'))
    for (const line of ['User=swarmbot', 'Environment="AGENT_SWARM_HOME=/var/lib/swarmbot/.agent-swarm"'])
      expect(system.content).toContain(line)
    mkdirSync(join(systems.root, 'etc/systemd/system'), { recursive: true })
    systems.calls()
    expect(await install(system)).toEqual({ result: 'done', running: true, notes: [] })
    expect(changes()).toEqual(
      ['daemon-reload', 'enable agent-swarm-bot.service', 'restart agent-swarm-bot.service'].map(
        words => `systemctl ${words}`,
      ),
    )
    // A look does not name the user.
    const looked = await openService(hostOn('linux'), { ...wanted, user: null })
    expect(await look(looked)).toMatchObject({ installed: true, current: true, startsAt: 'boot', survivesLogout: true })
    writeFileSync(system.file, system.content.replace('UMask=0077', 'UMask=0022'))
    expect(await look(looked)).toMatchObject({ current: false })
    await expect(openService(hostOn('linux'), { ...wanted, user: 'nobody-here' })).rejects.toThrow('has none')
    await expect(openService(hostOn('linux'), { ...wanted, system: false })).rejects.toThrow('--user and --user-home')
    await expect(openService(hostOn('linux'), { ...wanted, user: '--help' })).rejects.toThrow('has none')
  })

  test('wrong words', async () => {
    expect(await swarm(['service', 'install', 'database'])).toMatchObject({ code: 2 })
    expect(await swarm(['service'])).toMatchObject({ code: 2 })
  })
})

test.for([
  ['darwin', /^launchctl kickstart -k gui\/\d+\/agent-swarm\.up$/],
  ['win32', /^schtasks \/End \/TN agent-swarm-up\nschtasks \/Run \/TN agent-swarm-up$/],
] as const)('on %s too, a change of config.yaml starts it again', async ([platform, commands]) => {
  configure()
  const system = await openOn(platform)
  await install(system)
  const later = new Date(Date.now() + 60_000)
  utimesSync(join(cli.home, 'state/config.yaml'), later, later)
  changes()
  expect(await install(system)).toMatchObject({ result: 'restarted', running: true })
  expect(changes().join('\n')).toMatch(commands)
})

describe('on macOS', () => {
  test('the agent is installed again over one that is still ending, and status says when it starts, and why', async () => {
    const system = await openOn('darwin')
    const uid = process.getuid?.()
    const target = `gui/${uid}/agent-swarm.up`
    expect(await install(system)).toEqual({ result: 'done', running: true, notes: [] })
    const first = [
      `launchctl bootout ${target}`,
      `launchctl enable ${target}`,
      `launchctl bootstrap gui/${uid} ${system.file}`,
    ]
    expect(changes()).toEqual(first)
    // launchd opens it before the program starts.
    expect(existsSync(join(cli.home, 'state/service'))).toBe(true)
    writeFileSync(system.file, system.content.replace('Interactive', 'Background'))
    expect(planInstall(system)).toMatchObject({ found: 'different' })
    expect(await install(system)).toMatchObject({ result: 'done' })
    expect(changes()).toEqual([...first, first[2]])
    expect(await look(system)).toMatchObject({
      ...{ running: true, pid: 4711, restarts: 2, startsAt: 'log-in', survivesLogout: false, current: true },
      notes: [expect.stringContaining('login keychain')],
    })
    expect(await install(system)).toMatchObject({ result: 'skipped' })
    expect(await uninstall(system, { dryRun: false })).toMatchObject({ result: 'done' })
    expect(existsSync(system.file)).toBe(false)
    expect(await look(system)).toMatchObject({ installed: false, enabled: false, running: false })
  })

  test('one that is still ending (36) is waited for, by an install and by an uninstall', async () => {
    // Launchd has it for two more looks, and refuses another one meanwhile.
    const launchctl = `#!/bin/sh
state=${systems.file('')}
echo "launchctl $*" >>"$state/calls"
case $1 in
  bootout)
    [ -e "$state/loaded" ] || { echo 'Boot-out failed: 3: No such process' >&2; exit 3; }
    echo 2 >"$state/ending"
    echo 'Boot-out failed: 36: Operation now in progress' >&2
    exit 36 ;;
  bootstrap)
    [ ! -e "$state/loaded" ] || { echo 'Bootstrap failed: 37: Operation already in progress' >&2; exit 37; }
    touch "$state/loaded" ;;
  print)
    if [ -e "$state/ending" ]; then
      looks=$(cat "$state/ending")
      [ "$looks" -gt 0 ] && echo $((looks - 1)) >"$state/ending" || rm "$state/ending" "$state/loaded"
    fi
    [ -e "$state/loaded" ] || { echo 'Could not find service' >&2; exit 113; }
    printf '\\tstate = running\\n' ;;
esac
`
    writeFileSync(join(systems.bin, 'launchctl'), launchctl)
    const system = await openOn('darwin')
    await install(system)
    writeFileSync(system.file, system.content.replace('Interactive', 'Background'))
    systems.calls()
    expect(await install(system)).toMatchObject({ result: 'done', running: true })
    expect(changes()).toHaveLength(3)
    expect(await uninstall(system, { dryRun: false })).toMatchObject({ result: 'done' })
    expect(existsSync(system.file)).toBe(false)
    expect(existsSync(systems.file('loaded'))).toBe(false)
  })

  test('without a log-in at the screen, it says so', async () => {
    systems.breaks('launchctl', 'Bootstrap failed: 125: Domain does not support specified action')
    await expect(install(await openOn('darwin'))).rejects.toMatchObject({
      failure: { kind: 'unsupported', remedy: expect.stringContaining('at the screen') },
    })
    await expect(openService(hostOn('darwin'), { ...OWN, system: true })).rejects.toThrow('--system')
  })
})

describe('on Windows', () => {
  test('the task is created from a file in UTF-16, and what it says in another language is understood', async () => {
    const system = await openOn('win32')
    expect(await look(system)).toMatchObject({ installed: false, enabled: false, running: false })
    systems.calls()
    expect(await install(system)).toEqual({ result: 'done', running: true, notes: [] })
    expect(changes()).toEqual([
      'schtasks /End /TN agent-swarm-up',
      `schtasks /Create /TN agent-swarm-up /XML ${system.file} /F`,
      'schtasks /Run /TN agent-swarm-up',
    ])
    const bytes = readFileSync(systems.file('task.xml'))
    expect([...bytes.subarray(0, 2)]).toEqual([0xff, 0xfe])
    expect(new TextDecoder('utf-16le').decode(bytes)).toBe(system.content)
    expect(await look(system)).toMatchObject({ enabled: true, running: true, survivesLogout: true, current: true })
    expect(await install(system)).toMatchObject({ result: 'skipped' })
    rmSync(systems.file('task-runs'))
    expect(await look(system)).toMatchObject({ enabled: true, running: false })
    expect(await uninstall(system, { dryRun: false })).toMatchObject({ result: 'done' })
    expect([existsSync(system.file), existsSync(systems.file('task'))]).toEqual([false, false])
  })

  test('what schtasks refuses in another language gets a remedy, and a task that it does not show is not forgotten', async () => {
    const system = await openOn('win32')
    systems.breaks('schtasks', 'FEHLER: Zugriff verweigert')
    await expect(installAndWait(system, 0)).rejects.toMatchObject({
      failure: { remedy: expect.stringContaining('opened as administrator') },
    })
    systems.breaks('schtasks', null)
    await install(system)
    systems.breaks('schtasks', 'FEHLER: Zugriff verweigert')
    expect(await look(system)).toMatchObject({ installed: true, running: null })
    await expect(uninstall(system, { dryRun: false })).rejects.toThrow('Zugriff verweigert')
    expect(existsSync(system.file)).toBe(true)
  })

  test('the uninstall of a task that somebody removed says how to finish it', async () => {
    const system = await openOn('win32')
    await install(system)
    for (const name of ['task', 'task-runs']) rmSync(systems.file(name))
    await expect(uninstall(system, { dryRun: false })).rejects.toMatchObject({
      failure: { remedy: expect.stringContaining(`removed the task by hand: remove its file, too, ${system.file}`) },
    })
    rmSync(system.file)
    expect(await uninstall(system, { dryRun: false })).toMatchObject({ result: 'skipped' })
  })

  test('a task of another home is neither ended nor replaced', async () => {
    await install(await openOn('win32'))
    changes()
    const host = hostOn('win32')
    const other = { ...host.environment, AGENT_SWARM_HOME: join(cli.home, 'other') }
    await expect(install(await openService({ ...host, environment: other }, OWN))).rejects.toMatchObject({
      failure: { kind: 'not-ours' },
    })
    expect(changes()).toEqual([])
  })

  test('its home is in the profile, not where HOME of Git is, and a drive is one word', async () => {
    const host = hostOn('win32')
    const environment = { ...host.environment, AGENT_SWARM_HOME: '', USERPROFILE: '/profile' }
    expect((await openService({ ...host, environment }, OWN)).content).toContain(
      '--home &quot;/profile/.agent-swarm&quot;',
    )
    const onDrive = { ...environment, AGENT_SWARM_HOME: '/D:\\' }
    expect((await openService({ ...host, environment: onDrive }, OWN)).content).toContain('&quot;/D:\\\\&quot; --log')
    const variable = { ...environment, AGENT_SWARM_HOME: '/%TEMP%/home' }
    await expect(openService({ ...host, environment: variable }, OWN)).rejects.toThrow('would read a variable')
  })
})
