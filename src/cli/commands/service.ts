/** `service`: bot and runner under the system that keeps services running. */
import { createServer } from 'node:net'
import type { Environment } from '../../config/values.ts'
import type { ProviderName } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import { openRun } from '../../exec.ts'
import type { InstallPlan } from '../../service/install.ts'
import { SERVICE_NAMES, type ServiceName, type ServiceSystem } from '../../service/system.ts'
import { isAgreed } from '../terminal/confirm.ts'
import { type Invocation, print, printJson, printNote, type RunCommand, type Terminal } from '../terminal/output.ts'
import { pairs } from '../terminal/table.ts'

const textOf = (flag: string | boolean | undefined): string | null => (typeof flag === 'string' ? flag : null)

const nameOf = ([word = 'up']: readonly string[]): ServiceName => {
  const name = SERVICE_NAMES.find(each => each === word)
  if (name !== undefined) return name
  throw fail('usage', `"${word}" is not a service.`, `Services: ${SERVICE_NAMES.join(', ')}.`)
}

type Opened = { name: ServiceName; system: ServiceSystem; isOwnHome: boolean }

const open = async (invocation: Invocation): Promise<Opened> => {
  const { words, flags, terminal, signal, verbose } = invocation
  const [{ openService }, { commandLine }] = await Promise.all([
    import('../../service/open.ts'),
    import('../../command-line.ts'),
  ])
  const name = nameOf(words)
  const run = openRun(terminal.env, {
    interrupt: signal,
    ...(verbose ? { onCommand: command => printNote(commandLine(command), terminal) } : {}),
  })
  const host = { platform: terminal.platform, run, environment: terminal.env, root: '' }
  const user = textOf(flags.user)
  const wanted = { name, system: flags.system === true, user, home: textOf(flags['user-home']) }
  return { name, system: await openService(host, wanted), isOwnHome: user === null && wanted.home === null }
}

const about = ({ name, system: { label, file } }: Opened) => ({ service: name, system: label, file })

/** The service sees nothing of this shell. What it would lack is named, and refused. */
const checkSettings = async ({ name, isOwnHome }: Opened, terminal: Terminal): Promise<string[]> => {
  const { env } = terminal
  const { onlyInEnvironment, readConfig, settingsInEnvironment } = await import('../../config/config.ts')
  const doing = `installing the service ${name}`
  const { settings } = await import('../../config/settings.ts')
  const given = isOwnHome
    ? await onlyInEnvironment(env)
    : Object.keys(settingsInEnvironment(env)).flatMap(setting => settings[setting]?.env ?? [])
  if (given.length > 0)
    throw fail(
      'refused',
      `${doing}: the service does not see environment variables, and these are not in config.yaml with the same value: ${given.join(', ')}`,
      isOwnHome
        ? 'Write them into config.yaml (docs/configuration.md has their names there; agent-swarm init writes those of GitHub and Jira), or unset them.'
        : "Write them into config.yaml of that user's home, and unset them here.",
    )
  if (!isOwnHome)
    return ['The settings of that user were not read. To check them, run agent-swarm doctor as that user.']
  const config = await readConfig({}, { HOME: env.HOME, AGENT_SWARM_HOME: env.AGENT_SWARM_HOME })
  // It would end as soon as it starts.
  if (name === 'runner') (await import('./runner.ts')).requireBot(config)
  else await (await import('../../bot/preconditions.ts')).requireConfigured(config, name === 'up' ? 'its own' : null)
  return checkVariables(doing, config.provider, terminal)
}

/** Those of the configured hypervisor are refused, since its commands would do something else; those of one that may be chosen are named. */
const checkVariables = async (
  doing: string,
  configured: ProviderName | null,
  { env, platform }: Pick<Terminal, 'env' | 'platform'>,
): Promise<string[]> => {
  const [{ providers }, { detectedProviders }, { WINDOWS_VARIABLES }] = await Promise.all([
    import('../../../providers/index.ts'),
    import('../../runner/detection.ts'),
    import('../../windows.ts'),
  ])
  const names = configured === null ? detectedProviders(platform) : [configured]
  // Services have the first, and those of Windows, too; the others are where programs keep their files.
  const isLost = (variable: string) =>
    !variable.startsWith('XDG_') && !WINDOWS_VARIABLES.includes(variable) && (env[variable] ?? '') !== ''
  const rows = providers.filter(({ name }) => names.includes(name))
  const lost = [...new Set(rows.flatMap(({ environment }) => environment))].filter(isLost)
  if (lost.length === 0) return []
  const what = `the service does not see these variables of ${names.join(', ')}, which are set here: ${lost.join(', ')}`
  if (configured === null) return [`${what[0]?.toUpperCase()}${what.slice(1)}.`]
  throw fail(
    'refused',
    `${doing}: ${what}`,
    `Unset them for this command, and give ${configured} what it needs in a way that the service sees (docs/run-as-a-service.md#its-settings).`,
  )
}

const isFree = (host: string, port: number): Promise<boolean> =>
  new Promise(resolve => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'EADDRINUSE'))
    server.listen(port, host, () => server.close(() => resolve(true)))
  })

/** An `up` or `bot` in a terminal has the port and the home that the service needs: it would end again and again. */
const refuseSecond = async (name: ServiceName, system: ServiceSystem, env: Environment): Promise<void> => {
  if (name === 'runner' || (await system.state()).running === true) return
  const { findBot } = await import('../../bot/http/operator.ts')
  const other = await findBot(system.home)
  if (other !== null)
    throw fail(
      'busy',
      `installing the service ${name}: a bot runs already with AGENT_SWARM_HOME ${system.home}, and the service would not start beside it`,
      'Stop it first: Ctrl-C in the terminal of agent-swarm up or bot. Or another service of this home: agent-swarm service uninstall bot',
    )
  const { readConfig } = await import('../../config/config.ts')
  const { host, port } = await readConfig({}, { HOME: env.HOME, AGENT_SWARM_HOME: env.AGENT_SWARM_HOME })
  if (port === 0 || (await isFree(host, port))) return
  throw fail(
    'busy',
    `installing the service ${name}: another program listens on ${host}:${port}, which the service needs`,
    'Stop that program, for example an agent-swarm up of another home, or set another `port` in config.yaml.',
  )
}

const RESULTS = {
  done: (name: string, file: string) => `Installed ${file}; agent-swarm ${name} `,
  restarted: (name: string) => `config.yaml was changed, so it was started again: agent-swarm ${name} `,
  skipped: (name: string) => `agent-swarm ${name} is installed, and `,
}

const showPlan = ({ system }: Opened, { found, commands }: InstallPlan, { terminal }: Invocation): void => {
  printNote(`${found === 'same' ? 'The file is as it would be written' : 'Would write'}: ${system.file}\n`, terminal)
  print(system.content, terminal)
  printNote(`Would run:\n${commands.map(command => `  ${command}`).join('\n')}`, terminal)
}

export const installService: RunCommand = async invocation => {
  const { flags, json, quiet, terminal } = invocation
  const opened = await open(invocation)
  const { name, system } = opened
  const { planInstall, install } = await import('../../service/install.ts')
  const plan = planInstall(system)
  const answer = {
    ...about(opened),
    content: system.content,
    difference: [...plan.difference],
    commands: [...plan.commands],
  }
  const check = async () => {
    // Another user cannot install it anyway.
    if (flags.system === true && process.geteuid?.() === 0)
      (await import('../../service/programs.ts')).checkPrograms(system.user, system.programs)
    const warnings = await checkSettings(opened, terminal)
    if (opened.isOwnHome) await refuseSecond(name, system, terminal.env)
    return warnings
  }
  if (flags['dry-run'] === true) {
    const notes = await check().catch(error => [`It would be refused: ${failureOf(error, 'checking').message}`])
    if (json) printJson<'service install'>({ ...answer, result: 'planned', running: null, notes }, terminal)
    else showPlan(opened, plan, invocation)
    if (!json && plan.difference.length > 0) printNote(`\nThe file differs:\n${plan.difference.join('\n')}`, terminal)
    if (!json) for (const note of notes) printNote(note, terminal)
    return 0
  }
  const warnings = await check()
  if (plan.found === 'different') {
    if (!json) printNote(`${system.file} differs:\n${plan.difference.join('\n')}`, terminal)
    if (!(await isAgreed('Replace it?', invocation)))
      throw fail(
        'refused',
        `installing the service ${name}: ${system.file} differs, and was left as it is`,
        'To replace it, add --yes.',
      )
  }
  const { result, running, notes } = await install(system)
  const all = [...warnings, ...notes]
  if (json) printJson<'service install'>({ ...answer, result, running, notes: all }, terminal)
  else {
    print(
      `${RESULTS[result](name, system.file)}${running === true ? 'runs' : running === null ? 'was started, and the system does not tell whether it runs' : 'does not run: see its log'}.`,
      terminal,
    )
    for (const note of all) printNote(note, terminal)
    if (result === 'skipped' && !quiet)
      printNote(`To start it again all the same: ${plan.restart.join(' && ')}`, terminal)
    if (!quiet)
      printNote(`Its log: agent-swarm service logs ${name}${flags.system === true ? ' --system' : ''} -f`, terminal)
  }
  return running === false ? 1 : 0
}

export const uninstallService: RunCommand = async invocation => {
  const { flags, json, quiet, terminal } = invocation
  const opened = await open(invocation)
  const { uninstall } = await import('../../service/install.ts')
  const { result, commands } = await uninstall(opened.system, { dryRun: flags['dry-run'] === true })
  const { file } = opened.system
  if (json) printJson<'service uninstall'>({ ...about(opened), result, commands: [...commands] }, terminal)
  else if (result === 'planned')
    print([`Would remove ${file}, and run:`, ...commands.map(command => `  ${command}`)].join('\n'), terminal)
  else if (result === 'done') print(`Ended agent-swarm ${opened.name}, and removed ${file}.`, terminal)
  else if (!quiet) printNote(`Not installed: there is no ${file}.`, terminal)
  return 0
}

export const serviceStatus: RunCommand = async invocation => {
  const { json, terminal } = invocation
  const opened = await open(invocation)
  const { look } = await import('../../service/install.ts')
  const state = await look(opened.system)
  if (json) {
    printJson<'service status'>({ ...about(opened), ...state, notes: [...state.notes] }, terminal)
    return 0
  }
  const { installed, enabled, running, pid, restarts, startsAt, survivesLogout, notes } = state
  print(
    pairs(
      [
        ['service', `agent-swarm ${opened.name} (${opened.system.label})`],
        ['file', installed ? opened.system.file : `none (${opened.system.file})`],
        [
          'state',
          running === null ? 'unknown' : running ? `running${pid === null ? '' : `, process ${pid}`}` : 'not running',
        ],
        ...(restarts === null ? [] : [['restarts', String(restarts)] as const]),
        ...(installed
          ? ([
              ['starts', enabled ? `at ${startsAt}` : 'not by itself'],
              ['log-out', survivesLogout ? 'it runs on' : 'it ends'],
            ] as const)
          : []),
      ],
      terminal,
      null,
    ),
    terminal,
  )
  for (const note of notes) printNote(note, terminal)
  if (!installed) printNote(`To install it: agent-swarm service install ${opened.name}`, terminal)
  return 0
}

export const serviceLogs: RunCommand = async invocation => {
  const { flags, signal, terminal } = invocation
  const { name, system } = await open(invocation)
  const onLine = (line: string) => print(line, terminal)
  const follow = flags.follow === true
  if ('file' in system.log) {
    const { showLogFile } = await import('../../service/log-file.ts')
    const exists = await showLogFile(system.log.file, { onLine, follow: follow ? signal : null })
    if (!exists) printNote(`No log yet: there is no ${system.log.file}.`, terminal)
    return 0
  }
  const { watchProgram } = await import('../../exec.ts')
  const { program, argv, follow: more } = system.log
  const onError = (line: string) => printNote(line, terminal)
  const code = await watchProgram(terminal.env, program, [...argv, ...(follow ? more : [])], {
    signal,
    onLine,
    onError,
  })
  if (code === 0 || signal.aborted) return 0
  throw fail('unknown', `reading the log of the service ${name}: ${program} ended with exit status ${code}`)
}
