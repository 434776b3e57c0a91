/**
 * systemd: a unit of the person's own manager, which lingering keeps up without a session, or of the system. Flags and
 * properties are those of systemctl(1), loginctl(1) and systemd.service(5) of systemd 252.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { explainBy, fail, isFailure } from '../errors.ts'
import { shellWord } from '../shell-word.ts'
import type { Host, Launch, ServiceState, ServiceSystem, Step } from './system.ts'
import { unitArgument, unitWord } from './words.ts'

const MARK = '# Made by: agent-swarm service install'
/** Where programs of hypervisors, git and ssh are. A service gets none of a shell's PATH. */
const PATHS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']
/** A manager that lingering has just turned on answers after a moment. */
const TRIES = 20
const BETWEEN_TRIES_MS = 250
/** Lines of the log that are shown. */
const LINES = 200

export type SystemdLaunch = Launch & { scope: 'user' | 'system' }

const unitText = ({ name, node, entry, home, user, scope }: SystemdLaunch): string => {
  const isSystem = scope === 'system'
  const path = isSystem ? PATHS : [join(user.home, '.local/bin'), ...PATHS]
  return [
    `${MARK} ${name}${isSystem ? ' --system' : ''}`,
    `# For changes of your own: systemctl ${isSystem ? '' : '--user '}edit agent-swarm-${name}`,
    '[Unit]',
    `Description=agent-swarm ${name}`,
    ...(isSystem
      ? ['Wants=network-online.target', 'After=network-online.target libvirtd.service virtqemud.service']
      : []),
    '# However often it ends, it is started again.',
    'StartLimitIntervalSec=0',
    '',
    '[Service]',
    'Type=exec',
    ...(isSystem ? [`User=${user.name}`] : []),
    `ExecStart=${unitWord(node)} ${unitArgument(entry)} ${name}`,
    `Environment=${unitWord(`AGENT_SWARM_HOME=${home}`)}`,
    `Environment=${unitWord(`PATH=${path.join(':')}`)}`,
    'Restart=always',
    'RestartSec=5',
    'TimeoutStopSec=20',
    "# What it started stays: a user's libvirt and its machines may be among it. Its own programs end with it.",
    'KillMode=process',
    'UMask=0077',
    '',
    '[Install]',
    `WantedBy=${isSystem ? 'multi-user.target' : 'default.target'}`,
    '',
  ].join('\n')
}

/** Those lines of a system's unit that say whose it is: a later look does not name the user. */
const OF_USER = /^(?:User=|Environment="AGENT_SWARM_HOME=).*$/gm
const withoutUser = (text: string) => text.replaceAll(OF_USER, '')

const explainSystemctl = (user: string) =>
  explainBy([
    // systemd 252: systemctl and journalctl in a container, and where another program is the first process
    [
      /System has not been booted with systemd|Host is down/,
      'unsupported',
      'This system does not run systemd. Have another supervisor run it in the foreground (docs/run-as-a-service.md).',
    ],
    [
      /Failed to connect to (?:user scope )?bus|No medium found|DBUS_SESSION_BUS_ADDRESS/,
      'unsupported',
      `Your services are kept by systemd's manager of your login, which does not answer here. Log in as ${user} itself (over ssh or at the screen, not by su or sudo), or have root run: loginctl enable-linger ${shellWord(user)}. A unit of the system needs none of this: agent-swarm service install --system, as root.`,
    ],
    [
      /[Aa]ccess denied|[Ii]nteractive authentication required|Permission denied|Operation not permitted/,
      'permission',
      'Run it as root.',
    ],
  ])

const PROPERTIES = ['LoadState', 'ActiveState', 'UnitFileState', 'MainPID', 'NRestarts', 'Result'] as const

const propertiesOf = (text: string): Partial<Record<(typeof PROPERTIES)[number], string>> =>
  Object.fromEntries(
    text.split('\n').flatMap(line => {
      const at = line.indexOf('=')
      return at === -1 ? [] : [[line.slice(0, at), line.slice(at + 1)]]
    }),
  )
const number = (text: string | undefined): number | null => {
  const value = Number(text)
  return text === undefined || text === '' || !Number.isSafeInteger(value) ? null : value
}

const stateOf = (
  text: string,
  { scope, user }: SystemdLaunch,
  isInstalled: boolean,
  lingers: boolean,
): ServiceState => {
  const { LoadState, ActiveState, UnitFileState, MainPID, NRestarts, Result } = propertiesOf(text)
  const pid = number(MainPID)
  const running = ActiveState === 'active'
  const survivesLogout = scope === 'system' || lingers
  return {
    enabled: UnitFileState === 'enabled',
    running,
    pid: running && pid !== 0 ? pid : null,
    restarts: LoadState === 'loaded' ? number(NRestarts) : null,
    startsAt: survivesLogout ? 'boot' : 'log-in',
    survivesLogout,
    notes: [
      ...(survivesLogout || !isInstalled
        ? []
        : [
            `It ends when ${user.name} logs out, and starts when they log in: lingering is off. To turn it on: sudo loginctl enable-linger ${shellWord(user.name)}`,
          ]),
      ...(running || LoadState !== 'loaded' || Result === undefined || Result === 'success'
        ? []
        : [`It failed (${Result}), and is started again every 5 s.`]),
    ],
  }
}

export const openSystemd = (host: Host, launch: SystemdLaunch): ServiceSystem => {
  const { run, environment, root } = host
  const { name, scope, user } = launch
  const unit = `agent-swarm-${name}.service`
  const isUser = scope === 'user'
  const manager = isUser ? ['--user'] : []
  // A shell of sudo or cron has neither; the manager of the log-in is there all the same where lingering keeps it.
  const env: Record<string, string> = isUser
    ? { XDG_RUNTIME_DIR: environment.XDG_RUNTIME_DIR || `/run/user/${user.uid}` }
    : {}
  const systemctl = (doing: string, ...argv: string[]): Step => ({
    program: 'systemctl',
    argv: [...manager, ...argv],
    doing,
    env,
  })
  const linger: Step = {
    program: 'loginctl',
    argv: ['enable-linger', user.name],
    doing: `letting the services of ${user.name} run without a session`,
    ifItFails: `The service ends when ${user.name} logs out. To keep it: sudo loginctl enable-linger ${shellWord(user.name)}`,
  }
  const folder = isUser
    ? join(environment.XDG_CONFIG_HOME || join(user.home, '.config'), 'systemd/user')
    : `${root}/etc/systemd/system`
  const lingers = () => existsSync(`${root}/var/lib/systemd/linger/${user.name}`)
  const explain = explainSystemctl(user.name)
  const ask = async ({ program, argv, doing, env = {}, answers = [] }: Step) => {
    try {
      return await run(program, argv, { doing, env, answers, explain })
    } catch (error) {
      if (!isFailure(error) || error.failure.kind !== 'provider-missing') throw error
      throw fail(
        'unsupported',
        `${doing}: this system has no ${program}`,
        'Have another supervisor run it in the foreground (docs/run-as-a-service.md).',
      )
    }
  }
  const content = unitText(launch)
  const restart = systemctl(`starting ${unit}`, 'restart', unit)
  const reload = systemctl('reading the units', 'daemon-reload')
  const runStep = async (step: Step): Promise<void> => {
    for (let tries = 1; ; tries += 1) {
      try {
        return void (await ask(step))
      } catch (error) {
        const isStarting =
          step === reload && isUser && lingers() && isFailure(error) && error.failure.kind === 'unsupported'
        if (!isStarting || tries === TRIES) throw error
        await delay(BETWEEN_TRIES_MS)
      }
    }
  }
  return {
    label: 'systemd',
    file: join(folder, unit),
    content,
    user,
    programs: [launch.node, launch.entry],
    home: launch.home,
    encoding: 'utf8',
    isOurs: text => text.startsWith(MARK),
    isCurrent: text => (isUser ? text === content : withoutUser(text) === withoutUser(content)),
    install: [...(isUser ? [linger] : []), reload, systemctl(`enabling ${unit}`, 'enable', unit), restart],
    restart: [restart],
    end: [systemctl(`stopping ${unit}`, 'disable', '--now', unit)],
    forget: [reload],
    state: async () => {
      const { stdout } = await ask(systemctl(`looking at ${unit}`, 'show', unit, `--property=${PROPERTIES.join(',')}`))
      return stateOf(stdout, launch, existsSync(join(folder, unit)), lingers())
    },
    log: {
      program: 'journalctl',
      argv: ['--no-pager', '--output=cat', `--lines=${LINES}`, isUser ? `--user-unit=${unit}` : `--unit=${unit}`],
      follow: ['--follow'],
    },
    runStep,
  }
}
