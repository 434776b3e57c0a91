/** The files of services, judged by systemd itself, by a parser of property lists and by the schema of scheduled tasks. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DOMParser, type Element } from '@xmldom/xmldom'
import { parse } from 'plist'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openRun } from '../../src/exec.ts'
import { openLaunchd } from '../../src/service/launchd.ts'
import { type Launch, SERVICE_NAMES } from '../../src/service/system.ts'
import { openSystemd } from '../../src/service/systemd.ts'
import { openTaskScheduler } from '../../src/service/task-scheduler.ts'
import { faultsOf, TASK_NAMESPACE, taskType } from './task-schema.ts'

const environment = { USERDOMAIN: 'STUDIO' }
const host = { platform: 'linux' as const, run: openRun({}), environment, root: '' }
const launch: Launch = {
  name: 'up',
  node: process.execPath,
  entry: '/opt/agent-swarm/bin/agent-swarm.js',
  home: '/home/ada/.agent-swarm',
  user: { name: 'ada', uid: 1000, home: '/home/ada' },
}
/** Everything that one of the three forms would read as its own. */
const ODD = '/home/ada/my "100%" $HOME & <b> \\x41 ü'

const has = (program: string) => spawnSync(program, ['--version']).status === 0

describe('systemd', () => {
  const verify = (content: string, name: string, scope: 'user' | 'system') => {
    const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-unit-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    writeFileSync(join(folder, `agent-swarm-${name}.service`), content)
    const argv = [
      ...(scope === 'user' ? ['--user'] : []),
      '--man=no',
      'verify',
      join(folder, `agent-swarm-${name}.service`),
    ]
    const { stdout, stderr } = spawnSync('systemd-analyze', argv, {
      encoding: 'utf8',
      env: { PATH: process.env.PATH, XDG_RUNTIME_DIR: folder, HOME: folder, LC_ALL: 'C' },
    })
    return `${stdout}${stderr}`
  }

  test
    .skipIf(!has('systemd-analyze'))
    .for(SERVICE_NAMES.flatMap(name => (['user', 'system'] as const).map(scope => ({ name, scope }))))(
    'systemd-analyze finds nothing in the unit of $name ($scope)',
    ({ name, scope }) => {
      const user = { ...launch.user, name: scope === 'system' ? 'daemon' : 'ada' }
      const { content } = openSystemd(host, { ...launch, name, scope, user })
      expect(verify(content, name, scope)).toBe('')
      // The measure itself.
      expect(verify(content.replace('Restart=', 'Restrat='), name, scope)).toContain('Restrat')
    },
  )

  test.skipIf(!has('systemd-analyze'))('takes paths as they are, whatever is in them', () => {
    const { content } = openSystemd(host, { ...launch, entry: ODD, home: ODD, scope: 'user' })
    expect(verify(content, 'up', 'user')).toBe('')
    expect(content).toContain(
      '"/home/ada/my \\"100%%\\" $$HOME & <b> \\\\x41 ü" up\nEnvironment="AGENT_SWARM_HOME=/home/ada/my \\"100%%\\" $HOME & <b> \\\\x41 ü"',
    )
  })

  test('a unit of the system runs as its user, and waits for the network', () => {
    const { content, file } = openSystemd(host, { ...launch, name: 'bot', scope: 'system' })
    expect(file).toBe('/etc/systemd/system/agent-swarm-bot.service')
    for (const line of ['User=ada', 'After=network-online.target', 'WantedBy=multi-user.target', 'Restart=always'])
      expect(content).toContain(line)
    expect(openSystemd(host, { ...launch, scope: 'user' }).content).not.toContain('User=')
  })
})

describe('launchd', () => {
  /** The types that launchd.plist(5) gives the keys that are used. */
  const TYPES = {
    ...{ Label: 'string', WorkingDirectory: 'string', StandardErrorPath: 'string' },
    ...{ LimitLoadToSessionType: 'string', ProcessType: 'string', ProgramArguments: 'array' },
    ...{ EnvironmentVariables: 'object', RunAtLoad: 'boolean', KeepAlive: 'boolean', AbandonProcessGroup: 'boolean' },
    ...{ ThrottleInterval: 'number', ExitTimeOut: 'number', Umask: 'number' },
  }
  const openIn = (home: string, name: Launch['name'] = 'up') =>
    openLaunchd(
      { ...host, platform: 'darwin' },
      { ...launch, name, home, user: { ...launch.user, home: '/Users/ada' } },
    )
  const read = (content: string) => parse(content) as Record<string, unknown>

  test.for(SERVICE_NAMES)('the agent of %s is a property list with keys of launchd alone, of their types', name => {
    const { file, content } = openIn('/Users/ada/.agent-swarm', name)
    const values = read(content)
    expect(file).toBe(`/Users/ada/Library/LaunchAgents/${values.Label}.plist`)
    expect(
      Object.fromEntries(
        Object.entries(values).map(([key, value]) => [key, Array.isArray(value) ? 'array' : typeof value]),
      ),
    ).toEqual(TYPES)
    expect(values).toMatchObject({
      ...{ KeepAlive: true, RunAtLoad: true, AbandonProcessGroup: true },
      // 077.
      ...{ Umask: 63, LimitLoadToSessionType: 'Aqua' },
      ProgramArguments: [launch.node, launch.entry, name, '--log', `/Users/ada/.agent-swarm/service/${name}.log`],
      EnvironmentVariables: { AGENT_SWARM_HOME: '/Users/ada/.agent-swarm' },
    })
    const { PATH } = values.EnvironmentVariables as { PATH: string }
    expect(PATH.split(':')[0]).toBe('/opt/homebrew/bin')
  })

  test('takes paths as they are, whatever is in them', () => {
    const values = read(openIn(ODD).content)
    expect(values.WorkingDirectory).toBe(ODD)
    expect(values.EnvironmentVariables).toMatchObject({ AGENT_SWARM_HOME: ODD })
  })
})

describe('Task Scheduler', () => {
  const openIn = (home: string, name: Launch['name'] = 'up') =>
    openTaskScheduler({ ...host, platform: 'win32' }, { ...launch, name, home })
  const read = (content: string) => {
    const root = new DOMParser().parseFromString(content, 'text/xml').documentElement
    if (root === null) throw new Error('no element')
    return root
  }
  const textOf = (root: Element, name: string) => root.getElementsByTagName(name)[0]?.textContent

  test.for(SERVICE_NAMES)('the task of %s is as its schema says', name => {
    const root = read(openIn('/home/ada/.agent-swarm', name).content)
    expect([root.nodeName, root.namespaceURI]).toEqual(['Task', TASK_NAMESPACE])
    expect(faultsOf(root, taskType)).toEqual([])
  })

  test('runs without a log-in, without end, and again within a minute of its end', () => {
    const root = read(openIn(ODD).content)
    const expected = {
      ...{ UserId: 'STUDIO\\ada', LogonType: 'S4U', ExecutionTimeLimit: 'PT0S', MultipleInstancesPolicy: 'IgnoreNew' },
      ...{ Interval: 'PT1M', WorkingDirectory: ODD, StopIfGoingOnBatteries: 'false' },
    }
    for (const [name, text] of Object.entries(expected)) expect([name, textOf(root, name)]).toEqual([name, text])
    // Until it is ended: no repetition that ends.
    expect(root.getElementsByTagName('Duration')).toHaveLength(0)
    expect(textOf(root, 'Arguments')).toContain(` up --home "${ODD}" --log "`)
  })

  test('the schema refuses what is not in it', () => {
    const { content } = openIn('/home/ada/.agent-swarm')
    for (const [from, to, fault] of [
      ['<LogonType>S4U<', '<LogonType>S4u<', 'Task/Principals/Principal/LogonType: "S4u"'],
      ['<Count>255<', '<Count>256<', 'Task/Settings/RestartOnFailure/Count: "256"'],
      ['<Command>', '<Path>x</Path><Command>', 'Task/Actions/Exec has Path'],
      ['<Enabled>true</Enabled>\n      <Start', '<Start', null],
      ['<TimeTrigger>', '<TimeTrigger><Repetition><Interval>PT1M</Interval></Repetition>', 'has Repetition twice'],
    ] as const) {
      const faults = faultsOf(read(content.replace(from, to)), taskType).join('\n')
      if (fault === null) expect(faults).toBe('')
      else expect(faults).toContain(fault)
    }
  })
})

test('a path with a line break could add lines of its own, and is refused', () => {
  const home = '/home/ada/x\nExecStart=/bin/evil'
  for (const open of [
    () => openSystemd(host, { ...launch, home, scope: 'user' }),
    () => openLaunchd(host, { ...launch, home }),
    () => openTaskScheduler(host, { ...launch, home }),
  ])
    expect(open).toThrow('control character')
})
