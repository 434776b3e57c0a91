/** Machines as hosts in OpenSSH's own configuration, so that ssh, scp, rsync and editors reach them by their tickets. */
import { checkName } from '../../errors.ts'
import type { Idleness } from '../../registry/registry.ts'
import type { Environment, EnvironmentStatus } from '../../schema/environment.ts'
import { makeAgain } from '../../words.ts'
import { printable, sshOptions } from './options.ts'
import { proxyCommand } from './proxy-command.ts'

/** `ssh`: of a machine that sleeps, as it was before. */
export type Host = Pick<Environment, 'ticket' | 'provider' | 'vmId' | 'status' | 'ssh'> & { isAsleep: boolean }

/** A login wakes a machine that sleeps, so that it is a host like those that run. */
export const hostOf = (
  { ticket, provider, vmId, status, ssh }: Omit<Host, 'isAsleep'>,
  idleness: Idleness | undefined,
): Host => {
  const { report = null, ssh: before = null } = idleness ?? {}
  const isAsleep = status === 'stopped' && before !== null && report !== null && report.state !== 'warned'
  return { ticket, provider, vmId, status, ssh: isAsleep ? before : ssh, isAsleep }
}

const reasons: Record<EnvironmentStatus, (host: Host) => string> = {
  running: ({ provider }) => `runs on ${provider}, which has no SSH address`,
  creating: () => 'is being created',
  stopped: ({ ticket }) => `is stopped. Start it: agent-swarm start ${ticket}`,
  deleting: () => 'is being deleted',
  failed: ({ ticket }) => `could not be created. Try again: ${makeAgain(ticket)}`,
  lost: ({ ticket }) => `has lost its machine. Create a new one: ${makeAgain(ticket)}`,
}

/** Why nobody can log in to it, for example `DROP-1 is being created`; null when somebody can. */
export const noHostReason = (host: Host): string | null =>
  (host.status === 'running' || host.isAsleep) && host.ssh !== null
    ? null
    : `${host.ticket} ${reasons[host.status](host)}`

/**
 * The names of the host in the configuration, and its options; null when nobody can log in to it. The connection goes through us,
 * who wake the machine when it sleeps; the address is for people, and for what reads the configuration.
 */
export const toHost = (home: string, host: Host): { names: string[]; options: [string, string][] } | null => {
  const { ticket, vmId, ssh } = host
  if (noHostReason(host) !== null || ssh === null) return null
  checkName('environment', ticket)
  const address: [string, string] = ['HostName', ssh.host.replaceAll('%', '%%')]
  const options = sshOptions(home, vmId, ssh).map(([name, value]): [string, string] =>
    name === 'ProxyCommand' ? [name, proxyCommand(home, ticket)] : [name, value],
  )
  return { names: [ticket, ticket.toLowerCase()], options: [address, ...options] }
}

/** A block of configuration for each host; a comment with the reason for each machine that is not one. */
export const hostsText = (home: string, hosts: readonly Host[]): string =>
  hosts
    .map(host => {
      const entry = toHost(home, host)
      const lines =
        entry === null
          ? [`# ${noHostReason(host)}`]
          : [`Host ${entry.names.join(' ')}`, ...entry.options.map(words => `  ${words.join(' ')}`)]
      return [...lines.map(printable), ''].join('\n')
    })
    .join('\n')
