/**
 * Isolates machines by rules of their port of the switch (extended ACLs): they reach the internet and what the operator opened, and
 * neither each other nor the host. The rule with the highest weight counts.
 */
import { networkInterfaces } from 'node:os'
import { isIn, parseAddress, parseRange, rangeOf, rangeText } from '../ipv4.ts'
import type { IsolationReport } from '../provider.ts'
import { type Context, isOurs, machinesIn, surveyHost } from './context.ts'
import { readOwner } from './folders.ts'
import { makeNetworkText, networkIn, type Place, whyNoFixedAddresses } from './network.ts'
import { type Host, isStopped, type Row } from './parse.ts'
import { DEFAULT_SWITCH, type HypervSettings } from './settings.ts'

export type Rule = {
  action: 'Allow' | 'Deny'
  direction: 'Inbound' | 'Outbound'
  /** Unique in its direction. */
  weight: number
  remote: string
  local?: string
  protocol?: 'TCP' | 'UDP'
  localPort?: string
  remotePort?: string
  /** Answers pass, too. */
  stateful?: true
}

const PRIVATE = [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12'],
  ...['192.0.0.0/24', '192.168.0.0/16', '198.18.0.0/15', '224.0.0.0/3'],
].flatMap(text => parseRange(text) ?? [])
const isPrivate = (address: number): boolean => PRIVATE.some(range => isIn(address, range))

const ALL_IPV4 = '0.0.0.0/0'
const ALL_IPV6 = '::/0'
const SSH = '22'

/** Weights: groups of a hundred, so that each rule has its own. */
const numbered = (from: number, rules: readonly Omit<Rule, 'weight'>[]): Rule[] =>
  rules.map((rule, n) => ({ ...rule, weight: from + n }))

const toPrivateNameservers = (nameservers: readonly string[], local: string): Omit<Rule, 'weight'>[] =>
  nameservers
    .filter(text => isPrivate(parseAddress(text) ?? 0))
    .flatMap(remote =>
      (['UDP', 'TCP'] as const).map(protocol => ({
        ...({
          action: 'Allow',
          direction: 'Outbound',
          remote,
          local,
          protocol,
          remotePort: '53',
          stateful: true,
        } as const),
      })),
    )

/** Null: the machine's addresses change, and so does the host's beside it, so no rule can name them. `own`: addresses of the host. */
export const rulesFor = (
  { address, gateway }: Pick<Place, 'address' | 'gateway'>,
  own: readonly string[],
  { hypervAllow, hypervNameservers }: Pick<HypervSettings, 'hypervAllow' | 'hypervNameservers'>,
): Rule[] | null => {
  if (address === null || gateway === null) return null
  const [local = '', bits] = address.split('/')
  const subnet = rangeText(rangeOf(parseAddress(local) ?? 0, Number(bits)))
  const denyOut = (remote: string) => ({ action: 'Deny', direction: 'Outbound', remote }) as const
  const denyIn = (remote: string) => ({ action: 'Deny', direction: 'Inbound', remote }) as const
  const allowOut = (remote: string) => ({ action: 'Allow', direction: 'Outbound', remote, local }) as const
  return [
    // The host opens SSH, and everything else goes through it.
    ...numbered(900, [
      { action: 'Allow', direction: 'Inbound', remote: gateway, protocol: 'TCP', localPort: SSH, stateful: true },
    ]),
    ...numbered(800, toPrivateNameservers(hypervNameservers, local)),
    // An opened range may hold an address of the host.
    ...numbered(600, [...new Set([gateway, ...own])].map(denyOut)),
    ...numbered(400, hypervAllow.map(allowOut)),
    ...numbered(200, [...PRIVATE.map(rangeText), ALL_IPV6].map(denyOut)),
    ...numbered(200, [subnet, ALL_IPV6].map(denyIn)),
    ...numbered(100, [allowOut(ALL_IPV4)]),
    ...numbered(1, [denyOut(ALL_IPV4)]),
  ]
}

/** They change: a notebook moves. */
const ownAddresses = (): string[] =>
  Object.values(networkInterfaces()).flatMap(
    each => each?.flatMap(({ family, internal, address }) => (family === 'IPv4' && !internal ? [address] : [])) ?? [],
  )

/** As rules.ps1 writes a rule that Hyper-V has. */
export const textOf = (rule: Rule): string =>
  [
    ...[rule.direction, rule.weight, rule.action, rule.remote],
    ...[rule.local, rule.protocol, rule.localPort, rule.remotePort].map(text => text ?? 'ANY'),
    rule.stateful === true ? 'True' : 'False',
  ].join(' ')

/** For people: without what the rule leaves open, but for the remote address. */
const shown = (text: string): string =>
  text
    .split(' ')
    .filter((word, n) => n < 4 || (word !== 'ANY' && word !== 'False'))
    .map(word => (word === 'True' ? 'stateful' : word))
    .join(' ')

/** Without the rule's place in its group, which the number of the host's addresses decides. */
const keyOf = (text: string): string => {
  const [direction, weight, ...rest] = text.toLowerCase().split(' ')
  return [direction, Math.floor(Number(weight) / 100), ...rest].join(' ')
}

/**
 * What an adapter whose rules should be these lacks, as the end of a sentence; null: nothing. `inForce`: as Hyper-V has them.
 * A rule that closes MUST be there, and one that opens must be ours. What closes besides, or opens less, isolates all the same.
 */
export const holeIn = (wanted: readonly Rule[], inForce: readonly string[]): string | null => {
  if (inForce.length === 0) return 'runs without rules'
  const present = new Set(inForce.map(keyOf))
  const ours = wanted.map(rule => ({ rule, text: textOf(rule) }))
  const missing = ours.find(({ rule, text }) => rule.action === 'Deny' && !present.has(keyOf(text)))
  if (missing !== undefined) return `lost a rule of its port, "${shown(missing.text)}"`
  const keys = new Set(ours.map(({ text }) => keyOf(text)))
  const opening = inForce.find(text => text.split(' ')[2] !== 'Deny' && !keys.has(keyOf(text)))
  return opening === undefined ? null : `has a rule that agent-swarm did not give it, "${shown(opening)}"`
}

/** What isolate.ps1 gets of a rule: its text, to compare, and the parameters of the cmdlet that writes it. */
const written = (rule: Rule) => ({
  text: textOf(rule),
  parameters: {
    ...{ Action: rule.action, Direction: rule.direction, Weight: rule.weight, RemoteIPAddress: rule.remote },
    ...{ LocalIPAddress: rule.local, Protocol: rule.protocol, LocalPort: rule.localPort, RemotePort: rule.remotePort },
    Stateful: rule.stateful,
  },
})

/** The rules of a machine, from what its folder says of its network. Null: it has none, or they stay as they are. */
export const rulesOf = ({ home, settings }: Pick<Context, 'home' | 'settings'>, vmId: string) => {
  const owner = readOwner(home, vmId)
  return owner === null ? null : (rulesFor(owner, ownAddresses(), settings)?.map(written) ?? null)
}

/**
 * A private address that the host got since the machine's start is closed with its range. Only one that is public, or in a range
 * that is opened, needs a rule of its own.
 */
const holesOf = ({ home, settings }: Context, vmId: string, { adapters = [] }: Row): string[] => {
  const owner = readOwner(home, vmId)
  const opened = settings.hypervAllow.flatMap(text => parseRange(text) ?? [])
  const exposed = ownAddresses().filter(text => {
    const address = parseAddress(text) ?? 0
    return !isPrivate(address) || opened.some(range => isIn(address, range))
  })
  const wanted = owner === null ? null : rulesFor(owner, exposed, settings)
  return adapters.flatMap(({ rules }) => {
    const hole = holeIn(wanted ?? [], wanted === null ? [] : rules)
    return hole === null ? [] : [`${vmId} ${hole}`]
  })
}

const not = (reason: string, remedy: string | null): IsolationReport => ({ isolated: false, reason, remedy })

export const isolationIn = (context: Context, host: Host): IsolationReport => {
  const { hypervSwitch: name, hypervAllow } = context.settings
  if (name === DEFAULT_SWITCH)
    return not(
      `machines on the ${DEFAULT_SWITCH} reach each other, this host and its networks`,
      'Leave AGENT_SWARM_HYPERV_SWITCH out, run agent-swarm as Administrator once, and create the machines again.',
    )
  const wrong = whyNoFixedAddresses(host, name)
  if (wrong !== null) return not(wrong.reason, wrong.remedy)
  const network = networkIn(host, name)
  if (network === null && networkIn(host, DEFAULT_SWITCH) !== null)
    return not(
      `the switch ${name} with NAT does not exist, and without an Administrator machines get the ${DEFAULT_SWITCH}, where they reach each other, this host and its networks`,
      makeNetworkText(name, host),
    )
  const holes = machinesIn(host)
    .filter(machine => isOurs(context, machine) && !isStopped(machine.row.state))
    .flatMap(({ vmId, row }) => holesOf(context, vmId, row))
  if (holes.length > 0)
    return not(
      holes.slice(0, 5).join('; '),
      'Stop and start them, which writes the rules again: agent-swarm stop <TICKET>, agent-swarm start <TICKET>. On the Default Switch no machine has rules: create it again.',
    )
  const opened =
    hypervAllow.length === 0 ? 'private networks are closed' : `of private networks, ${hypervAllow.join(', ')}`
  return {
    isolated: true,
    note: `Machines reach the internet; ${opened}. To open a range: AGENT_SWARM_HYPERV_ALLOW=10.1.0.0/16. A machine may still answer ARP for another one's address, which SSH notices by the host key.`,
  }
}

export const isolationReport = async (context: Context): Promise<IsolationReport> =>
  isolationIn(context, await surveyHost(context))
