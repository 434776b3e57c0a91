/** The logs of a project's setup and start, from its machine. */
import { fail } from '../../errors.ts'
import { watchProgram } from '../../exec.ts'
import { type RunnerContext, resolveTicket } from '../../runner/context.ts'
import { LOGS, type LogName, readLogs } from '../../runner/project/logs.ts'
import { sshArguments } from '../../runner/ssh/options.ts'
import { GUEST_STATE } from '../../schema/link.ts'
import { machineArgument } from '../arguments.ts'
import { runningMachine } from '../running-machine.ts'
import { type Invocation, print, printJson, printNote, type RunCommand } from '../terminal/output.ts'
import { openProgress } from '../terminal/progress.ts'
import { withRunnerContext } from '../with-context.ts'

/** Bytes before what is added. */
const TAIL = 4_000

type Machine = { ticket: string; vmId: string; provider: string; names: readonly LogName[] }

const follow = async (
  context: RunnerContext,
  { signal, terminal }: Invocation,
  { ticket, vmId, provider: name, names }: Machine,
): Promise<number> => {
  const provider = await context.provider(name)
  if (provider.runInGuest !== undefined)
    throw fail(
      'unsupported',
      `${ticket} is ${name}, whose logs cannot be followed`,
      `Read them: agent-swarm logs ${ticket}`,
    )
  const ssh = await provider.sshInfo(vmId)
  // The names are ours.
  const line = `exec tail -q -c ${TAIL} -F ${names.map(log => `${GUEST_STATE}/${log}.log`).join(' ')} 2>/dev/null`
  const argv = ['-T', ...sshArguments(context.home, vmId, ssh), '--', ssh.host, line]
  const code = await watchProgram(context.config.environment, 'ssh', argv, {
    signal,
    onLine: text => print(text, terminal),
    onError: text => printNote(text, terminal),
  })
  if (signal.aborted) return 0
  throw fail(
    'guest-unreachable',
    `following the logs of ${ticket}: ssh ended with exit status ${code}`,
    `See: agent-swarm status ${ticket}`,
  )
}

const show = async (
  context: RunnerContext,
  invocation: Invocation,
  machine: Machine,
  path: string,
): Promise<number> => {
  const { json, terminal, signal } = invocation
  const { ticket, vmId, names } = machine
  const provider = await context.provider(machine.provider)
  const row = { vmId, ssh: context.registry.environment(ticket)?.ssh ?? null }
  const logs = await readLogs({ context, provider, row }, path, names, signal)
  if (json) printJson<'logs'>({ ticket, logs }, terminal)
  else if (logs.length === 0) printNote(`${ticket} has no logs of ${names.join(' and ')} yet.`, terminal)
  else for (const { name, text } of logs) print(names.length === 1 ? text : `== ${name} ==\n${text}\n`, terminal)
  return 0
}

export const run: RunCommand = async invocation => {
  const { flags, terminal } = invocation
  const typed = await machineArgument(invocation.words[0], terminal)
  const chosen = LOGS.filter(name => flags[name] === true)
  const names = chosen.length === 0 ? LOGS : chosen
  const progress = openProgress(invocation)
  return withRunnerContext(
    invocation,
    async context => {
      const ticket = resolveTicket(context, typed)
      const project = context.registry.project(ticket)
      if (project === null)
        throw fail(
          'no-such-environment',
          `${ticket} has no machine with a project`,
          `See: agent-swarm status ${ticket}`,
        )
      const { vmId, provider } = await runningMachine(invocation, 'logs', context, ticket, progress)
      progress.end(true)
      const machine = { ticket, vmId, provider, names }
      return flags.follow === true
        ? follow(context, invocation, machine)
        : show(context, invocation, machine, project.path)
    },
    progress.note,
  )
}
