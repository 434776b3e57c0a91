/** The mark that says whose a machine is and for what: our own element in the metadata of its libvirt domain. */
import type { Ticket } from '../../src/domain.ts'
import type { VmStatus } from '../provider.ts'
import type { Command } from './virsh.ts'
import { NOTHING, type Piece, xml } from './xml.ts'

/** The namespace of our element. */
export const NAMESPACE = 'urn:agent-swarm:1'

export type Mark = {
  vmId: string
  ticket: Ticket | null
  /** The id of the AGENT_SWARM_HOME that made it. Null: an earlier version made it. */
  home: string | null
  mac: string
  /** The port of this host that leads to the machine's SSH server. Null: the machine has an address of its own. */
  port: number | null
  /** The address that the network keeps for it, and the only one that its filter lets it use. Null: it is not isolated. */
  ip: string | null
  /** Its checkpoints are frozen layers of its disk, for life. Absent: they are snapshots inside it, as earlier versions made them. */
  checkpoints?: 'external'
}

export const markAttributes = ({ vmId, ticket, home, mac, port, ip, checkpoints }: Mark): Piece => {
  const optional = (name: string, value: string | number | null) =>
    value === null ? NOTHING : xml` ${name}="${value}"`
  return xml`name="${vmId}"${optional('ticket', ticket)}${optional('home', home)} mac="${mac}"${optional('port', port)}${optional('ip', ip)}${optional('checkpoints', checkpoints ?? null)}`
}

/** The marks in what one or many `virsh metadata` printed. libvirt keeps no order of attributes. */
export const parseMarks = (text: string): Mark[] =>
  [...text.matchAll(/<(?:\w+:)?vm\s[^>]*>/g)].flatMap(([element]) => {
    const attribute = (name: string) => element.match(new RegExp(`\\b${name}=["']([^"']*)["']`))?.[1]
    const [vmId, mac, port] = [attribute('name'), attribute('mac'), attribute('port')]
    if (vmId === undefined || mac === undefined) return []
    // Earlier versions gave a machine that builds an image an empty ticket.
    const ticket = attribute('ticket') || null
    return [
      {
        ...{ vmId, ticket, home: attribute('home') ?? null, mac, ip: attribute('ip') ?? null },
        port: port === undefined ? null : Number(port),
        ...(attribute('checkpoints') === 'external' ? { checkpoints: 'external' as const } : {}),
      },
    ]
  })

export const readMark = (id: string): Command => ['metadata', id, NAMESPACE]

/** libvirt adds the namespace, and keeps the mark of a running machine twice. `status`: the machine's. */
export const writeMark = (mark: Mark, status: VmStatus): Command => [
  ...['metadata', mark.vmId, NAMESPACE, '--key', 'as', '--set', xml`<vm ${markAttributes(mark)}/>`.piece],
  ...(status === 'running' ? ['--live', '--config'] : ['--config']),
]
