/**
 * The network of machines: our own internal switch with NAT, on which each machine has a fixed address, since nothing there gives
 * one by DHCP. Where this user may not make it, Windows' Default Switch, whose addresses Hyper-V learns from the guest.
 */
import { randomBytes } from 'node:crypto'
import type { SeedNetwork } from '../../base-image/seed.ts'
import { fail, failureOf } from '../../src/errors.ts'
import { addressText, overlap, parseAddress, parseRange, type Range, rangeOf, rangeText } from '../ipv4.ts'
import { type Context, machinesIn } from './context.ts'
import { hostOf } from './marks.ts'
import { doneAnswer, type Host } from './parse.ts'
import { DEFAULT_SWITCH, type HypervSettings } from './settings.ts'

/** Tried in turn: Windows refuses NAT for a range that overlaps another one's, and Docker and WSL make some, too. */
const RANGES = ['172.30.0.0/20', '10.177.0.0/20', '192.168.176.0/20', '172.27.64.0/20'].flatMap(
  text => parseRange(text) ?? [],
)
/** The first addresses are the host's, and a person's own machines'. */
const FIRST_MACHINE = 10

/** `range` null: addresses come by DHCP. */
export type Network = { name: string; own: { gateway: number; range: Range } | null }

const ownIn = ({ addresses, nats }: Host, name: string): Network['own'] => {
  for (const { address, bits, interface: alias } of addresses) {
    const gateway = parseAddress(address)
    if (alias !== `vEthernet (${name})` || gateway === null || address.startsWith('169.254.')) continue
    const range = rangeOf(gateway, bits)
    const hasNat = nats?.some(text => {
      const nat = parseRange(text)
      return nat !== null && overlap(nat, range)
    })
    if (hasNat !== false) return { gateway, range }
  }
  return null
}

/**
 * Why machines get no fixed addresses on this switch; null: they may. Those of an External one would be addresses of the office's
 * network, and its NAT one of the office's range. Windows tells names apart without regard to case.
 */
export const whyNoFixedAddresses = ({ switches }: Pick<Host, 'switches'>, name: string) => {
  const wrong = switches.find(
    each => each.name.toLowerCase() === name.toLowerCase() && each.name !== DEFAULT_SWITCH && each.type !== 'Internal',
  )
  if (wrong === undefined) return null
  return {
    reason: `the switch ${wrong.name} is of the type ${wrong.type}, and machines get fixed addresses on an Internal one alone`,
    remedy: `Leave AGENT_SWARM_HYPERV_SWITCH out: agent-swarm makes a switch of its own. Or name another one: AGENT_SWARM_HYPERV_SWITCH='${DEFAULT_SWITCH}', or one of the type Internal.`,
  }
}

/** The network for new machines as the host has it now; null when it must be made first, or cannot be. */
export const networkIn = (host: Host, name: string): Network | null => {
  if (!host.switches.some(each => each.name === name)) return null
  if (name === DEFAULT_SWITCH) return { name, own: null }
  if (whyNoFixedAddresses(host, name) !== null) return null
  const own = ownIn(host, name)
  return own === null ? null : { name, own }
}

const freeRange = ({ addresses, nats }: Host): Range | undefined => {
  const used = [
    ...addresses.flatMap(({ address, bits }) => {
      const base = parseAddress(address)
      return base === null || bits === 0 ? [] : [rangeOf(base, bits)]
    }),
    ...(nats ?? []).flatMap(text => parseRange(text) ?? []),
  ]
  return RANGES.find(range => !used.some(other => overlap(range, other)))
}

/** What an Administrator types to make the network by hand, with a range that is free. Names of switches are not unique. */
export const makeNetworkText = (name: string, host: Host): string => {
  const range = freeRange(host)
  return range === undefined
    ? 'Remove a network that is not needed, or name a switch that has an address and NAT: AGENT_SWARM_HYPERV_SWITCH'
    : `As Administrator, once: if (-not (Get-VMSwitch | Where-Object Name -eq '${name}')) { New-VMSwitch -Name '${name}' -SwitchType Internal }; New-NetIPAddress -IPAddress ${addressText(range.base + 1)} -PrefixLength ${range.bits} -InterfaceAlias 'vEthernet (${name})'; New-NetNat -Name '${name}' -InternalIPInterfaceAddressPrefix ${rangeText(range)}`
}

const makeNetwork = async ({ script, settings }: Context, host: Host): Promise<Network> => {
  const name = settings.hypervSwitch
  const doing = `making the network ${name}`
  // A switch that was made by half keeps the address that it has.
  const begun = ownIn({ ...host, nats: null }, name)
  const range = begun?.range ?? freeRange(host)
  if (range === undefined)
    throw fail(
      'refused',
      `${doing}: every range that it could have is in use on this host`,
      makeNetworkText(name, host),
    )
  const gateway = begun?.gateway ?? range.base + 1
  const data = { switch: name, gateway: addressText(gateway), bits: range.bits, prefix: rangeText(range) }
  await script('network', data, doneAnswer, { doing })
  return { name, own: { gateway, range } }
}

/** The network for a new machine, made if it is missing. */
export const ensureNetwork = async (context: Context, host: Host): Promise<Network> => {
  const { hypervSwitch: name } = context.settings
  const present = networkIn(host, name)
  if (present !== null) return present
  if (name === DEFAULT_SWITCH)
    throw fail(
      'not-configured',
      `this Windows has no ${DEFAULT_SWITCH}`,
      'Leave AGENT_SWARM_HYPERV_SWITCH out: agent-swarm makes a switch of its own.',
    )
  const wrong = whyNoFixedAddresses(host, name)
  if (wrong !== null) throw fail('not-configured', wrong.reason, wrong.remedy)
  return makeNetwork(context, host).catch(error => {
    const { kind, message } = failureOf(error, `making the network ${name}`)
    const fallback = networkIn(host, DEFAULT_SWITCH)
    if (kind !== 'permission') throw error
    if (fallback !== null) return fallback
    throw fail('permission', message, makeNetworkText(name, host), error)
  })
}

/** Where a machine is on its network: an address of its own, and a MAC that is as unique. Without an address, it gets one by DHCP. */
export type Place = { mac: string; address: string | null; gateway: string | null }

const macOf = (prefix: string, bytes: Buffer): string =>
  [prefix, ...[...bytes].map(byte => byte.toString(16).padStart(2, '0'))].join(':')

/** `taken`: addresses that turned out to be in use. */
export const choosePlace = ({ own, name }: Network, host: Host, taken: ReadonlySet<string>): Place => {
  // Locally administered addresses, which Hyper-V itself never gives.
  if (own === null) return { mac: macOf('06:a6', randomBytes(4)), address: null, gateway: null }
  const used = new Set([
    ...taken,
    ...machinesIn(host).flatMap(({ mark }) => (mark === null ? [] : (hostOf(mark) ?? []))),
  ])
  const end = own.range.base + 2 ** (32 - own.range.bits) - 1
  for (let address = own.range.base + FIRST_MACHINE; address < end; address += 1) {
    if (address === own.gateway || used.has(addressText(address))) continue
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32BE(address)
    return {
      mac: macOf('06:a5', bytes),
      address: `${addressText(address)}/${own.range.bits}`,
      gateway: addressText(own.gateway),
    }
  }
  throw fail('capacity', `every address of the network ${name} is in use`, 'Delete machines: agent-swarm list')
}

export const seedNetworkOf = (
  { hypervNameservers: nameservers }: Pick<HypervSettings, 'hypervNameservers'>,
  { mac, address, gateway }: Place,
): SeedNetwork =>
  address === null || gateway === null
    ? { by: 'mac', mac }
    : { by: 'mac', mac, fixed: { address, gateway, nameservers } }
