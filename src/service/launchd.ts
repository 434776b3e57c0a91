/**
 * launchd: an agent of the person, which starts at log-in. It is not a daemon of the system, since Tart needs the unlocked
 * login keychain. Keys are those of launchd.plist(5), commands those of launchctl(1). Never run on a Mac.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { explainBy, fail, isFailure } from '../errors.ts'
import type { Host, Launch, ServiceName, ServiceState, ServiceSystem, Step } from './system.ts'
import { xmlText } from './words.ts'

const MARK = '<!-- Made by: agent-swarm service install'
const PATHS = ['/opt/homebrew/bin', '/usr/local/bin', '/usr/bin', '/bin', '/usr/sbin', '/sbin']
/** launchctl's answer for a service that the domain does not have: "Could not find service". */
const NO_SERVICE = 113
/** bootout's answers for a service that does not run, and for one that is still ending: "Operation now in progress". */
const NO_PROCESS = 3
const IS_ENDING = 36
/** A service that was removed is gone after a moment, and until then a new one of its name is refused. */
const TRIES = 20
/** Launchd kills a service that does not end within this. */
const EXIT_TIMEOUT_S = 20
const BETWEEN_TRIES_MS = 500
const LOOKS_AT_END = ((EXIT_TIMEOUT_S + 10) * 1_000) / BETWEEN_TRIES_MS

type Value = string | number | boolean | readonly string[] | Readonly<Record<string, string>>

const valueText = (value: Value, indent: string): string => {
  if (typeof value === 'string') return `<string>${xmlText(value)}</string>`
  if (typeof value === 'number') return `<integer>${value}</integer>`
  if (typeof value === 'boolean') return `<${value}/>`
  const isList = Array.isArray(value)
  const lines = isList
    ? value.map(word => `<string>${xmlText(word)}</string>`)
    : Object.entries(value).map(([key, text]) => `<key>${xmlText(key)}</key> <string>${xmlText(text)}</string>`)
  const tag = isList ? 'array' : 'dict'
  return [`<${tag}>`, ...lines.map(line => `${indent}\t${line}`), `${indent}</${tag}>`].join('\n')
}

const plistText = (name: string, values: Readonly<Record<string, Value>>): string =>
  [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `${MARK} ${name} -->`,
    '<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">',
    '<plist version="1.0">',
    '<dict>',
    ...Object.entries(values).map(([key, value]) => `\t<key>${key}</key>\n\t${valueText(value, '\t')}`),
    '</dict>',
    '</plist>',
    '',
  ].join('\n')

const contentOf = (label: string, log: string, { name, node, entry, home, user }: Launch): string =>
  plistText(name, {
    Label: label,
    ProgramArguments: [node, entry, name, '--log', log],
    EnvironmentVariables: {
      AGENT_SWARM_HOME: home,
      PATH: [...PATHS, join(user.home, '.local/bin')].join(':'),
    },
    WorkingDirectory: home,
    LimitLoadToSessionType: 'Aqua',
    RunAtLoad: true,
    KeepAlive: true,
    ThrottleInterval: 10,
    ExitTimeOut: EXIT_TIMEOUT_S,
    // Machines of Tart are processes, and outlive it.
    AbandonProcessGroup: true,
    ProcessType: 'Interactive',
    Umask: 0o077,
    // What the program itself cannot write: why Node did not start.
    StandardErrorPath: log,
  })

const explainLaunchctl = explainBy([
  [
    /Bootstrap failed: 125|Domain does not support specified action|Could not find domain/,
    'unsupported',
    'An agent belongs to a log-in at the screen. Log in there, and run this again.',
  ],
  [
    /Operation not permitted|not privileged/,
    'permission',
    'Run it as the user who logs in at the screen, without sudo.',
  ],
])

const stateOf = (text: string | null, startsAtLogin: string | null): ServiceState => {
  const pid = text?.match(/^\s*pid = (\d+)$/m)?.[1]
  const exit = text?.match(/^\s*last exit code = (-?\d+)/m)?.[1]
  const runs = text?.match(/^\s*runs = (\d+)$/m)?.[1]
  const running = /^\s*state = running$/m.test(text ?? '')
  return {
    enabled: text !== null,
    running,
    pid: pid === undefined ? null : Number(pid),
    restarts: runs === undefined ? null : Math.max(0, Number(runs) - 1),
    startsAt: 'log-in',
    survivesLogout: false,
    notes: [
      ...(startsAtLogin === null ? [] : [startsAtLogin]),
      ...(running || text === null || exit === undefined || exit === '0'
        ? []
        : [`It ended with exit status ${exit}, and is started again every 10 s.`]),
    ],
  }
}

/** The bot has no machines, and needs no keychain. */
const startsAtLogin = (name: ServiceName) =>
  `It starts when you log in at the screen and ends when you log out${
    name === 'bot' ? '' : ': Tart starts machines only with your unlocked login keychain'
  }. For a Mac that comes back by itself, turn on automatic log-in, which macOS offers only without FileVault.`

export const openLaunchd = ({ run }: Host, launch: Launch): ServiceSystem => {
  const { name, home, user } = launch
  const label = `agent-swarm.${name}`
  const file = join(user.home, 'Library/LaunchAgents', `${label}.plist`)
  const log = join(home, 'service', `${name}.log`)
  const domain = `gui/${user.uid}`
  const target = `${domain}/${label}`
  const launchctl = (doing: string, ...argv: string[]): Step => ({ program: 'launchctl', argv, doing })
  const ask = ({ program, argv, doing, answers = [] }: Step) =>
    run(program, argv, { doing, answers, explain: explainLaunchctl })
  const bootstrap = launchctl(`starting ${label}`, 'bootstrap', domain, file)
  const bootout = { ...launchctl(`ending ${label}`, 'bootout', target), answers: [NO_PROCESS, IS_ENDING, NO_SERVICE] }
  const print = () => ask({ ...launchctl(`looking at ${label}`, 'print', target), answers: [NO_SERVICE] })
  /** What follows a bootout needs the service gone. */
  const waitUntilGone = async (): Promise<void> => {
    for (let looks = 1; (await print()).exitCode !== NO_SERVICE; looks += 1) {
      if (looks === LOOKS_AT_END)
        throw fail('timeout', `ending ${label}: launchd still has it`, 'Try again in a minute.')
      await delay(BETWEEN_TRIES_MS)
    }
  }
  const runStep = async (step: Step): Promise<void> => {
    for (let tries = 1; ; tries += 1) {
      try {
        await ask(step)
        return step === bootout ? await waitUntilGone() : undefined
      } catch (error) {
        const isSettling = step === bootstrap && isFailure(error) && error.failure.kind === 'unknown'
        if (!isSettling || tries === TRIES) throw error
        await delay(BETWEEN_TRIES_MS)
      }
    }
  }
  const content = contentOf(label, log, launch)
  return {
    label: 'launchd',
    file,
    content,
    user,
    programs: [launch.node, launch.entry],
    home,
    isCurrent: text => text === content,
    encoding: 'utf8',
    isOurs: text => text.includes(MARK),
    install: [bootout, launchctl(`enabling ${label}`, 'enable', target), bootstrap],
    end: [bootout],
    restart: [launchctl(`starting ${label}`, 'kickstart', '-k', target)],
    forget: [],
    state: async () => {
      const { stdout, exitCode } = await print()
      return stateOf(exitCode === 0 ? stdout : null, existsSync(file) ? startsAtLogin(name) : null)
    },
    log: { file: log },
    runStep,
  }
}
