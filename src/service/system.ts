/** What a system that keeps services running (systemd, launchd, the Task Scheduler) gives to the commands. */
import type { Run } from '../exec.ts'

/** What can be a service: a command that runs until it is ended. */
export const SERVICE_NAMES = ['up', 'bot', 'runner'] as const
export type ServiceName = (typeof SERVICE_NAMES)[number]

/** An account of this host. */
export type User = { name: string; uid: number; home: string }

/** What the service starts. Paths are absolute. */
export type Launch = {
  name: ServiceName
  /** The program Node, and bin/agent-swarm.js. */
  node: string
  entry: string
  /** AGENT_SWARM_HOME. */
  home: string
  /** Whose service it is: the caller's own, or that of a system unit. */
  user: User
}

export type Host = {
  platform: NodeJS.Platform
  run: Run
  environment: Readonly<Record<string, string | undefined>>
  /** Before the paths of the system, `/etc` and `/var`; for tests. */
  root: string
}

/** A command that is run. `ifItFails`: the service does without it, and the person reads this. */
export type Step = {
  program: string
  argv: readonly string[]
  doing: string
  env?: Record<string, string>
  answers?: readonly number[]
  ifItFails?: string
}

export type ServiceState = {
  /** Whether the system starts it by itself. */
  enabled: boolean
  /** Null: the system does not tell. */
  running: boolean | null
  pid: number | null
  /** How often it ended and was started again since it was started by hand. */
  restarts: number | null
  /** When the system starts it, once it is enabled. */
  startsAt: 'boot' | 'log-in'
  /** Whether it runs on when its user logs out. */
  survivesLogout: boolean
  /** What the person should know: sentences. */
  notes: readonly string[]
}

export type ServiceSystem = {
  label: 'systemd' | 'launchd' | 'Task Scheduler'
  file: string
  content: string
  user: User
  programs: readonly string[]
  /** Of the service: what is in its config.yaml counts from its next start on. */
  home: string
  encoding: 'utf8' | 'utf16le'
  /** Whether a file with this text was written by us. */
  isOurs(text: string): boolean
  /** Whether our file with this text is what an install would write, for whichever user it was installed. */
  isCurrent(text: string): boolean
  /** Makes the system know the written file, and starts the service. */
  install: readonly Step[]
  /** Ends the service, while the file is there; then makes the system forget it. */
  end: readonly Step[]
  /** Ends the service and starts it again, with the settings as they are now. */
  restart: readonly Step[]
  forget: readonly Step[]
  state(): Promise<ServiceState>
  /** A program that prints the log, or the file that holds it. */
  log: { program: string; argv: readonly string[]; follow: readonly string[] } | { file: string }
  runStep(step: Step): Promise<void>
}
