/** Long work in the background: the same command in a process of its own, which outlives the terminal. */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { providers } from '../../providers/index.ts'
import { type Setting, settings } from '../config/settings.ts'
import { fileNameOf, type Ticket } from '../domain.ts'
import { checkName, fail } from '../errors.ts'
import { detachProgram } from '../exec.ts'
import type { RunnerContext } from '../runner/context.ts'
import { type Change, keyOf } from './change-kinds.ts'
import type { Output } from './json.ts'
import type { Invocation } from './terminal/output.ts'

const POLL_MS = 20
/** Lines of the log that a failure quotes. */
const QUOTED_LINES = 5

/** These concern this process alone. Nobody can answer the other one. */
const OWN_FLAGS = ['detach', 'stopped', 'older-than', 'yes', 'repo']

/** The other process does not see the settings of GitHub that a project was chosen by. It sees the one that the machine has. */
const projectFlag = ({ registry }: RunnerContext, change: Change): string[] => {
  if (change.kind !== 'create' || change.project === undefined) return []
  const { repo, named } = change.project
  return named === true || registry.project(change.ticket) === null ? [`--repo=${repo}`] : []
}

/** The command for one ticket, in the foreground. */
const argvFor = (context: RunnerContext, { words, flags }: Invocation, command: string, change: Change): string[] => [
  ...process.argv.slice(1, 2),
  ...[command, keyOf(change), ...(command === 'checkpoint' || command === 'restore' ? words.slice(1) : [])],
  ...Object.entries(flags).flatMap(([flag, value]) => {
    if (OWN_FLAGS.includes(flag) || value === undefined || value === false) return []
    return [value === true ? `--${flag}` : `--${flag}=${value}`]
  }),
  ...projectFlag(context, change),
]

/**
 * What a command on a machine reads: no secret, since only the bot and the runner need one. Credentials of a cloud are passed on
 * only where the machine is or will be there.
 */
const passedOn = ({ registry, config }: Pick<RunnerContext, 'registry' | 'config'>, ticket: Ticket): string[] => {
  const provider = registry.environment(ticket)?.provider ?? config.provider
  return [
    'AGENT_SWARM_HOME',
    ...Object.values<Setting>(settings).flatMap(({ env, secret }) => (secret || env === null ? [] : [env])),
    ...providers
      .filter(({ name, detected }) => (provider === null ? detected : name === provider))
      .flatMap(({ environment }) => environment),
  ]
}

/** Returns once the other process has started its operation, waits for the ticket, or has failed. */
export const detach = async (
  invocation: Invocation,
  context: RunnerContext,
  change: Change,
): Promise<Extract<Output<'checkpoint'>, { result: 'detached' }>> => {
  const { registry, home, config } = context
  const { kind, ticket } = change
  const folder = join(home, 'logs')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const log = join(folder, `${fileNameOf(checkName('environment', ticket))}.log`)
  const newest = () => registry.operations(ticket, 1)[0]?.id ?? 0
  const before = newest()
  const argv = argvFor(context, invocation, kind === 'delete-checkpoint' ? 'checkpoint' : kind, change)
  const { pid, ended } = await detachProgram(config.environment, process.execPath, argv, {
    output: log,
    passOn: passedOn(context, ticket),
  })
  let exitCode: number | null = null
  void ended.then(code => {
    exitCode = code
  })
  const hasBegun = () => newest() !== before || registry.waiting().some(row => row.pid === pid)
  while (exitCode === null && !hasBegun()) await delay(POLL_MS)
  if (exitCode !== null && exitCode !== 0) {
    const output = readFileSync(log, 'utf8').trim().split('\n').slice(-QUOTED_LINES).join('\n')
    throw fail('unknown', `${kind} of ${ticket} failed at once: ${output || `exit status ${exitCode}`}`)
  }
  return { ticket, result: 'detached', kind, pid, log }
}
