/** The network of our machines: created if missing; each machine has an address of its own there, for life. */
import { randomBytes, randomInt } from 'node:crypto'
import { VM_ID } from '../../src/domain.ts'
import { fail } from '../../src/errors.ts'
import { addressText, parseAddress, type Range, rangeOf } from '../ipv4.ts'
import type { Context } from './context.ts'
import { withFile } from './host.ts'
import { networkXml } from './libvirt-xml.ts'
import { parseNames } from './parse.ts'
import { isSession } from './settings.ts'
import { xml } from './xml.ts'

/** Tried in turn: libvirt refuses a range that the host already uses. */
const SUBNETS = ['192.168.177', '192.168.178', '10.177.0', '172.27.77']

/** Whether the network is active; null when there is none. Asked of the list, because libvirtd may speak another language. */
export const stateOfNetwork = async ({ virsh, settings }: Context): Promise<'active' | 'inactive' | null> => {
  const rows = (await virsh.run(['net-list', '--all'])).split('\n').map(line => line.trim().split(/\s+/))
  const row = rows.find(([name]) => name === settings.kvmNetwork)
  return row === undefined ? null : row[1] === 'active' ? 'active' : 'inactive'
}

/** Creates the network if it is missing, and starts it if it is inactive. Not in a session, whose machines bring their own. */
export const ensureNetwork = async (context: Context): Promise<void> => {
  if (isSession(context.settings)) return
  const state = await stateOfNetwork(context)
  if (state === null) await createNetwork(context)
  else if (state === 'inactive') await startNetwork(context)
}

/** Another agent-swarm process may do the same at this moment. */
const startNetwork = async (context: Context): Promise<void> => {
  try {
    await context.virsh.run(['net-start', context.settings.kvmNetwork])
  } catch (error) {
    if ((await stateOfNetwork(context)) !== 'active') throw error
  }
}

const createNetwork = async (context: Context): Promise<void> => {
  const { virsh, settings } = context
  const { kvmNetwork } = settings
  let lastError: unknown
  for (const [at, subnet] of SUBNETS.entries()) {
    // The kernel allows 15 characters.
    const bridge = `as${randomBytes(3).toString('hex')}`
    try {
      await withFile(context, networkXml(kvmNetwork, bridge, subnet), path => virsh.run(['net-define', path])).catch(
        async error => {
          if ((await stateOfNetwork(context)) === null) throw error
        },
      )
      await startNetwork(context)
      await virsh.run(['net-autostart', kvmNetwork])
      return
    } catch (error) {
      lastError = error
      if (at < SUBNETS.length - 1) await virsh.run(['net-undefine', kvmNetwork]).catch(() => {})
    }
  }
  throw lastError
}

// ── Addresses ──

type Host = { mac: string; name: string | null; ip: string }
/** A network that agent-swarm made. */
export type Network = {
  name: string
  /** The host's address in it. */
  gateway: number
  subnet: Range
  /** The addresses that DHCP gives. */
  dhcp: { from: number; to: number }
  /** Addresses that are kept for a MAC. */
  hosts: Host[]
}

const attributesOf = (element: string): Map<string, string> =>
  new Map([...element.matchAll(/(\w+)=["']([^"']*)["']/g)].map(([, name = '', value = '']) => [name, value]))

/** A netmask (`255.255.255.0`) or prefix as a number of bits. */
const bitsOf = (attributes: Map<string, string>): number => {
  const mask = parseAddress(attributes.get('netmask') ?? '')
  return mask === null ? Number(attributes.get('prefix') ?? 24) : 32 - Math.log2(2 ** 32 - mask)
}

/**
 * `net-dumpxml`; null unless agent-swarm made the network. Its bridge has a name that only we give, and a network that somebody
 * else made is never changed.
 */
export const parseNetwork = (text: string): Network | null => {
  const network = text.match(/<network[\s>][\s\S]*?<\/network>/)?.[0] ?? ''
  const name = network.match(/<name>([^<]*)</)?.[1]
  const [ip, range] = [network.match(/<ip\s[^>]*>/)?.[0], network.match(/<range\s[^>]*>/)?.[0]]
  if (name === undefined || ip === undefined || range === undefined) return null
  if (!/<bridge[^>]*\sname=["']as[0-9a-f]{6}["']/.test(network) || !/<forward mode=["']nat["']/.test(network))
    return null
  const attributes = attributesOf(ip)
  const gateway = parseAddress(attributes.get('address') ?? '')
  const [from, to] = ['start', 'end'].map(end => parseAddress(attributesOf(range).get(end) ?? '') ?? 0)
  if (gateway === null || !from || !to) return null
  const hosts = [...network.matchAll(/<host\s[^>]*>/g)].flatMap(([element]) => {
    const host = attributesOf(element)
    const [mac, address] = [host.get('mac'), host.get('ip')]
    return mac === undefined || address === undefined ? [] : [{ mac, name: host.get('name') ?? null, ip: address }]
  })
  return { name, gateway, subnet: rangeOf(gateway, bitsOf(attributes)), dhcp: { from, to }, hosts }
}

const MAX_TRIES = 20

/** The addresses of the DHCP range that nobody has. `leases`: of `net-dhcp-leases`. */
const freeAddresses = ({ gateway, dhcp, hosts }: Network, leases: string): string[] => {
  const taken = new Set([
    addressText(gateway),
    ...hosts.map(({ ip }) => ip),
    ...[...leases.matchAll(/\s(\d+\.\d+\.\d+\.\d+)\/\d+/g)].map(([, ip = '']) => ip),
  ])
  const free: string[] = []
  for (let at = dhcp.from; at <= dhcp.to && free.length < 1_000; at += 1)
    if (!taken.has(addressText(at))) free.push(addressText(at))
  return free
}

/** What a killed delete or create left: an address for a machine that does not exist. */
const releaseUnused = async (context: Context, network: Network): Promise<void> => {
  const machines = new Set(parseNames(await context.virsh.run(['list', '--all', '--name'])))
  const unused = network.hosts.flatMap(({ name }) =>
    name !== null && VM_ID.test(name) && !machines.has(name) ? name : [],
  )
  await context.virsh.ask(unused.flatMap(name => releaseAddress(context, name)))
}

const update = (network: string, how: string, host: string, scopes: readonly string[]) => [
  'net-update',
  network,
  how,
  'ip-dhcp-host',
  host,
  ...scopes,
]

/** The commands that give a machine's address back. Each fails where there is nothing to give back. */
export const releaseAddress = ({ settings }: Pick<Context, 'settings'>, vmId: string) => {
  const host = xml`<host name="${vmId}"/>`.piece
  return ['--config', '--live'].map(scope => update(settings.kvmNetwork, 'delete', host, [scope]))
}

/**
 * The address that the network keeps for the machine's MAC; kept from now on when there was none. `leased`: the one that it has
 * now. Two processes that choose the same one: libvirt refuses the second.
 */
export const reserveAddress = async (
  context: Context,
  network: Network,
  { vmId, mac }: { vmId: string; mac: string },
  leases: string,
  leased: string | null,
): Promise<string> => {
  const reserved = network.hosts.find(host => host.mac === mac)
  if (reserved !== undefined) return reserved.ip
  const free = freeAddresses(network, leases)
  if (free.length === 0) await releaseUnused(context, network)
  for (let tries = 0; tries < MAX_TRIES; tries += 1) {
    const ip = tries === 0 && leased !== null ? leased : free.splice(randomInt(Math.max(free.length, 1)), 1)[0]
    if (ip === undefined) break
    const host = xml`<host mac="${mac}" name="${vmId}" ip="${ip}"/>`.piece
    try {
      const doing = `keeping an address for ${vmId}`
      await context.virsh.run(update(network.name, 'add-last', host, ['--live', '--config']), { doing })
      return ip
    } catch (error) {
      const now = parseNetwork(await context.virsh.run(['net-dumpxml', network.name]))
      // Another process may have done the same for this machine, or taken the address.
      const own = now?.hosts.find(other => other.mac === mac)
      if (own !== undefined) return own.ip
      if (!now?.hosts.some(other => other.ip === ip)) throw error
    }
  }
  throw fail(
    'capacity',
    `the network ${network.name} has no free address for ${vmId}`,
    'Delete machines that are not needed (agent-swarm list), or try again.',
  )
}
