/** Ports of a machine as local ports, while the command runs. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { SshInfo } from '../../../providers/provider.ts'
import { shellCommand } from '../../command-line.ts'
import type { Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { watchProgram } from '../../exec.ts'
import { type RunnerContext, resolveTicket } from '../../runner/context.ts'
import { asArguments, sshArguments } from '../../runner/ssh/options.ts'
import { machineArgument } from '../arguments.ts'
import { providerWithSsh, runningMachine } from '../running-machine.ts'
import { type Invocation, print, printJson, printNote, type RunCommand } from '../terminal/output.ts'
import { openProgress } from '../terminal/progress.ts'
import { withRunnerContext } from '../with-context.ts'

const LOOPBACK = '127.0.0.1'
/**
 * LocalCommand prints this once every port is open (OpenSSH's ssh.c, ssh_session2). Probing a port instead would connect to
 * the machine's service.
 */
const OPEN = 'open'
const SSH_OPTIONS = [
  ['BatchMode', 'yes'],
  ['ConnectTimeout', '10'],
  ['ExitOnForwardFailure', 'yes'],
  ['PermitLocalCommand', 'yes'],
  ['LocalCommand', `echo ${OPEN}`],
  // Notices within 15 seconds that the machine is gone.
  ['ServerAliveInterval', '5'],
  ['ServerAliveCountMax', '3'],
] as const
/** Well-known ports without HTTP: SSH, SMTP, MySQL, PostgreSQL, AMQP, Redis, memcached, MongoDB. */
const NOT_HTTP = [22, 25, 3306, 5432, 5672, 6379, 11211, 27017]
/** How many further ports are tried to suggest a free one. */
const SUGGESTION_RANGE = 20
const LAST_PRIVILEGED_PORT = 1023

type Forward = { local: number; remote: number }

const isPort = (port: number) => Number.isInteger(port) && port >= 1 && port <= 65_535

/** `3000`, or `8080:3000`: the local port, then the machine's. */
const forwardArgument = (text: string): Forward => {
  const [, local, remote] = text.match(/^(?:(\d{1,5}):)?(\d{1,5})$/) ?? []
  const forward = { local: Number(local ?? remote), remote: Number(remote) }
  if (isPort(forward.local) && isPort(forward.remote)) return forward
  throw fail(
    'usage',
    `"${text}" is not a port`,
    "Use a port from 1 to 65535, or two: 8080:3000 forwards the machine's port 3000 to the local port 8080.",
  )
}

const forwardArguments = (ticket: Ticket, words: readonly string[]): Forward[] => {
  const forwards = words.map(forwardArgument)
  const twice = forwards.find(({ local }, at) => forwards.findIndex(forward => forward.local === local) !== at)
  if (twice === undefined) return forwards
  throw fail(
    'usage',
    `the local port ${twice.local} is named twice`,
    `Use different ones: agent-swarm forward ${ticket} ${twice.local} ${twice.local + 1}:${twice.remote}`,
  )
}

/** The system's error code when the local port cannot be used; null when it can. */
const portError = async (port: number): Promise<string | null> => {
  const server = createServer()
  try {
    server.listen({ host: LOOPBACK, port, exclusive: true })
    await once(server, 'listening')
    return null
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error)
  } finally {
    server.close()
  }
}

const freePortAfter = async (port: number): Promise<number | null> => {
  const first = Math.max(port, LAST_PRIVILEGED_PORT) + 1
  for (let next = first; next <= 65_535 && next < first + SUGGESTION_RANGE; next += 1)
    if ((await portError(next)) === null) return next
  return null
}

const portErrors: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is in use by another program',
  EACCES: 'is reserved for root',
}

const requireFree = async (ticket: Ticket, { local, remote }: Forward): Promise<void> => {
  const code = await portError(local)
  if (code === null) return
  const other = (await freePortAfter(local)) ?? '<port>'
  throw fail(
    'busy',
    `forwarding port ${remote} of ${ticket}: ${LOOPBACK}:${local} ${portErrors[code] ?? `cannot be opened: ${code}`}`,
    `Use another local port: agent-swarm forward ${ticket} ${other}:${remote}`,
  )
}

const printOpen = ({ json, quiet, terminal }: Invocation, ticket: Ticket, forwards: readonly Forward[]): void => {
  if (json) {
    const rows = forwards.map(({ local, remote }) => ({ host: LOOPBACK, port: local, to: remote }))
    printJson<'forward'>({ ticket, forwards: rows }, terminal)
  } else if (!quiet) {
    for (const { local, remote } of forwards)
      print(
        `${NOT_HTTP.includes(remote) ? '' : 'http://'}${LOOPBACK}:${local} is port ${remote} of ${ticket}`,
        terminal,
      )
    if (terminal.stdout.isTTY === true) printNote('Press Ctrl-C to stop.', terminal)
  }
}

const sshForward = (home: string, vmId: string, ssh: SshInfo, forwards: readonly Forward[]): string[] => [
  // Before the options: of two values, ssh takes the first.
  '-N',
  ...asArguments(SSH_OPTIONS),
  ...sshArguments(home, vmId, ssh),
  ...forwards.flatMap(({ local, remote }) => ['-L', `${LOOPBACK}:${local}:localhost:${remote}`]),
  ...['--', ssh.host],
]

/** Those that its project names. */
const projectPorts = ({ registry }: RunnerContext, ticket: Ticket): string[] => {
  const ports = registry.project(ticket)?.ports ?? []
  if (ports.length > 0) return ports.map(String)
  throw fail('usage', 'Missing argument <port>: the project names none', `Usage: agent-swarm forward ${ticket} 3000`)
}

export const run: RunCommand = async invocation => {
  const { signal, terminal, verbose, words } = invocation
  const [word, ...ports] = words
  const typed = await machineArgument(word, terminal)
  const named = forwardArguments(typed, ports)
  const progress = openProgress(invocation)
  return withRunnerContext(
    invocation,
    async context => {
      const ticket = resolveTicket(context, typed)
      const provider = await providerWithSsh(context, ticket, {
        lacks: 'ports of its own',
        remedy: 'Its programs listen on this host.',
      })
      const forwards = ports.length > 0 ? named : forwardArguments(ticket, projectPorts(context, ticket))
      // Checked before a machine is started for it.
      for (const forward of forwards) await requireFree(ticket, forward)
      const { vmId } = await runningMachine(invocation, 'forward', context, ticket, progress)
      progress.end(true)
      const argv = sshForward(context.home, vmId, await provider.sshInfo(vmId), forwards)
      if (verbose) printNote(`+ ${shellCommand('ssh', argv)}`, terminal)
      let isOpen = false
      const onLine = (line: string) => {
        if (line !== OPEN || isOpen) return
        isOpen = true
        printOpen(invocation, ticket, forwards)
      }
      const code = await watchProgram(context.config.environment, 'ssh', argv, {
        ...{ signal, onLine },
        onError: line => printNote(line, terminal),
      })
      if (signal.aborted) return 0
      const remedy = `See: agent-swarm status ${ticket}`
      throw isOpen
        ? fail('network', `the connection to ${ticket} was lost, and its local ports are closed`, remedy)
        : fail('guest-unreachable', `forwarding ports of ${ticket}: ssh failed with exit status ${code}`, remedy)
    },
    progress.note,
  )
}
