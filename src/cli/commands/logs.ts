/** The logs of a project's setup and start, from its machine, and of its agent, from this host. */
import type { Ticket } from '../../domain.ts'
import { fail, isFailure } from '../../errors.ts'
import { watchProgram } from '../../exec.ts'
import { showAgentLog } from '../../runner/agent/agent-log.ts'
import { type RunnerContext, requireEnvironment, resolveTicket } from '../../runner/context.ts'
import type { Guest } from '../../runner/project/guest.ts'
import { agentLogs, LOGS, type LogName, readLogs } from '../../runner/project/logs.ts'
import { sshArguments } from '../../runner/ssh/options.ts'
import type { AgentReport } from '../../schema/environment.ts'
import { GUEST_STATE } from '../../schema/link.ts'
import { machineArgument } from '../arguments.ts'
import { runningMachine } from '../running-machine.ts'
import { type Invocation, print, printJson, printNote, type RunCommand } from '../terminal/output.ts'
import { openProgress, type ProgressView } from '../terminal/progress.ts'
import { withRunnerContext } from '../with-context.ts'

/** Bytes before what is added. */
const TAIL = 4_000
/** Lines of the agent's log. */
const MAX_AGENT_LINES = 1_000

const NAMES = [...LOGS, 'agent'] as const
type Log = { name: (typeof NAMES)[number]; text: string }
/** `use`: the agent's program, when its log was asked for and there is one. `names`: of the logs in the machine. */
type Wanted = { ticket: Ticket; names: readonly LogName[]; use: AgentReport['use'] | null }

type Machine = Guest & { context: RunnerContext }
type OpenMachine = () => Promise<Machine | null>

/** The machine of the logs in it; started first when the person agrees. Null, after a note, when it does not run and the agent's log can be shown alone. */
const machineOf = async (
  invocation: Invocation,
  context: RunnerContext,
  { ticket, use }: Wanted,
  progress: ProgressView,
): Promise<Machine | null> => {
  try {
    const { vmId, provider, ssh } = await runningMachine(invocation, 'logs', context, ticket, progress)
    progress.end(true)
    return { context, provider: await context.provider(provider), row: { vmId, ssh } }
  } catch (error) {
    if (use === null || !isFailure(error) || error.failure.kind !== 'not-running') throw error
    const { message, remedy } = error.failure
    printNote(`${message}: the logs in it are left out. ${remedy ?? ''}`.trim(), invocation.terminal)
    return null
  }
}

const followMachine = async (
  { context, provider, row }: Machine,
  { ticket, names }: Wanted,
  signal: AbortSignal,
  { onLine, onError }: Record<'onLine' | 'onError', (line: string) => void>,
): Promise<void> => {
  if (provider.runInGuest !== undefined)
    throw fail(
      'unsupported',
      `${ticket} is ${provider.name}, whose logs of setup and start cannot be followed`,
      `Read them: agent-swarm logs ${ticket}`,
    )
  const ssh = await provider.sshInfo(row.vmId)
  // The names are ours.
  const line = `exec tail -q -c ${TAIL} -F ${names.map(log => `${GUEST_STATE}/${log}.log`).join(' ')} 2>/dev/null`
  const argv = ['-T', ...sshArguments(context.home, row.vmId, ssh), '--', ssh.host, line]
  const code = await watchProgram(context.config.environment, 'ssh', argv, { signal, onLine, onError })
  if (signal.aborted) return
  throw fail(
    'guest-unreachable',
    `following the logs of ${ticket}: ssh ended with exit status ${code}`,
    `See: agent-swarm status ${ticket}`,
  )
}

const follow = async (
  context: RunnerContext,
  { terminal, signal }: Invocation,
  wanted: Wanted,
  openMachine: OpenMachine,
): Promise<number> => {
  const { ticket, names, use } = wanted
  const onLine = (line: string) => print(line, terminal)
  const onError = (line: string) => printNote(line, terminal)
  const guest = names.length === 0 ? null : await openMachine()
  // The one that fails ends the other.
  const ending = new AbortController()
  const both = AbortSignal.any([signal, ending.signal])
  const machine = guest === null ? null : followMachine(guest, wanted, both, { onLine, onError })
  const { vmId } = requireEnvironment(context, ticket)
  const agent = use === null ? null : showAgentLog({ home: context.home, vmId, use }, onLine, both)
  try {
    await Promise.all([machine, agent])
    return 0
  } finally {
    ending.abort()
  }
}

const show = async (
  context: RunnerContext,
  { json, terminal, signal }: Invocation,
  { ticket, names, use }: Wanted,
  openMachine: OpenMachine,
): Promise<number> => {
  const project = context.registry.project(ticket)
  const logs: Log[] = []
  const machine = project !== null && names.length > 0 ? await openMachine() : null
  if (project !== null && machine !== null) logs.push(...(await readLogs(machine, project.path, names, signal)))
  if (use !== null) logs.push(...(await agentLogs(context, ticket, MAX_AGENT_LINES)))
  const asked = [...names, ...(use === null ? [] : ['agent'])]
  const problem = project?.problem ?? null
  if (json) printJson<'logs'>({ ticket, logs }, terminal)
  else if (logs.length === 0)
    printNote(
      `${ticket} has no logs of ${asked.join(' and ')}${problem === null || names.length === 0 ? ' yet' : `: ${problem}`}.`,
      terminal,
    )
  else for (const { name, text } of logs) print(asked.length === 1 ? text : `== ${name} ==\n${text}\n`, terminal)
  return 0
}

/** What was asked for, of what the ticket has: without a choice all of it. */
const wantedLogs = ({ registry }: RunnerContext, ticket: Ticket, chosen: readonly Log['name'][]): Wanted => {
  const isAsked = (name: Log['name']) => chosen.length === 0 || chosen.includes(name)
  const agent = isAsked('agent') ? registry.agent(ticket) : null
  const names = registry.project(ticket) === null ? [] : LOGS.filter(isAsked)
  if (agent !== null || names.length > 0) return { ticket, names, use: agent?.use ?? null }
  if (chosen.length > 0 && chosen.every(name => name === 'agent'))
    throw fail(
      'not-configured',
      `the machine of ${ticket} has no agent`,
      `Start one: agent-swarm agent start ${ticket}`,
    )
  throw fail(
    'not-configured',
    `the machine of ${ticket} has no project`,
    `Give it one: agent-swarm create ${ticket} --repo OWNER/NAME`,
  )
}

export const run: RunCommand = async invocation => {
  const { flags, json, terminal } = invocation
  const typed = await machineArgument(invocation.words[0], terminal)
  const chosen = NAMES.filter(name => flags[name] === true)
  if (json && flags.follow === true)
    throw fail('usage', '--follow prints lines, and no JSON', 'Without --follow: agent-swarm logs TICKET --json')
  const progress = openProgress(invocation)
  return withRunnerContext(
    invocation,
    async context => {
      const ticket = resolveTicket(context, typed)
      requireEnvironment(context, ticket)
      const wanted = wantedLogs(context, ticket, chosen)
      if (wanted.names.length === 0 && LOGS.some(name => chosen.includes(name)))
        printNote(`The machine of ${ticket} has no project, and so no logs of setup and start.`, terminal)
      const openMachine = () => machineOf(invocation, context, wanted, progress)
      return (flags.follow === true ? follow : show)(context, invocation, wanted, openMachine)
    },
    progress.note,
  )
}
