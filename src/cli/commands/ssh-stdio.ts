/**
 * `ssh --stdio TICKET`: carries bytes between standard input and output and the machine's SSH server, for ProxyCommand of ssh. The
 * machine is woken first when it sleeps. ssh itself checks the host key and logs in.
 */
import { connect, type Socket } from 'node:net'
import { pipeline } from 'node:stream/promises'
import type { SshInfo } from '../../../providers/provider.ts'
import { fail, failureOf } from '../../errors.ts'
import { resolveTicket } from '../../runner/context.ts'
import { machineArgument } from '../arguments.ts'
import { providerWithSsh, runningMachine } from '../running-machine.ts'
import type { Invocation, RunCommand } from '../terminal/output.ts'
import { openProgress } from '../terminal/progress.ts'
import { withRunnerContext } from '../with-context.ts'

const CONNECT_MS = 15_000

/** Of a machine that runs by now. The registry is closed again: a login may last for days. */
const addressOf = async (invocation: Invocation): Promise<SshInfo> => {
  const typed = await machineArgument(invocation.words[0], invocation.terminal)
  const progress = openProgress({ ...invocation, quiet: true })
  return withRunnerContext(
    invocation,
    async context => {
      const ticket = resolveTicket(context, typed)
      const remedy = `Open a shell in its folder: agent-swarm ssh ${ticket}`
      const provider = await providerWithSsh(context, ticket, { lacks: 'SSH server', remedy })
      const { vmId } = await runningMachine(invocation, 'ssh', context, ticket, progress)
      return provider.sshInfo(vmId)
    },
    progress.note,
  )
}

const connected = (socket: Socket, { host, port }: SshInfo): Promise<void> =>
  new Promise((resolve, reject) => {
    const failed = (reason: string) =>
      reject(
        fail(
          'guest-unreachable',
          `connecting to ${host}:${port}: ${reason}`,
          'See whether it runs: agent-swarm status',
        ),
      )
    socket.setTimeout(CONNECT_MS, () => failed(`no answer within ${CONNECT_MS / 1000} s`))
    socket.once('error', error => failed(error.message))
    socket.once('connect', () => {
      socket.setTimeout(0)
      socket.removeAllListeners('error')
      resolve()
    })
  })

/** Until the machine ends the connection, or ours breaks. What was read before the end of our input still arrives there. */
const carry = async (socket: Socket, signal: AbortSignal): Promise<void> => {
  // Nothing that was typed may wait for more of it.
  socket.setNoDelay(true)
  const up = pipeline(process.stdin, socket, { signal, end: true })
  // Once the machine has ended the connection, nobody takes the rest of our input.
  up.catch(() => {})
  await pipeline(socket, process.stdout, { signal, end: false })
}

export const run: RunCommand = async invocation => {
  const { words, signal } = invocation
  const usage = (message: string) => fail('usage', message, 'Usage: agent-swarm ssh --stdio TICKET')
  if (words.length !== 1) throw usage('--stdio takes one ticket, and no command.')
  if (invocation.terminal.stdin.isTTY === true)
    throw usage('--stdio carries bytes for ssh, as its ProxyCommand, and its input is a terminal.')
  const address = await addressOf(invocation)
  const socket = connect({ host: address.host, port: address.port, allowHalfOpen: true })
  try {
    await connected(socket, address)
    await carry(socket, signal)
    return 0
  } catch (error) {
    if (signal.aborted) return 1
    const failure = failureOf(error, 'carrying bytes')
    throw failure.kind === 'unknown'
      ? fail('network', `the connection was lost: ${failure.message}`, null, error)
      : error
  } finally {
    socket.destroy()
    process.stdin.destroy()
  }
}
