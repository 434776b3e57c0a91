/** git on this host as the gateway runs it: no configuration but ours, under limits, and with a token that only one process sees. */
import { devNull } from 'node:os'
import { join } from 'node:path'
import { type Explain, explainBy } from '../../errors.ts'
import { openRun, type RunOptions } from '../../exec.ts'
import { PRE_RECEIVE } from './pre-receive.ts'
import type { GitToken } from './tokens.ts'

const MIB = 1024 ** 2
/** Bytes on the disk of the runner; `pushBytes`: of what one push sends. `push`: whether machines may push at all. */
export type RepositoryLimits = { mirrorBytes: number; pushBytes: number; push: boolean }
/** GitHub's own limit for a push is 2 GiB. */
export const REPOSITORY_LIMITS: RepositoryLimits = {
  mirrorBytes: 10 * 1024 * MIB,
  pushBytes: 1024 * MIB,
  push: true,
}

/** What each git process may take that reads what a guest sends, or answers it. Packs unfold a thousandfold. */
export const guestLimits = (fileBytes: number) => ({ memoryBytes: 1024 * MIB, cpuSeconds: 300, fileBytes })
/** A pack, and its index. */
export const pushLimits = ({ pushBytes }: Pick<RepositoryLimits, 'pushBytes'>) => guestLimits(pushBytes + 64 * MIB)

/** How a remote away differs from one that refuses. git 2.39 with curl 7.88 */
export const explainRemote: Explain = explainBy([
  [
    /SIGXFSZ|File too large|died of signal 25/i,
    'capacity',
    "Raise the limits of the repository in config.yaml on the runner's host: `git`.",
  ],
  [
    /Could not resolve host|Failed to connect|Couldn't connect|Connection (?:refused|reset|timed out)|timed out|timeout|early EOF|unexpected disconnect|remote end hung up|SSL|TLS|returned error: (?:429|5\d\d)|Empty reply|transfer closed/i,
    'network',
    'Try again when it can be reached.',
  ],
  [
    /Authentication failed|could not read (?:Username|Password)|returned error: 4\d\d|not found|redirect/i,
    'permission',
    'Check that the bot may read the repository, and that its name is right.',
  ],
])

/** One name and value a setting, in the environment: a guest cannot change it, and nothing of it is on disk. */
const settingsInEnvironment = (settings: readonly (readonly [name: string, value: string])[]) =>
  Object.fromEntries([
    ['GIT_CONFIG_COUNT', String(settings.length)],
    ...settings.flatMap(([name, value], n) => [
      [`GIT_CONFIG_KEY_${n}`, name],
      [`GIT_CONFIG_VALUE_${n}`, value],
    ]),
  ]) as Record<string, string>

const SETTINGS: readonly (readonly [string, string])[] = [
  // What a guest sends stays in its pack, is checked, and is not unfolded in memory.
  ['core.bigFileThreshold', '32m'],
  ['core.deltaBaseCacheLimit', '32m'],
  ['pack.threads', '1'],
  ['pack.windowMemory', '64m'],
  ['receive.unpackLimit', '1'],
  ['receive.fsckObjects', 'true'],
  // The remote took these objects already; old projects have some that git would not make today.
  ['fetch.fsckObjects', 'false'],
  ['receive.denyDeletes', 'true'],
  ['receive.advertisePushOptions', 'false'],
  ['transfer.hideRefs', 'refs/agent-swarm'],
  // What this serves.
  ['http.uploadpack', 'true'],
  ['http.receivepack', 'true'],
  ['http.getanyfile', 'false'],
  ['uploadpack.allowFilter', 'true'],
  ['uploadpack.allowAnySHA1InWant', 'false'],
  // Nothing runs later, or in other repositories.
  ['gc.auto', '0'],
  ['maintenance.auto', 'false'],
  ['receive.autogc', 'false'],
  ['submodule.recurse', 'false'],
  ['fetch.recurseSubmodules', 'false'],
  ['push.recurseSubmodules', 'no'],
  // The remote.
  ['protocol.version', '2'],
  ['http.followRedirects', 'false'],
  ['http.lowSpeedLimit', '1000'],
  ['http.lowSpeedTime', '60'],
  ['credential.helper', ''],
]

/** `!`: git runs it with sh. printf is built into it, so the token is in no argument. */
const HELPER = `!answer() { test "$1" = get || exit 0; printf 'username=%s\\npassword=%s\\n' "$AGENT_SWARM_GIT_USER" "$AGENT_SWARM_GIT_TOKEN"; }; answer`

type Environment = Readonly<Record<string, string | undefined>>

/** Where mirrors and their hook lie. */
export const mirrorsFolder = (home: string): string => join(home, 'mirrors')
export const hooksFolder = (home: string): string => join(mirrorsFolder(home), PRE_RECEIVE.folder)

/** Variables of git's processes. `remote`: the one that it may reach, with its token; null: none. */
export const gitEnvironment = (
  home: string,
  remote: { url: string; token: GitToken | null } | null,
  settings: readonly (readonly [name: string, value: string])[] = [],
): Record<string, string> => {
  const token = remote?.token ?? null
  const helper: [string, string][] =
    remote === null || token === null ? [] : [[`credential.${new URL(remote.url).origin}.helper`, HELPER]]
  return {
    HOME: mirrorsFolder(home),
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: devNull,
    GIT_ATTR_NOSYSTEM: '1',
    GIT_TERMINAL_PROMPT: '0',
    GIT_NO_REPLACE_OBJECTS: '1',
    GIT_ALLOW_PROTOCOL: remote === null ? 'none' : 'https:http',
    ...settingsInEnvironment([['core.hooksPath', hooksFolder(home)], ...SETTINGS, ...settings, ...helper]),
    ...(token === null ? {} : { AGENT_SWARM_GIT_USER: token.username, AGENT_SWARM_GIT_TOKEN: token.token }),
  }
}

/** Proxies and certificates of the host, for the way to the remote. */
const TO_REMOTE = [
  ...['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy', 'NO_PROXY', 'no_proxy', 'ALL_PROXY', 'all_proxy'],
  ...['SSL_CERT_FILE', 'SSL_CERT_DIR', 'GIT_SSL_CAINFO'],
]

type GitOptions = Pick<RunOptions, 'deadline' | 'signal' | 'limits' | 'answers' | 'env' | 'input' | 'maxOutput'> & {
  remote?: { url: string; token: GitToken | null }
}
/** Runs git in a mirror; returns its output. */
export type Git = (
  doing: string,
  mirror: string,
  argv: readonly string[],
  options?: GitOptions,
) => Promise<{ stdout: string; stderr: string; exitCode: number }>

export const openGit = (home: string, environment: Environment): Git => {
  const local = openRun(environment)
  const toRemote = openRun(environment, { passOn: TO_REMOTE })
  return (doing, mirror, argv, { remote, env, ...options } = {}) =>
    (remote === undefined ? local : toRemote)('git', ['--git-dir', mirror, ...argv], {
      ...{ doing, explain: explainRemote, limits: pushLimits(REPOSITORY_LIMITS), ...options },
      env: { ...gitEnvironment(home, remote ?? null), ...env },
    })
}
