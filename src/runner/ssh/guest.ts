/** How the runner talks to a guest: over SSH with the pinned host key, or by the provider's own way. */
import type { GuestAccess, Provider, SshInfo } from '../../../providers/provider.ts'
import { allow, explainBy, fail, isFailure } from '../../errors.ts'
import type { Run, RunOptions } from '../../exec.ts'
import { type GuestLayout, guestHash, hashCommand, putScript } from '../link/guest-files.ts'
import { untilNextTry } from './hello.ts'
import { forgetHostKey, loginKey, pinnedHostKey } from './keys.ts'
import { sshArguments } from './options.ts'

/** A guest under emulation on a busy host takes half a minute for one login; to give up earlier would cost it another one. */
const TRY_DEADLINE_MS = 60_000
/** How many times longer a guest may take whose processors are emulated by software. */
const SLOW_FACTOR = 3

const explainSsh = explainBy([
  // OpenSSH 9.2
  [
    /Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED/,
    'refused',
    'Another machine answers at this address. See: agent-swarm status',
  ],
  [
    /Permission denied/,
    'refused',
    'The machine does not accept the key of this home. Somebody may have changed authorized_keys in it.',
  ],
  [
    /Connection (refused|timed out|reset|closed)|No route to host|Network is unreachable|Operation timed out|kex_exchange_identification/,
    'guest-unreachable',
    'Check whether the machine runs: agent-swarm status',
  ],
  // ssh prints no reason when a connection ends that was there, as when a guest that boots starts its SSH server again.
  [
    /^Command failed with exit code 255/,
    'guest-unreachable',
    'Check whether the machine runs: agent-swarm status',
    'the connection over SSH ended',
  ],
])

/** Seconds for the connection and the exchange of keys, which take a guest on a busy host many. */
const CONNECT_S = 30
/** While nobody knows whether an SSH server is there. */
const FIRST_CONNECT_S = 5
type SshOptions = RunOptions & { connectSeconds?: number }

/** Runs one command line in the guest. */
const runOverSsh = (
  run: Run,
  home: string,
  vmId: string,
  ssh: SshInfo,
  command: string,
  { connectSeconds = CONNECT_S, ...options }: SshOptions,
) =>
  run(
    'ssh',
    [
      ...sshArguments(home, vmId, ssh),
      ...['-o', 'BatchMode=yes', '-o', `ConnectTimeout=${connectSeconds}`, '-T'],
      ...['--', ssh.host, command],
    ],
    { explain: explainSsh, ...options },
  )
/** Reads a shell script from its standard input and runs it as root. */
const ROOT_SHELL = 'sudo -n sh -s'
/** Exit codes of a script; ssh itself ends with 255. */
const ANY_EXIT_CODE = Array.from({ length: 254 }, (_, index) => index + 1)

/** The last lines of a guest's console, as the end of a message about it. */
const consoleClause = async (provider: Provider, vmId: string): Promise<string> => {
  const lines = (await provider.consoleTail?.(vmId).catch(() => [])) ?? []
  return lines.length === 0 ? '' : `. Its console ends with:\n${lines.map(line => `  ${line}`).join('\n')}`
}

/** `guest`: where our files lie in a machine, by default as everywhere. */
type Context = { run: Run; home: string; guest?: GuestLayout }
type WaitOptions = {
  /** Milliseconds, SLOW_FACTOR times as many where guests are emulated. A try that begins before their end is finished: see TRY_DEADLINE_MS. */
  deadline: number
  signal?: AbortSignal
  /** Called when the guest has an address. */
  onAddress?: (ssh: SshInfo) => void
}

const PUT_DEADLINE_MS = 120_000
/** What a login and one word may print. */
const MAX_HELLO = 64 * 1024

/** What the guest says to the first command: the hash of our files in it, or nothing. Null while it does not answer. */
const firstWords = async (
  { run, home, guest }: Context,
  vmId: string,
  ssh: SshInfo,
  helloed: boolean,
  signal: AbortSignal | undefined,
): Promise<string | null> => {
  try {
    const connectSeconds = helloed ? CONNECT_S : FIRST_CONNECT_S
    const options = { deadline: TRY_DEADLINE_MS, signal, maxOutput: MAX_HELLO, connectSeconds }
    return (await runOverSsh(run, home, vmId, ssh, hashCommand(guest), options)).stdout.trim()
  } catch (error) {
    // While a guest boots it refuses, resets and stalls connections. cloud-init installs the pinned host key only along the way,
    // and an answer under another key does not count.
    const isFinal = !isFailure(error) || ['cancelled', 'provider-missing'].includes(error.failure.kind)
    if (!isFinal) return null
    throw error
  }
}

/**
 * Waits until the guest answers over SSH with the pinned key. Returns its address, and whether it has our files as they are now;
 * null when the provider needs no SSH.
 */
export const waitForGuest = async (
  context: Context,
  provider: Provider,
  vmId: string,
  { deadline, signal, onAddress = () => {} }: WaitOptions,
): Promise<{ ssh: SshInfo; hasOurFiles: boolean } | null> => {
  if (provider.runInGuest !== undefined) return null
  const began = performance.now()
  let allowed = deadline
  let isExtended = false
  let reportedHost: string | null = null
  let helloed = false
  while (true) {
    const ssh = (await provider.sshInfo(vmId).catch(allow('no-address-yet'))) ?? null
    if (ssh !== null && reportedHost !== ssh.host) {
      reportedHost = ssh.host
      onAddress(ssh)
    }
    const words = ssh === null ? null : await firstWords(context, vmId, ssh, helloed, signal)
    // What a login prints stands before it.
    if (ssh !== null && words !== null) return { ssh, hasOurFiles: words.endsWith(guestHash()) }
    const left = began + allowed - performance.now()
    if (left < 0) {
      if (!isExtended && (await provider.emulated?.().catch(() => false)) === true) {
        isExtended = true
        allowed *= SLOW_FACTOR
        continue
      }
      const reason = ssh === null ? 'it got no address' : `no SSH reply from ${ssh.host}`
      throw fail(
        'guest-unreachable',
        `waiting for ${vmId}: ${reason} within ${Math.round(allowed / 1000)} s${await consoleClause(provider, vmId)}`,
        'Look at the console of the machine for the reason. If it only boots slowly, allow more time: AGENT_SWARM_BOOT_MINUTES.',
      )
    }
    helloed = await untilNextTry(ssh, helloed, left, signal)
    if (signal?.aborted) throw fail('cancelled', `waiting for ${vmId}: cancelled`)
  }
}

/**
 * Runs a shell script as root. With `into`, its standard output goes to a new file, and it may end with any exit code. Fails
 * with `guest-unreachable` when SSH does not answer.
 */
export const runInGuest = async (
  { run, home }: Context,
  provider: Provider,
  vmId: string,
  script: string,
  options: Pick<RunOptions, 'deadline' | 'signal' | 'into' | 'maxOutput' | 'doing' | 'onLine'>,
): Promise<{ stdout: string; stderr: string }> => {
  if (provider.runInGuest !== undefined) return provider.runInGuest(vmId, script, options)
  return runOverSsh(run, home, vmId, await provider.sshInfo(vmId), ROOT_SHELL, {
    doing: `running a script in ${vmId} over SSH`,
    ...options,
    input: script,
    ...(options.into === undefined ? {} : { doing: `reading from ${vmId} over SSH`, answers: ANY_EXIT_CODE }),
  })
}

/** Runs one command line as the ssh user, in a guest that is reached over SSH. */
export const runCommandInGuest = async (
  { run, home }: Context,
  provider: Provider,
  vmId: string,
  command: string,
  options: Pick<RunOptions, 'deadline' | 'signal' | 'doing'>,
): Promise<void> => {
  await runOverSsh(run, home, vmId, await provider.sshInfo(vmId), command, { ...options, maxOutput: MAX_HELLO })
}

/** Runs a shell script as the ssh user, in a guest that is reached over SSH. */
export const runAsUserInGuest = async (
  { run, home }: Context,
  provider: Provider,
  vmId: string,
  script: string,
  options: Pick<RunOptions, 'deadline' | 'signal' | 'doing'>,
): Promise<void> => {
  const ssh = await provider.sshInfo(vmId)
  await runOverSsh(run, home, vmId, ssh, 'sh -s', { ...options, input: script, maxOutput: MAX_HELLO })
}

/** Puts our files into a guest that is reached over SSH, and removes nothing else. */
export const putGuestFiles = async (
  context: Context,
  provider: Provider,
  vmId: string,
  signal: AbortSignal,
): Promise<void> => {
  const doing = `putting the files of swarm into ${vmId}`
  const options = { deadline: PUT_DEADLINE_MS, signal, maxOutput: MAX_HELLO, doing }
  await runInGuest(context, provider, vmId, putScript(context.guest), options)
}

/** How the build of a base image reaches its machine: with a host key under the name `alias`, which `forget` removes. */
export const guestForBuild = async (
  run: Run,
  home: string,
  alias: string,
  signal: AbortSignal,
): Promise<{ access: GuestAccess; forget: () => void }> => {
  const [publicKey, hostKey] = await Promise.all([loginKey(run, home), pinnedHostKey(run, home, alias)])
  const access: GuestAccess = {
    publicKey,
    hostKey,
    run: async (ssh, script, { deadline, onLine }) => {
      const until = performance.now() + deadline
      let helloed = false
      while (true) {
        try {
          const connectSeconds = helloed ? CONNECT_S : FIRST_CONNECT_S
          await runOverSsh(run, home, alias, ssh, 'true', { deadline: TRY_DEADLINE_MS, connectSeconds })
          break
        } catch (error) {
          if (performance.now() > until) throw error
          helloed = await untilNextTry(ssh, helloed, until - performance.now(), signal)
          if (signal.aborted) throw fail('cancelled', 'waiting for the machine that builds the image: cancelled')
        }
      }
      const { stdout, stderr, exitCode } = await runOverSsh(run, home, alias, ssh, ROOT_SHELL, {
        ...{ input: script, deadline: Math.max(1_000, until - performance.now()), answers: ANY_EXIT_CODE },
        ...(onLine === undefined ? {} : { onLine }),
      })
      return { stdout, stderr, exitCode }
    },
  }
  return { access, forget: () => forgetHostKey(home, alias) }
}
