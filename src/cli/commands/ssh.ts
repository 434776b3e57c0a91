import type { Provider } from '../../../providers/provider.ts'
import { shellCommand } from '../../command-line.ts'
import { fail } from '../../errors.ts'
import { attachProgram } from '../../exec.ts'
import { type RunnerContext, resolveTicket } from '../../runner/context.ts'
import { sshArguments } from '../../runner/ssh/options.ts'
import { shellWord } from '../../shell-word.ts'
import { machineArgument } from '../arguments.ts'
import { runningMachine } from '../running-machine.ts'
import { type Invocation, printNote, type RunCommand } from '../terminal/output.ts'
import { openProgress } from '../terminal/progress.ts'
import { withRunnerContext } from '../with-context.ts'

const PROFILE = '/etc/profile.d/agent-swarm-project.sh'
const CONFIG_FLAGS = ['install', 'uninstall', 'dry-run', 'json']

/** Runs `line`, or a shell, on our own terminal. Returns its exit code. */
const attach = async (
  context: RunnerContext,
  { quiet, terminal, verbose }: Invocation,
  { name, shellInGuest, sshInfo }: Provider,
  { ticket, vmId, isShell, line }: { ticket: string; vmId: string; isShell: boolean; line: string | null },
): Promise<number> => {
  const { environment } = context.config
  if (shellInGuest !== undefined) {
    if (isShell && !quiet) printNote(`${ticket} is ${name}: this shell runs in its folder on this host.`, terminal)
    const { program, argv, env } = await shellInGuest(vmId, line)
    return attachProgram(environment, program, argv, env)
  }
  const ssh = await sshInfo(vmId)
  const argv = [...sshArguments(context.home, vmId, ssh), '--', ssh.host, ...(line === null ? [] : [line])]
  if (verbose) printNote(`+ ${shellCommand('ssh', argv)}`, terminal)
  return attachProgram(environment, 'ssh', argv)
}

/**
 * The command line, in the project and with its environment where the machine has one. Shells get there by their profile; scp and
 * rsync begin in the home folder.
 */
const inProject = ({ registry }: RunnerContext, ticket: string, line: string): string =>
  registry.project(ticket) === null ? line : `[ ! -r ${PROFILE} ] || . ${PROFILE}; ${line}`

/** In a machine that is a folder of this host: it has no profile. The clone may have failed. */
const inFolder = ({ registry }: RunnerContext, ticket: string, line: string | null): string | null => {
  const path = registry.project(ticket)?.path
  if (path === undefined) return line
  return `cd -- ${shellWord(path.replace(/^~?\/+/, ''))} 2>/dev/null; ${line ?? 'exec /bin/sh -i'}`
}

export const run: RunCommand = async invocation => {
  const { flags, terminal } = invocation
  if (typeof flags.via === 'string') return (await import('./ssh-via.ts')).run(invocation)
  if (flags.stdio === true) return (await import('./ssh-stdio.ts')).run(invocation)
  if (flags.home !== undefined) throw fail('usage', '--home needs --stdio')
  if (flags.config === true) return (await import('./ssh-config.ts')).run(invocation)
  const configFlag = CONFIG_FLAGS.find(flag => flags[flag] === true)
  if (configFlag !== undefined) throw fail('usage', `--${configFlag} needs --config`)
  const [word, ...command] = invocation.words
  if (word === undefined)
    throw fail('usage', 'Missing argument <TICKET>.', 'Usage: agent-swarm ssh <TICKET>, or agent-swarm ssh --config')
  const typed = await machineArgument(word, terminal)
  const progress = openProgress(invocation)
  return withRunnerContext(
    invocation,
    async context => {
      const ticket = resolveTicket(context, typed)
      const { vmId, provider } = await runningMachine(invocation, 'ssh', context, ticket, progress)
      progress.end(true)
      // Joined as ssh joins them: the shell in the machine parses the line.
      const typedLine = command.length === 0 ? null : command.join(' ')
      const opened = await context.provider(provider)
      if (opened.shellInGuest !== undefined) {
        const isShell = typedLine === null
        return attach(context, invocation, opened, {
          ticket,
          vmId,
          isShell,
          line: inFolder(context, ticket, typedLine),
        })
      }
      const line = typedLine === null ? null : inProject(context, ticket, typedLine)
      return attach(context, invocation, opened, { ticket, vmId, isShell: line === null, line })
    },
    progress.note,
  )
}
