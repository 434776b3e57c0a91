/** One SSH connection to a machine: three forwardings to the runner's services, and a conversation with `link.sh`. */
import { join } from 'node:path'
import type { Provider } from '../../../providers/provider.ts'
import { fail } from '../../errors.ts'
import { streamProgram } from '../../exec.ts'
import type { Log } from '../../log.ts'
import { shellWord } from '../../shell-word.ts'
import type { RunnerContext } from '../context.ts'
import { putGuestFiles, runCommandInGuest } from '../ssh/guest.ts'
import { sshArguments } from '../ssh/options.ts'
import { openConversation } from './conversation.ts'
import { type AskActivity, type FollowedFiles, talk } from './following.ts'
import { type GuestLayout, guestHash } from './guest-files.ts'
import type { Services } from './services.ts'

/** What ssh itself may take: a machine can open thousands of channels. After this much computing the link is made anew. */
const LIMITS = { memoryBytes: 256 * 1024 ** 2, cpuSeconds: 6 * 3600, fileBytes: 0 }
/** Exit code of our command line when the machine has no `link.sh`. */
const NO_FILES = 42
const FREE_MS = 30_000

export type LinkContext = Pick<RunnerContext, 'config' | 'home' | 'registry' | 'run' | 'provider' | 'guest'>
export type Connecting = {
  context: LinkContext
  provider: Provider
  vmId: string
  services: Services
  files: FollowedFiles
  activity: AskActivity | null
  log: Log
  signal: AbortSignal
  /** Called when the machine has answered. */
  onUp: () => void
}

/** The sshd of an earlier link, which does not know that its connection is gone, holds the ports. */
const PORT_TAKEN = /remote port forwarding failed/

const withShell = (command: string) => `exec sh -c ${shellWord(command)}`
const linkScript = ({ library }: GuestLayout) => shellWord(join(library, 'link.sh'))
/** Only tests have another state folder than the one that the script knows. */
const environmentOf = ({ state }: GuestLayout) => `AGENT_SWARM_STATE=${shellWord(state)}; export AGENT_SWARM_STATE`

const startSsh = async ({ context, provider, vmId, services }: Connecting, signal: AbortSignal) => {
  const { guest } = context
  const ssh = await provider.sshInfo(vmId)
  const command = `test -r ${linkScript(guest)} || exit ${NO_FILES}; ${environmentOf(guest)}; exec sh ${linkScript(guest)}`
  const argv = [
    ...sshArguments(context.home, vmId, ssh),
    ...['-o', 'BatchMode=yes', '-o', 'ConnectTimeout=10', '-o', 'ExitOnForwardFailure=yes', '-T'],
    ...services.forwards,
    ...['--', ssh.host, withShell(command)],
  ]
  return streamProgram(context.config.environment, 'ssh', argv, { limits: LIMITS, deadline: 0, signal })
}

/** What to do after a connection that ended: another one at once, or later. `reason` may hold the machine's own words. */
export type Ended = { again: 'at once' | 'later'; reason: string }

/** Puts right what kept the link from opening. */
const repair = async (connecting: Connecting, exitCode: number, stderr: string): Promise<Ended> => {
  const { context, provider, vmId, signal } = connecting
  const { guest } = context
  if (exitCode === NO_FILES) {
    await putGuestFiles(context, provider, vmId, signal)
    return { again: 'at once', reason: 'the machine had no files of ours' }
  }
  if (exitCode === 255 && PORT_TAKEN.test(stderr)) {
    const command = withShell(
      `test ! -r ${linkScript(guest)} || { ${environmentOf(guest)}; sh ${linkScript(guest)} free; }`,
    )
    await runCommandInGuest(context, provider, vmId, command, {
      ...{ deadline: FREE_MS, signal, doing: 'freeing the ports of the link' },
    })
    return { again: 'at once', reason: 'another program in the machine has a port of the link' }
  }
  return { again: 'later', reason: stderr === '' ? `ssh ended with ${exitCode}` : stderr.slice(-300) }
}

/** Holds the connection until it ends. Throws what kept it from being opened, or broke it. */
export const connect = async (connecting: Connecting): Promise<Ended> => {
  const { context, provider, vmId, services, files, activity, log, signal, onUp } = connecting
  const conversation = openConversation()
  const ending = new AbortController()
  const program = await startSsh(connecting, ending.signal)
  program.stdout.on('data', conversation.onOutput)
  // The program may have ended: then `ended` says so.
  program.stdin.on('error', () => {})
  const write = (text: string) => void program.stdin.write(text)
  const onAbort = () => conversation.end(fail('cancelled', 'the link is closed'))
  signal.addEventListener('abort', onAbort)
  if (signal.aborted) onAbort()
  const over = fail('guest-unreachable', `the connection to ${vmId} ended`)
  const ended = program.ended.then(ran => {
    conversation.end(over)
    return ran
  })
  try {
    const [, hash = ''] = await conversation.ask(/^hello 1 ([ -~]{0,64})$/, { passOver: true })
    if (hash !== guestHash()) {
      await putGuestFiles(context, provider, vmId, signal)
      return { again: 'at once', reason: 'the machine had other files of ours' }
    }
    await conversation.ask(/^ok$/, { send: () => write(`prefix ${services.prefix}\n`) })
    onUp()
    return await talk({ conversation, write, files, log, activity })
  } catch (error) {
    if (error !== over) throw error
    const { exitCode, stderr } = await ended
    return await repair(connecting, exitCode, stderr)
  } finally {
    signal.removeEventListener('abort', onAbort)
    ending.abort()
    await ended
  }
}
