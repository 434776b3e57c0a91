/** `ssh --via HOST`: a machine of a runner on another host, through the person's own ssh. */
import { join } from 'node:path'
import { shellCommand } from '../../command-line.ts'
import { fail } from '../../errors.ts'
import { attachProgram, openRun } from '../../exec.ts'
import { askViaMachines, sshVariables, type ViaHost, viaArguments, viaHost } from '../../runner/ssh/via.ts'
import { planViaInstall, planViaUninstall } from '../../runner/ssh/via-config.ts'
import { ticketArgument } from '../arguments.ts'
import { personHome, showSteps } from '../person-ssh.ts'
import { type Invocation, printNote, type RunCommand } from '../terminal/output.ts'

/** What a shell ends with when it does not find the program. */
const NOT_FOUND = 127

const usage = (message: string) =>
  fail(
    'usage',
    message,
    'Usage: agent-swarm ssh --via HOST <TICKET> [-- command], or ssh --config --via HOST --install',
  )

const attach = async (invocation: Invocation, host: ViaHost): Promise<number> => {
  const { flags, quiet, terminal, verbose } = invocation
  const [word, ...command] = invocation.words
  if (word === undefined) throw usage('Missing argument <TICKET>.')
  const ticket = ticketArgument(word)
  const { environment } = await invocation.config()
  const hasTerminal = terminal.stdin.isTTY === true && terminal.stdout.isTTY === true
  const line = command.length === 0 ? null : command.join(' ')
  const argv = viaArguments(host, ticket, { line, start: flags.start === true, hasTerminal })
  if (verbose) printNote(`+ ${shellCommand('ssh', argv)}`, terminal)
  const code = await attachProgram(environment, 'ssh', argv, sshVariables(environment))
  if (code === NOT_FOUND && line === null && !quiet)
    printNote(
      `${host} did not find agent-swarm. It must be on the PATH of commands over ssh there: ssh ${host} agent-swarm --version`,
      terminal,
    )
  return code
}

const keep = async (invocation: Invocation, host: ViaHost): Promise<number> => {
  const { flags, signal, words } = invocation
  if (words.length > 0) throw usage('--config --via is for all machines of the host, and takes no ticket.')
  if ((flags.install === true) === (flags.uninstall === true))
    throw usage('--config --via needs --install or --uninstall')
  const { environment } = await invocation.config()
  const folder = join(personHome(environment, invocation.terminal.platform), '.ssh')
  const way = flags.install === true ? 'install' : 'uninstall'
  const plan =
    way === 'install'
      ? planViaInstall(folder, host, await askViaMachines(openRun(environment), environment, host, signal))
      : planViaUninstall(folder, host)
  if (flags['dry-run'] !== true) for (const step of plan.steps) step.run()
  const done = {
    install: `The machines of ${host} are now hosts of ssh by their tickets, with your own keys (authorizedKeys there). Do it again when machines have come or gone.`,
    uninstall: `Removed what agent-swarm had added to ${folder} for the machines of ${host}.`,
  }
  showSteps(invocation, { ...plan, command: `ssh --config --via ${host} --${way}`, done: done[way], way })
  return 0
}

export const run: RunCommand = invocation => {
  const { flags } = invocation
  const host = viaHost(String(flags.via))
  if (flags.stdio === true || flags.home !== undefined) throw usage('--via cannot be combined with --stdio or --home')
  if (flags.config === true) {
    if (flags.start === true) throw usage('--start cannot be used with --config')
    return keep(invocation, host)
  }
  const other = ['install', 'uninstall', 'dry-run', 'json'].find(name => flags[name] === true)
  if (other !== undefined) throw usage(`--${other} needs --config`)
  return attach(invocation, host)
}
