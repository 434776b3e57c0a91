/** `ssh --config`: machines as hosts of ssh's own configuration, printed or kept in a file. */
import { join } from 'node:path'
import { fail } from '../../errors.ts'
import { listEnvironments, type RunnerContext, requireEnvironment, resolveTicket } from '../../runner/context.ts'
import { installSshConfig, uninstallSshConfig } from '../../runner/ssh/config-file.ts'
import { hostOf, hostsText, noHostReason, toHost } from '../../runner/ssh/config-text.ts'
import { publicHostKey } from '../../runner/ssh/keys.ts'
import { machineArgument } from '../arguments.ts'
import { personHome, type SshWay, showSteps } from '../person-ssh.ts'
import { type Invocation, printJson, printNote, type RunCommand } from '../terminal/output.ts'
import { withRunnerContext } from '../with-context.ts'

const show = async ({ words: [word], json, terminal }: Invocation, context: RunnerContext): Promise<number> => {
  const ticket = word === undefined ? null : resolveTicket(context, await machineArgument(word, terminal))
  if (ticket !== null) requireEnvironment(context, ticket)
  const { environments, unread } = await listEnvironments(context, { usage: false })
  for (const { message } of unread)
    printNote(`${message}\nIts machines are shown with their last known state.`, terminal)
  const idleness = context.registry.idlenessByTicket()
  const rows = environments
    .filter(environment => ticket === null || environment.ticket === ticket)
    .map(environment => hostOf(environment, idleness.get(environment.ticket)))
  const [first] = rows
  const reason = first === undefined ? null : noHostReason(first)
  if (ticket !== null && reason !== null)
    throw fail(first?.status === 'running' ? 'unsupported' : 'not-running', reason)
  if (json) {
    const hosts = rows.map(row => {
      const host = toHost(context.home, row)
      return {
        ticket: row.ticket,
        names: host?.names ?? [],
        options: host === null ? null : Object.fromEntries(host.options),
        hostKey: publicHostKey(context.home, row.vmId),
        reason: noHostReason(row),
      }
    })
    printJson<'ssh'>(hosts, terminal)
  } else if (first === undefined) printNote('No machines. Create one: agent-swarm create <TICKET>', terminal)
  else terminal.stdout.write(hostsText(context.home, rows))
  return 0
}

const doneText = {
  install: (folder: string) =>
    `Every running machine is now a host of ssh by its ticket (ssh DROP-2100; scp and rsync too). The hosts are kept in ${join(folder, 'agent-swarm.config')}.`,
  uninstall: (folder: string) => `Removed what agent-swarm had added to ${folder}.`,
}

const keep = (invocation: Invocation, context: RunnerContext, way: SshWay): number => {
  const dryRun = invocation.flags['dry-run'] === true
  const home = personHome(context.config.environment, context.platform)
  const change = way === 'install' ? installSshConfig : uninstallSshConfig
  const plan = change(context, { folder: join(home, '.ssh'), dryRun })
  showSteps(invocation, { ...plan, command: `ssh --config --${way}`, done: doneText[way](plan.folder), way })
  return 0
}

/** The flag that keeps or removes the file; null without one. */
const wayOf = ({ flags, words }: Invocation): SshWay | null => {
  const usage = (message: string) => fail('usage', message, 'Usage: agent-swarm ssh --config [TICKET]')
  if (words.length > 1) throw usage(`Unexpected argument "${words[1]}".`)
  if (flags.start === true) throw usage('--start cannot be used with --config')
  if (flags.install === true && flags.uninstall === true) throw usage('use either --install or --uninstall')
  const way = flags.install === true ? 'install' : flags.uninstall === true ? 'uninstall' : null
  if (way === null && flags['dry-run'] === true) throw usage('--dry-run needs --install or --uninstall')
  if (way !== null && words.length > 0) throw usage(`--${way} is for all tickets: agent-swarm ssh --config --${way}`)
  return way
}

export const run: RunCommand = async invocation => {
  const way = wayOf(invocation)
  return withRunnerContext(invocation, async context =>
    way === null ? show(invocation, context) : keep(invocation, context, way),
  )
}
