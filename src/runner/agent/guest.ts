/** The agent's unit in a machine: started, looked at and stopped by one script; its output comes over the link. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { GUEST_USER } from '../../../base-image/seed.ts'
import type { Provider } from '../../../providers/provider.ts'
import { fail } from '../../errors.ts'
import type { Run } from '../../exec.ts'
import type { LinkService } from '../../schema/link.ts'
import type { Link } from '../link/types.ts'
import { runInGuest } from '../ssh/guest.ts'
import { AGENT_STATE } from './prompt.ts'

const DEADLINE_MS = 60_000

/** All text for one run: it reaches the machine as base64, in files. */
export type UnitSpec = {
  /** Words for a shell: the first as it is, the others in quotes. */
  words: readonly string[]
  environment: Readonly<Record<string, string>>
  prompt: string
  task: string
  /** Below the agents' folder. */
  files: Readonly<Record<string, string>>
  seconds: number
  session: string | null
  sessions: { home: boolean; folder: string } | null
}
export type UnitState = {
  active: boolean
  /** systemd's own word for how it ended, `timeout` for example. */
  result: string
  exit: number | null
  /** Bytes of its output. */
  size: number
  /** Whether the machine has the run's folder. */
  folder: boolean
  boot: string
  errors: string
}
type Started = { how: 'started' | 'already' | 'no-session'; boot: string }

export type AgentGuest = {
  /** Starts the unit once, however often it is called. */
  start(run: string, spec: UnitSpec): Promise<Started>
  look(run: string): Promise<UnitState>
  stop(run: string): Promise<void>
  /** Stops the units of all runs: a checkpoint may have brought an old one back. */
  stopAll(): Promise<void>
  follow: Link['follow']
  /** Where the machine reaches a service of the link: an address without a slash at its end. */
  address(service: LinkService): string
  /** The agents' folder in the machine. */
  state: string
}

const quoted = (word: string) => `'${word.replaceAll("'", "'\\''")}'`
const base64 = (text: string) => Buffer.from(text).toString('base64')
const script = (name: string) => readFileSync(join(import.meta.dirname, name), 'utf8')

const RUN = /^[0-9a-f]{8}$/
const FILE = /^[a-z][a-z0-9./-]{0,60}$/

/** A file as a line of the script. Names are ours, and contents base64. */
const writeFile = (folder: '$folder' | '$state', name: string, content: string): string => {
  if (!FILE.test(name) || name.includes('..')) throw new RangeError(`${name} is not a file of an agent`)
  return `mkdir -p "$(dirname "${folder}/${name}")"; printf %s '${base64(content)}' | base64 -d > "${folder}/${name}"`
}

const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/
const exports = (environment: Readonly<Record<string, string>>): string =>
  Object.entries(environment)
    .map(([name, value]) => {
      if (!VARIABLE.test(name)) throw new RangeError(`${name} is not the name of a variable`)
      return `export ${name}=${quoted(value)}\n`
    })
    .join('')

type Verb = 'start' | 'look' | 'stop' | 'stop-all'
const agentScript = (verb: Verb, run: string, more = ''): string => {
  if (!RUN.test(run)) throw new RangeError(`${run} is not a run`)
  return `verb=${verb}\nrun=${run}\nuser=${GUEST_USER}\n${more}${script('agent.sh')}`
}

export const startScript = (run: string, spec: UnitSpec): string => {
  const [program = 'false', ...words] = spec.words
  const files = [
    writeFile('$folder', 'unit', script('unit.sh')),
    writeFile('$folder', 'environment', exports(spec.environment)),
    writeFile('$folder', 'command', [program, ...words.map(quoted)].join(' ')),
    writeFile('$folder', 'prompt', spec.prompt),
    writeFile('$state', 'task.md', spec.task),
    writeFile('$state', 'follow', script('follow.sh')),
    ...Object.entries(spec.files).map(([name, content]) => writeFile('$state', name, content)),
  ]
  const { session, sessions } = spec
  if (session !== null && !/^[A-Za-z0-9-]{1,100}$/.test(session)) throw new RangeError('that is not a session')
  return agentScript(
    'start',
    run,
    [
      `seconds=${Math.ceil(spec.seconds)}`,
      `sessions=${sessions === null ? '' : quoted(`${sessions.home ? 'home/' : ''}${sessions.folder}`)}`,
      `session=${sessions === null || session === null ? '' : session}`,
      `write_files() {\n${files.join('\n')}\n}\n`,
    ].join('\n'),
  )
}

/** A command line for a terminal in the machine: tmux with a window that follows the run, and a shell. */
export const attachLine = (run: string): string => {
  if (!RUN.test(run)) throw new RangeError(`${run} is not a run`)
  return `run=${run}\n${script('attach.sh')}`
}

const unitState = v.object({
  active: v.string(),
  result: v.string(),
  exit: v.string(),
  size: v.pipe(v.string(), v.regex(/^\d{1,12}$/)),
  folder: v.picklist(['yes', 'no']),
  boot: v.pipe(v.string(), v.regex(/^[0-9a-f-]{36}$/)),
  errors: v.string(),
})
const started = v.tuple([
  v.picklist(['started', 'already', 'no-session']),
  v.pipe(v.string(), v.regex(/^[0-9a-f-]{36}$/)),
])

const unreadable = (vmId: string) =>
  fail('guest-unreachable', `looking at the agent of ${vmId}: the machine gives an answer that cannot be read`)

export const parseUnitState = (vmId: string, stdout: string): UnitState => {
  const members = stdout.split('\n').map(line => {
    const at = line.indexOf('=')
    return [line.slice(0, at), line.slice(at + 1)]
  })
  const read = v.safeParse(unitState, Object.fromEntries(members))
  if (!read.success) throw unreadable(vmId)
  const { active, result, exit, size, folder, boot, errors } = read.output
  return {
    ...{ result, boot },
    active: ['active', 'activating', 'deactivating', 'reloading'].includes(active),
    exit: /^\d{1,3}$/.test(exit) ? Number(exit) : null,
    size: Number(size),
    folder: folder === 'yes',
    errors: Buffer.from(errors, 'base64').toString('utf8'),
  }
}

/** Stops the units of all runs, in a machine that may have no link. */
export const stopAgents = async (
  context: { run: Run; home: string },
  provider: Provider,
  vmId: string,
): Promise<void> => {
  const options = { deadline: DEADLINE_MS, maxOutput: 100_000 }
  await runInGuest(context, provider, vmId, agentScript('stop-all', '00000000'), options)
}

export const openAgentGuest = (
  context: { run: Run; home: string },
  provider: Provider,
  vmId: string,
  { follow, address, state = AGENT_STATE }: Pick<AgentGuest, 'follow' | 'address'> & { state?: string },
): AgentGuest => {
  const ask = async (text: string): Promise<string> =>
    (await runInGuest(context, provider, vmId, text, { deadline: DEADLINE_MS, maxOutput: 100_000 })).stdout
  return {
    start: async (run, spec) => {
      const lines = (await ask(startScript(run, spec))).trim().split('\n')
      const read = v.safeParse(started, lines.slice(-2))
      if (!read.success) throw unreadable(vmId)
      return { how: read.output[0], boot: read.output[1] }
    },
    look: async run => parseUnitState(vmId, await ask(agentScript('look', run))),
    stop: async run => void (await ask(agentScript('stop', run))),
    stopAll: () => stopAgents(context, provider, vmId),
    follow,
    address,
    state,
  }
}
