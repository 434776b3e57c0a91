/** Ports of a machine as ports of this one's loopback, while the command runs. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { openWatch } from '../../exec.ts'
import { requireEnvironment } from '../../runner/context.ts'
import { asArguments, sshArguments } from '../../runner/ssh/options.ts'
import { runningMachine } from '../running.ts'
import { print, printJson, printNote, type RunCommand, ticketArgument } from '../terminal/output.ts'
import { openProgress } from '../terminal/progress.ts'
import { shellCommand, withRunnerContext } from '../with-context.ts'

const LOOPBACK = '127.0.0.1'
/** What ssh has said by a command of its own once every port is open (OpenSSH's ssh.c, ssh_session2): to look at a port would be a visit to the machine. */
const OPEN = 'open'
const FORWARDING = [
  ['BatchMode', 'yes'],
  ['ConnectTimeout', '10'],
  ['ExitOnForwardFailure', 'yes'],
  ['PermitLocalCommand', 'yes'],
  ['LocalCommand', `echo ${OPEN}`],
  // A machine that is gone is noticed within 15 seconds.
  ['ServerAliveInterval', '5'],
  ['ServerAliveCountMax', '3'],
] as const
/** Well-known ports that speak no HTTP: SSH, SMTP, MySQL, PostgreSQL, AMQP, Redis, memcached, MongoDB. */
const NO_HTTP = [22, 25, 3306, 5432, 5672, 6379, 11211, 27017]
/** How many ports further on are tried for one to name. */
const NEAR = 20

type Forward = { here: number; there: number }

const isPort = (port: number) => Number.isInteger(port) && port >= 1 && port <= 65_535

/** `3000`, or `8080:3000`: the port here, then the machine's. */
const forwardArgument = (text: string): Forward => {
  const [, here, there] = text.match(/^(?:(\d{1,5}):)?(\d{1,5})$/) ?? []
  const forward = { here: Number(here ?? there), there: Number(there) }
  if (!isPort(forward.here) || !isPort(forward.there))
    throw fail(
      'usage',
      `"${text}" is no port`,
      'Name a port from 1 to 65535, or two: 8080:3000 is port 3000 of the machine as 8080 here.',
    )
  return forward
}

/** Null when it can be listened on, else the system's word why not. */
const taken = async (port: number): Promise<string | null> => {
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

const freeNear = async (port: number): Promise<number | null> => {
  for (let near = Math.max(port, 1023) + 1; near <= 65_535 && near <= Math.max(port, 1023) + NEAR; near += 1)
    if ((await taken(near)) === null) return near
  return null
}

const checkFree = async (ticket: Ticket, { here, there }: Forward): Promise<void> => {
  const why = await taken(here)
  if (why === null) return
  const near = (await freeNear(here)) ?? '<port>'
  const said =
    why === 'EADDRINUSE'
      ? 'is taken by another program'
      : why === 'EACCES'
        ? 'is for root alone'
        : `cannot be had: ${why}`
  throw fail(
    'busy',
    `${LOOPBACK}:${here} ${said}, so ${ticket}'s port ${there} cannot have it`,
    `Give it another one: agent-swarm forward ${ticket} ${near}:${there}`,
  )
}

export const run: RunCommand = async invocation => {
  const { words, json, quiet, verbose, signal } = invocation
  const [word, ...ports] = words
  const ticket = ticketArgument(word)
  const forwards = ports.map(forwardArgument)
  const twice = forwards.find(({ here }, at) => forwards.findIndex(one => one.here === here) !== at)
  if (twice !== undefined)
    throw fail(
      'usage',
      `port ${twice.here} here is named twice`,
      `Each needs one of its own: agent-swarm forward ${ticket} ${twice.here} ${twice.here + 1}:${twice.there}`,
    )
  const progress = openProgress({ quiet })
  return withRunnerContext(
    invocation,
    async world => {
      const { provider: name } = requireEnvironment(world, ticket)
      const provider = await world.provider(name)
      if (provider.shellInGuest !== undefined)
        throw fail(
          'unsupported',
          `${ticket} is ${name}: it has no ports of its own`,
          'What listens in it listens on this machine already.',
        )
      // Before a machine is started for it.
      for (const forward of forwards) await checkFree(ticket, forward)
      const { vmId } = await runningMachine(invocation, 'forward', world, ticket, progress)
      progress.end(true)
      const ssh = await provider.sshInfo(vmId)
      const argv = [
        ...asArguments(FORWARDING),
        ...sshArguments(world.home, vmId, ssh),
        ...forwards.flatMap(({ here, there }) => ['-L', `${LOOPBACK}:${here}:localhost:${there}`]),
        ...['-N', '--', ssh.host],
      ]
      if (verbose) printNote(`+ ${shellCommand('ssh', argv)}`)
      let open = false
      const onLine = (line: string) => {
        if (line !== OPEN || open) return
        open = true
        if (json)
          printJson<'forward'>({
            ticket,
            forwards: forwards.map(({ here, there }) => ({ host: LOOPBACK, port: here, to: there })),
          })
        else if (!quiet)
          for (const { here, there } of forwards)
            print(`${NO_HTTP.includes(there) ? '' : 'http://'}${LOOPBACK}:${here} is ${ticket}'s port ${there}`)
        if (!json && !quiet && process.stdout.isTTY) printNote('Ctrl-C ends it.')
      }
      const code = await openWatch(world.config.environment)('ssh', argv, { signal, onLine })
      if (signal.aborted) return 0
      if (!open)
        throw fail(
          'guest-unreachable',
          `no port of ${ticket} could be opened here (ssh ended with ${code})`,
          `How it is: agent-swarm status ${ticket}`,
        )
      throw fail(
        'network',
        `the connection to ${ticket} is lost, and its ports here are closed`,
        `How it is: agent-swarm status ${ticket}`,
      )
    },
    progress.note,
  )
}
