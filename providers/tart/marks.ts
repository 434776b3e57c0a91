/**
 * The mark of a machine is the name of its VM: Tart keeps no other text. All names that this provider gives, and reads:
 *
 *   <vmId>.<ticket>.<home>                          the machine; `none` for no ticket, `DROP-1_2` for an attempt
 *   <vmId>.<ticket>.restored.<home>                 what becomes the machine when a restore deletes the present one
 *   <vmId>.new.<home>                               a machine that is being made
 *   <vmId>.<running|stopped>.<order>.<name>.<home>  a checkpoint, with what the machine was at the capture
 *   agent-swarm-base.<name>.<home>                  a base image
 */
import {
  CHECKPOINT_NAME,
  type CheckpointName,
  fileNameOf,
  IMAGE_NAME,
  isEnvironmentKey,
  KEY_FILE_NAME,
  keyOfFileName,
  type Ticket,
  VM_ID,
} from '../../src/domain.ts'
import { checkName, fail } from '../../src/errors.ts'

type Owned = { vmId: string; home: string }
export type MachineMark = Owned & { kind: 'machine' | 'restored'; ticket: Ticket | null }
export type CheckpointMark = Owned & {
  kind: 'checkpoint'
  name: CheckpointName
  /** Grows with each checkpoint of the machine. */
  order: number
  /** Whether the machine ran when it was captured. */
  wasRunning: boolean
}
type NewMark = Owned & { kind: 'new' }
/** `name`: the image's own name, without our prefix and the home. */
type ImageMark = { kind: 'image'; name: string; home: string }
export type MachinePart = MachineMark | CheckpointMark | NewMark
export type Mark = MachinePart | ImageMark

const NO_TICKET = 'none'
const IMAGE = 'agent-swarm-base'

const unanchored = ({ source }: RegExp) => source.slice(1, -1)
const HOME = '([0-9a-f]{16})'
const ID = `(${unanchored(VM_ID)})`
const TICKET_PART = `(${NO_TICKET}|${unanchored(KEY_FILE_NAME)})`
const MACHINE = new RegExp(`^${ID}\\.${TICKET_PART}(\\.restored)?\\.${HOME}$`)
const NEW = new RegExp(`^${ID}\\.new\\.${HOME}$`)
const CHECKPOINT = new RegExp(`^${ID}\\.(running|stopped)\\.(\\d{4,9})\\.(${unanchored(CHECKPOINT_NAME)})\\.${HOME}$`)
const BASE = new RegExp(`^${IMAGE}\\.(${unanchored(IMAGE_NAME)})\\.${HOME}$`)

/** Null: we never give such a name. Anybody may name a VM anything. */
export const parseVmName = (text: string): Mark | null => {
  const machine = MACHINE.exec(text)
  if (machine !== null) {
    const [, vmId = '', ticket = '', restored, home = ''] = machine
    const kind = restored === undefined ? 'machine' : 'restored'
    return { kind, vmId, ticket: keyOfFileName(ticket), home }
  }
  const checkpoint = CHECKPOINT.exec(text)
  if (checkpoint !== null) {
    const [, vmId = '', state, order, name = '', home = ''] = checkpoint
    return { kind: 'checkpoint', vmId, name, order: Number(order), wasRunning: state === 'running', home }
  }
  const unfinished = NEW.exec(text)
  if (unfinished !== null) return { kind: 'new', vmId: unfinished[1] ?? '', home: unfinished[2] ?? '' }
  const image = BASE.exec(text)
  return image === null ? null : { kind: 'image', name: image[1] ?? '', home: image[2] ?? '' }
}

const ticketPart = (ticket: Ticket | null): string => {
  if (ticket !== null && !isEnvironmentKey(ticket)) throw fail('usage', `"${ticket}" is not a ticket`)
  return ticket === null ? NO_TICKET : fileNameOf(ticket)
}

/** The name of a VM, which becomes an argument and a folder. Fails with `usage` for a part that is not what it should be. */
export const vmName = (mark: Mark): string => {
  if (mark.kind === 'image') return `${IMAGE}.${checkName('image', mark.name)}.${mark.home}`
  const vmId = checkName('machine', mark.vmId)
  if (mark.kind === 'new') return `${vmId}.new.${mark.home}`
  if (mark.kind === 'checkpoint') {
    const { wasRunning, order, name, home } = mark
    const state = wasRunning ? 'running' : 'stopped'
    return `${vmId}.${state}.${String(order).padStart(4, '0')}.${checkName('checkpoint', name)}.${home}`
  }
  const restored = mark.kind === 'restored' ? '.restored' : ''
  return `${vmId}.${ticketPart(mark.ticket)}${restored}.${mark.home}`
}
