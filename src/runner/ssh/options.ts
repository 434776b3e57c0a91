/** What every SSH connection to a machine requires, as OpenSSH options. */
import { isIP } from 'node:net'
import type { SshInfo } from '../../../providers/provider.ts'
import { fail } from '../../errors.ts'
import { knownHostsFile, loginKeyFile } from './keys.ts'

/** Control characters, invisible ones and line separators: OpenSSH has no way to write them, and a person does not see them. */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/u
/** Text that goes into a file or an argument of ssh. Throws when it has control characters. */
export const printable = (text: string): string => {
  if (!UNPRINTABLE.test(text)) return text
  throw fail('refused', `ssh must not get ${JSON.stringify(text.slice(0, 100))}: it has control characters`)
}

/** A path as OpenSSH reads it: on Windows with slashes, since it takes a backslash for an escape. */
export const sshPath = (path: string, platform: NodeJS.Platform = process.platform): string =>
  platform === 'win32' ? path.replaceAll('\\', '/') : path

/** A path as the value of an option: in quotes, with `%` escaped. OpenSSH has no way to write `${` or a line break. */
export const pathValue = (path: string, platform: NodeJS.Platform = process.platform) => {
  if (path.includes('${') || UNPRINTABLE.test(path))
    throw fail(
      'not-configured',
      `an ssh option cannot hold the path ${JSON.stringify(path)}`,
      'Move AGENT_SWARM_HOME to a path without "${" and control characters.',
    )
  return `"${sshPath(path, platform).replaceAll('%', '%%').replaceAll(/["\\]/g, '\\$&')}"`
}

/**
 * Only keys, only the pinned host key, and nothing of the user's that the machine could use: it asks for no password. OpenSSH's defaults
 * are written out, because the user's own configuration may say otherwise for every host. Never ClearAllForwardings: it would cancel
 * `ssh -L`. docs/security.md says what cannot be taken back.
 */
export const STRICT: readonly [name: string, value: string][] = [
  ['PubkeyAuthentication', 'yes'],
  ['PasswordAuthentication', 'no'],
  ['KbdInteractiveAuthentication', 'no'],
  ['HostbasedAuthentication', 'no'],
  ['GSSAPIDelegateCredentials', 'no'],
  ['GlobalKnownHostsFile', 'none'],
  // Options that an older ssh does not know. And all others: this takes the place of the user's own IgnoreUnknown.
  ['IgnoreUnknown', 'KnownHostsCommand,SessionType,*'],
  ['KnownHostsCommand', 'none'],
  ['StrictHostKeyChecking', 'yes'],
  ['VerifyHostKeyDNS', 'no'],
  ['UpdateHostKeys', 'no'],
  // A shared connection outlives its machine, and would then serve the next machine at the same address.
  ['ControlPath', 'none'],
  ['RemoteCommand', 'none'],
  ['SessionType', 'default'],
  ['PermitLocalCommand', 'no'],
  ['Tunnel', 'no'],
  ['ForwardAgent', 'no'],
  ['ForwardX11', 'no'],
  ['ServerAliveInterval', '15'],
  ['ServerAliveCountMax', '4'],
]

/** Only the login key of this home, and what every connection to a machine requires. */
export const sshOptions = (home: string, vmId: string, ssh: SshInfo): [name: string, value: string][] => {
  if (isIP(ssh.host) === 0 && ssh.host !== 'localhost') throw fail('refused', `"${ssh.host}" is not an IP address`)
  if (!/^[a-z_][a-z0-9_-]*$/.test(ssh.user)) throw fail('refused', `"${ssh.user}" is not a user name`)
  if (!Number.isInteger(ssh.port) || ssh.port < 1 || ssh.port > 65_535)
    throw fail('refused', `"${ssh.port}" is not a port`)
  return [
    ['Port', String(ssh.port)],
    ['User', ssh.user],
    ['IdentityFile', pathValue(loginKeyFile(home))],
    ['IdentitiesOnly', 'yes'],
    ['HostKeyAlias', vmId],
    ['UserKnownHostsFile', pathValue(knownHostsFile(home, vmId))],
    ['ProxyCommand', 'none'],
    ...STRICT,
    ['LogLevel', 'ERROR'],
  ]
}

/** `-o Name=value` for each. The first value of a name counts. */
export const asArguments = (options: readonly (readonly [name: string, value: string])[]): string[] =>
  options.flatMap(([name, value]) => ['-o', `${name}=${value}`])

/** The arguments of ssh before the host. The user's own configuration is not read. */
export const sshArguments = (home: string, vmId: string, ssh: SshInfo): string[] => [
  ...['-F', 'none'],
  ...asArguments(sshOptions(home, vmId, ssh)),
]
