/**
 * The filter of this home's machines: rules of libvirt (nwfilter), which it writes on the host at each start of a machine.
 * `mac`, `arp` and `ip` become rules of ebtables, which see single packets; `tcp` and `udp` become rules of iptables, which
 * know connections, and need net.bridge.bridge-nf-call-iptables.
 *
 * A rule costs a process at each start, so there are few: no rule where a later one does the same.
 */
import { createHash } from 'node:crypto'
import { addressText, covers, overlap, type Range, rangeText } from '../ipv4.ts'
import { type Piece, xml } from './xml.ts'

/** Private, shared, link-local (with the clouds' metadata address), loopback, reserved and multicast (RFC 6890). */
const CLOSED: readonly Range[] = [
  { base: 0x00_00_00_00, bits: 8 },
  { base: 0x0a_00_00_00, bits: 8 },
  { base: 0x64_40_00_00, bits: 10 },
  { base: 0x7f_00_00_00, bits: 8 },
  { base: 0xa9_fe_00_00, bits: 16 },
  { base: 0xac_10_00_00, bits: 12 },
  { base: 0xc0_00_00_00, bits: 24 },
  { base: 0xc0_a8_00_00, bits: 16 },
  { base: 0xc6_12_00_00, bits: 15 },
  { base: 0xe0_00_00_00, bits: 3 },
]

export type Surroundings = {
  /** The host's address in the machines' network. */
  gateway: number
  /** The machines' network. */
  subnet: Range
  /** The host's own addresses. */
  own: readonly Range[]
  /** Ranges that the operator opened. */
  allowed: readonly Range[]
  /** The ports that connections of the host begin at: answers go there. */
  ephemeral: { from: number; to: number }
}

/** Named by the home, because two homes on one host may have other settings. */
export const filterName = (homeId: string): string => `agent-swarm-${homeId}`

type Rule = { action: 'accept' | 'drop'; direction: 'in' | 'out' | 'inout'; match: Piece }
const rule = (action: Rule['action'], direction: Rule['direction'], match: Piece): Rule => ({
  action,
  direction,
  match,
})
const to = ({ base, bits }: Range): Piece => xml`dstipaddr="${addressText(base)}" dstipmask="${bits}"`

/** From the guest to the gateway: DHCP, DNS, ping, and answers. */
const gatewayRules = ({ gateway, ephemeral: { from, to } }: Surroundings): Rule[] => {
  const accept = (ports: Piece) => rule('accept', 'out', xml`<ip dstipaddr="${addressText(gateway)}" ${ports}/>`)
  return [
    accept(xml`protocol="udp" dstportstart="53"`),
    accept(xml`protocol="tcp" dstportstart="53"`),
    accept(xml`protocol="udp" dstportstart="67"`),
    accept(xml`protocol="icmp"`),
    accept(xml`protocol="tcp" dstportstart="${from}" dstportend="${to}"`),
    accept(xml`protocol="udp" dstportstart="${from}" dstportend="${to}"`),
  ]
}

/** In the order in which they apply. `direction`: `out` comes from the guest. */
const bridgeRules = (surroundings: Surroundings): Rule[] => {
  const { gateway, subnet, own, allowed } = surroundings
  const at = addressText(gateway)
  // What is closed below needs no rule here, unless an opened range has it.
  const needed = [subnet, ...own].filter(
    range => !CLOSED.some(closed => covers(closed, range)) || allowed.some(open => overlap(open, range)),
  )
  const drop = (range: Range) => rule('drop', 'out', xml`<ip ${to(range)}/>`)
  return [
    rule('drop', 'out', xml`<mac match="no" srcmacaddr="$MAC"/>`),
    rule('accept', 'out', xml`<arp arpsrcmacaddr="$MAC" arpsrcipaddr="$IP" arpdstipaddr="${at}"/>`),
    rule('accept', 'in', xml`<arp arpsrcipaddr="${at}"/>`),
    rule(
      'accept',
      'out',
      xml`<ip srcipaddr="0.0.0.0" dstipaddr="255.255.255.255" protocol="udp" srcportstart="68" dstportstart="67"/>`,
    ),
    rule('drop', 'out', xml`<ip match="no" srcipaddr="$IP"/>`),
    ...gatewayRules(surroundings),
    ...needed.map(drop),
    ...allowed.map(range => rule('accept', 'out', xml`<ip ${to(range)}/>`)),
    ...CLOSED.map(drop),
    rule('accept', 'out', xml`<ip/>`),
    rule('accept', 'in', xml`<ip srcipaddr="${at}"/>`),
    rule('drop', 'in', xml`<ip srcipaddr="${addressText(subnet.base)}" srcipmask="${subnet.bits}"/>`),
    rule('accept', 'in', xml`<ip/>`),
  ]
}

/** The bridge lets answers through by their port; that they are answers, only iptables knows. */
const connectionRules = ({ gateway, ephemeral: { from, to } }: Surroundings): Rule[] => {
  const match = xml`state="NEW,INVALID" dstipaddr="${addressText(gateway)}" dstportstart="${from}" dstportend="${to}"`
  return [rule('drop', 'out', xml`<tcp ${match}/>`), rule('drop', 'out', xml`<udp ${match}/>`)]
}

/** The filter's definition without what changes at each write. */
const rulesXml = (surroundings: Surroundings): Piece[] =>
  [...bridgeRules(surroundings), ...connectionRules(surroundings)].map(
    ({ action, direction, match }, at) =>
      xml`  <rule action="${action}" direction="${direction}" priority="${100 + at}">${match}</rule>\n`,
  )

const hash = (text: string): string => createHash('sha256').update(text).digest('hex')
/** libvirt gives a filter a new form, so the comment on its last rule holds a hash of its source. */
const digestOf = (surroundings: Surroundings): string =>
  hash(
    rulesXml(surroundings)
      .map(({ piece }) => piece)
      .join(''),
  ).slice(0, 16)

/**
 * `salt`: libvirt writes the rules of running machines again only for a definition that differs. The uuid follows from the
 * name, because libvirt refuses another definition of the name without the uuid of the first.
 */
export const filterXml = (name: string, surroundings: Surroundings, salt: string): string => {
  const uuid = hash(name).replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-4$3-8$4-$5')
  const rules = rulesXml(surroundings).reduce((all, each) => xml`${all}${each}`)
  return xml`<filter name="${name}" chain="root">
  <uuid>${uuid}</uuid>
${rules}  <rule action="drop" direction="inout" priority="1000"><mac comment="${digestOf(surroundings)} ${salt}"/></rule>
</filter>
`.piece
}

/** Whether `nwfilter-dumpxml` printed a filter that was made of this. */
export const isFilterOf = (text: string, name: string, surroundings: Surroundings): boolean => {
  const filter = text.match(new RegExp(`<filter name=["']${name}["'][\\s\\S]*?</filter>`))?.[0] ?? ''
  return new RegExp(`comment=["']${digestOf(surroundings)} `).test(filter)
}

export const describeRanges = (ranges: readonly Range[]): string => ranges.map(rangeText).join(', ')
