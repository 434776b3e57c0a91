/**
 * Machines of a runner on another host, through the person's own ssh. The runner's host does the work with its own keys, which never
 * leave it; into a machine, a person logs in with a key of their own (`authorizedKeys`).
 */
import * as v from 'valibot'
import { type EnvironmentKey, isEnvironmentKey, VM_ID } from '../../domain.ts'
import { type FailureError, fail } from '../../errors.ts'
import type { Run } from '../../exec.ts'
import { isPublicKey } from '../../schema/public-key.ts'
import { shellWord } from '../../shell-word.ts'

/** A host of the person's ssh: a name of its configuration, a host name or an address, perhaps with a user. Nothing that ssh expands. A colon is for IPv6 alone, which has two. */
const HOST = /^(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?(?![^:]*:[^:]*$)[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,252}[A-Za-z0-9])?$/
export type ViaHost = string
export const isViaHost = (text: string): text is ViaHost => HOST.test(text)
export const viaHost = (typed: string): ViaHost => {
  if (isViaHost(typed)) return typed
  throw fail(
    'usage',
    `"${typed}" is not a host for --via`,
    'Use a host of your ssh configuration, or user@host. A port belongs into ~/.ssh/config.',
  )
}

/** What the person's own ssh needs of their environment: the agent, how it asks for a passphrase, and Kerberos. */
const SSH_VARIABLES = [
  ...['SSH_AUTH_SOCK', 'SSH_ASKPASS', 'SSH_ASKPASS_REQUIRE', 'DISPLAY', 'WAYLAND_DISPLAY', 'XAUTHORITY'],
  ...['KRB5CCNAME', 'XDG_RUNTIME_DIR', 'DBUS_SESSION_BUS_ADDRESS'],
]
export const sshVariables = (environment: Readonly<Record<string, string | undefined>>): Record<string, string> =>
  Object.fromEntries(
    SSH_VARIABLES.flatMap(name => {
      const value = environment[name]
      return value === undefined ? [] : [[name, value]]
    }),
  )

/** The words of `agent-swarm` there. ssh joins them, and the shell of that host splits them again. */
const there = (words: readonly string[]): string => ['agent-swarm', ...words].map(shellWord).join(' ')

/** `line`: for the shell in the machine; null: a shell. `hasTerminal`: Ctrl-C and the size of the window reach the machine. */
export const viaArguments = (
  host: ViaHost,
  ticket: EnvironmentKey,
  { line, start, hasTerminal }: { line: string | null; start: boolean; hasTerminal: boolean },
): string[] => [
  ...(hasTerminal ? ['-t'] : []),
  '--',
  host,
  there(['ssh', ...(start ? ['--start'] : []), ticket, ...(line === null ? [] : ['--', line])]),
]

/** The connection of ssh to a machine: it has no characters that ssh or a shell would read, on any system. */
export const viaProxyCommand = (host: ViaHost, ticket: EnvironmentKey): string =>
  `ssh ${host} agent-swarm ssh --stdio ${ticket}`

// ── The machines there ──

/** `vmId`, `user`: as its own configuration has them. `hostKey`: type and key. */
export type ViaMachine = { ticket: EnvironmentKey; vmId: string; user: string; hostKey: string }

const USER = /^[a-z_][a-z0-9_-]{0,31}$/
const text = v.pipe(v.string(), v.maxLength(4_000))
const answer = v.pipe(
  v.array(v.unknown()),
  v.maxLength(10_000),
  v.array(
    v.object({
      ticket: v.pipe(v.string(), v.check(isEnvironmentKey)),
      options: v.nullable(
        v.looseObject({ HostKeyAlias: v.pipe(v.string(), v.regex(VM_ID)), User: v.pipe(v.string(), v.regex(USER)) }),
      ),
      hostKey: v.optional(v.nullable(v.pipe(text, v.check(isPublicKey))), null),
    }),
  ),
)

/** `agent-swarm ssh --config --json` of that host. Machines that nobody can log in to are left out. */
export const parseViaMachines = (json: string): ViaMachine[] =>
  v.parse(v.pipe(v.string(), v.parseJson(), answer), json).flatMap(({ ticket, options, hostKey }) =>
    options === null || hostKey === null
      ? []
      : [
          {
            ticket,
            vmId: options.HostKeyAlias,
            user: options.User,
            hostKey: hostKey.split(' ').slice(0, 2).join(' '),
          },
        ],
  )

const ASK_DEADLINE_MS = 60_000
const MAX_ANSWER = 16 * 1024 * 1024

const notAnswered = (host: ViaHost, text: string): FailureError =>
  fail(
    'guest-unreachable',
    `asking agent-swarm on ${host} for its machines: ${text.trim().slice(-500)}`,
    `Try it by hand: ssh ${host} agent-swarm list. It must be on the PATH of commands over ssh there.`,
  )

export const askViaMachines = async (
  run: Run,
  environment: Readonly<Record<string, string | undefined>>,
  host: ViaHost,
  signal: AbortSignal,
): Promise<ViaMachine[]> => {
  const { stdout } = await run('ssh', ['-T', '--', host, there(['ssh', '--config', '--json'])], {
    ...{ deadline: ASK_DEADLINE_MS, maxOutput: MAX_ANSWER, signal, env: sshVariables(environment) },
    explain: (_, text) => notAnswered(host, text),
  })
  try {
    return parseViaMachines(stdout)
  } catch {
    throw notAnswered(host, 'its answer is not what this version understands')
  }
}
