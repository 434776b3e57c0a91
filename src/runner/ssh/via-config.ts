/**
 * The machines of another host in a person's own ssh configuration: `agent-swarm-HOST.config` in their `.ssh`, which their `config`
 * includes, and the host keys of the machines in a file beside it. Each is as it was when the person installed it last.
 */
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkName, fail } from '../../errors.ts'
import { pathValue, printable, STRICT } from './options.ts'
import { asBytes, excludeSteps, includeSteps, ownHostsFile, removal, type Step, write } from './person-config.ts'
import { type ViaHost, type ViaMachine, viaProxyCommand } from './via.ts'

const fileName = (host: ViaHost, end: string) => `agent-swarm-${host.replaceAll(/[^A-Za-z0-9.-]/g, '_')}.${end}`
const HEADER = '# agent-swarm keeps this file, for the machines of '

/** Logs in with the person's own keys, and requires the pinned host key. The machine gets nothing else of the person's, and asks for nothing. */
const block = (host: ViaHost, knownHosts: string, { ticket, vmId, user }: ViaMachine): string => {
  checkName('environment', ticket)
  const options = [
    ['User', user],
    ['ProxyCommand', viaProxyCommand(host, ticket)],
    ['HostKeyAlias', vmId],
    ['UserKnownHostsFile', pathValue(knownHosts)],
    ...STRICT,
  ]
  const lines = [`Host ${ticket} ${ticket.toLowerCase()}`, ...options.map(words => `  ${words.join(' ')}`)]
  return lines.map(printable).join('\n')
}

const viaText = (host: ViaHost, knownHosts: string, machines: readonly ViaMachine[]): string =>
  [
    `${HEADER}${host}`,
    `# Write it again when machines have come or gone: agent-swarm ssh --config --via ${host} --install`,
    `# Remove it: agent-swarm ssh --config --via ${host} --uninstall`,
    ...machines.flatMap(machine => ['', block(host, knownHosts, machine)]),
    '',
  ].join('\n')

const viaKnownHosts = (machines: readonly ViaMachine[]): string =>
  machines.map(({ vmId, hostKey }) => `${vmId} ${hostKey}\n`).join('')

/** The text of our file for this host, null when there is none. Throws for a file of somebody else, or of another host. */
const readOurs = (path: string, host: ViaHost): string | null => {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return null
  const text = stats.isFile() ? readFileSync(path, 'utf8') : ''
  if (text.startsWith(`${HEADER}${host}\n`)) return text
  throw fail('not-ours', `${path} exists and was not written by agent-swarm for ${host}`, 'Move or rename it first.')
}

/**
 * ssh takes a name from the first file that has it. The answer of another host must not lead away from a machine of this one, or of a
 * third: those that are there are refused here. A machine of this host that comes later wins, because its file is included first.
 */
const refuseTaken = (folder: string, own: string, machines: readonly ViaMachine[]): void => {
  const names = existsSync(folder) ? readdirSync(folder).filter(name => /^agent-swarm.*\.config$/.test(name)) : []
  for (const path of names.map(name => join(folder, name)).filter(path => path !== own)) {
    const hosts = new Set(
      readFileSync(path, 'utf8')
        .match(/^Host .*$/gm)
        ?.flatMap(line => line.split(' ').slice(1)),
    )
    const taken = machines.map(({ ticket }) => ticket).filter(ticket => hosts.has(ticket))
    if (taken.length > 0)
      throw fail(
        'refused',
        `installing machines of another host: ${path} has these tickets already: ${taken.slice(0, 10).join(', ')}`,
        'Remove the file that you do not need: agent-swarm ssh --config --uninstall, with --via HOST for that of another host.',
      )
  }
}

type Plan = { folder: string; steps: Step[]; text: string | null }

/** `folder`: the person's `.ssh`. Has no steps when everything is installed already. */
export const planViaInstall = (folder: string, host: ViaHost, machines: readonly ViaMachine[]): Plan => {
  const [config, knownHosts] = ['config', 'known_hosts'].map(end => join(folder, fileName(host, end))) as [
    string,
    string,
  ]
  refuseTaken(folder, config, machines)
  const [text, keys] = [viaText(host, knownHosts, machines), viaKnownHosts(machines)]
  const steps: Step[] = []
  const present = readOurs(config, host)
  const presentKeys = existsSync(knownHosts) ? readFileSync(knownHosts, 'utf8') : null
  if (present === null && presentKeys !== null && presentKeys !== keys)
    throw fail('not-ours', `${knownHosts} exists without a file of agent-swarm beside it`, 'Move or rename it first.')
  if (!existsSync(folder))
    steps.push({ description: `make ${folder}`, run: () => mkdirSync(folder, { recursive: true, mode: 0o700 }) })
  if (presentKeys !== keys)
    steps.push({ description: `write ${knownHosts}`, run: () => write(knownHosts, asBytes(keys)) })
  if (present !== text) steps.push({ description: `write ${config}`, run: () => write(config, asBytes(text)) })
  return { folder, steps: [...steps, ...includeSteps(config, { below: ownHostsFile(folder) }).steps], text }
}

export const planViaUninstall = (folder: string, host: ViaHost): Plan => {
  const [config, knownHosts] = ['config', 'known_hosts'].map(end => join(folder, fileName(host, end))) as [
    string,
    string,
  ]
  if (readOurs(config, host) === null) return { folder, steps: [], text: null }
  const files = [config, knownHosts].filter(path => existsSync(path))
  return { folder, steps: [...excludeSteps(config, false), ...files.map(removal)], text: null }
}
