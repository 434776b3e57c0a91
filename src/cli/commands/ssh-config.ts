/** `ssh --config`: the machines as hosts of ssh's own configuration, printed or kept. */
import { homedir, userInfo } from 'node:os'
import { join } from 'node:path'
import { fail } from '../../errors.ts'
import { listEnvironments, type RunnerContext } from '../../runner/context.ts'
import { installSshConfig, uninstallSshConfig } from '../../runner/ssh/config-file.ts'
import { hostsText, noHostReason, toHost } from '../../runner/ssh/config-text.ts'
import { type Invocation, print, printJson, printNote, type RunCommand, ticketArgument } from '../terminal/output.ts'
import { withRunnerContext } from '../with-context.ts'

const show = async ({ words: [word], json }: Invocation, world: RunnerContext): Promise<number> => {
  const ticket = word === undefined ? null : ticketArgument(word)
  const { environments, unread } = await listEnvironments(world, { usage: false })
  for (const one of unread) printNote(`${one.message}\nIts environments are shown as they were known last.`)
  const asked = environments.filter(one => ticket === null || one.ticket === ticket)
  const [first] = asked
  if (ticket !== null && first === undefined)
    throw fail('no-such-environment', `${ticket} has no environment`, `Make one: agent-swarm create ${ticket}`)
  const because = first === undefined ? null : noHostReason(first)
  if (ticket !== null && because !== null)
    throw fail(first?.status === 'running' ? 'unsupported' : 'not-running', because)
  if (json)
    printJson<'ssh'>(
      asked.map(one => {
        const host = toHost(world.home, one)
        return {
          ticket: one.ticket,
          names: host?.names ?? [],
          options: host === null ? null : Object.fromEntries(host.options),
          because: noHostReason(one),
        }
      }),
    )
  else if (first === undefined) printNote('There are no environments. Make one: agent-swarm create <TICKET>')
  else process.stdout.write(hostsText(world.home, asked))
  return 0
}

/** ssh itself asks the system for the person's folder, and not the environment. */
const sshReadsAnother = (home: string): string | null => {
  try {
    const { homedir } = userInfo()
    return homedir === home ? null : homedir
  } catch {
    // A user id without a name.
    return null
  }
}

const doneSaying = {
  install: (folder: string) =>
    `Every running machine is a host of ssh now, by its ticket (ssh DROP-2100; scp and rsync too), and is kept in ${folder}/agent-swarm.config.`,
  uninstall: (folder: string) => `What agent-swarm had put into ${folder} is taken away.`,
}

export const run: RunCommand = async invocation => {
  const { words, flags, json, quiet } = invocation
  if (words.length > 1) throw fail('usage', `"${words[1]}" is too much: agent-swarm ssh --config [TICKET]`)
  if (flags.start === true) throw fail('usage', '--start does not go with --config')
  if (flags.install === true && flags.uninstall === true) throw fail('usage', 'either --install or --uninstall')
  const which = flags.install === true ? 'install' : flags.uninstall === true ? 'uninstall' : null
  const dryRun = flags['dry-run'] === true
  if (which === null && dryRun) throw fail('usage', '--dry-run goes with --install or --uninstall')
  if (which !== null && words.length > 0)
    throw fail('usage', `--${which} is for all tickets at once: agent-swarm ssh --config --${which}`)
  return withRunnerContext(invocation, async world => {
    if (which === null) return show(invocation, world)
    const home = world.config.environment.HOME || homedir()
    const change = which === 'install' ? installSshConfig : uninstallSshConfig
    const { folder, steps, text } = change(world, { folder: join(home, '.ssh'), dryRun })
    const says = steps.map(step => step.description)
    const result = says.length === 0 ? 'skipped' : dryRun ? 'planned' : 'done'
    if (json) printJson<'ssh'>({ result, steps: says, ...(dryRun ? { text } : {}) })
    else if (!quiet) {
      if (result === 'skipped') print(which === 'install' ? 'It is installed, and up to date.' : 'It is not installed.')
      else if (result === 'planned')
        print(
          [`ssh --config --${which} would`, ...says.map(step => `  - ${step}`), 'Nothing was changed.'].join('\n') +
            (text === null ? '' : `\n\nThe file:\n\n${text.trimEnd()}`),
        )
      else print(doneSaying[which](folder))
      const another = which === 'install' ? sshReadsAnother(home) : null
      if (another !== null)
        printNote(
          `ssh reads the configuration in ${another}/.ssh, whatever HOME says. Name this one: ssh -F ${folder}/config …`,
        )
    }
    return 0
  })
}
