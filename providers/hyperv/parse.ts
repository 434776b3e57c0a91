/** What the scripts answer, and what Hyper-V's states mean. */
import * as v from 'valibot'
import type { PauseCause, VmStatus } from '../provider.ts'

const count = v.pipe(v.number(), v.minValue(0))
const text = v.pipe(v.string(), v.maxLength(4_100))
const texts = v.array(text)

const row = v.object({
  name: text,
  id: text,
  state: text,
  notes: text,
  path: text,
  cpus: count,
  /** Bytes. */
  memory: count,
  assigned: count,
  addresses: texts,
  /** Of a machine that runs, with the rules that are in force, as rules.ps1 writes them. */
  adapters: v.optional(v.array(v.object({ rules: texts }))),
})
export type Row = v.InferOutput<typeof row>

export const machinesAnswer = v.object({ machines: v.array(row) })

export const hostAnswer = v.object({
  machines: v.array(row),
  version: text,
  system: text,
  cpus: count,
  /** Bytes. */
  memory: count,
  free: count,
  switches: v.array(v.object({ name: text, type: text })),
  /** Prefixes. Null: this Windows has no NAT, or this user may not read it. */
  nats: v.nullable(texts),
  addresses: v.array(v.object({ address: text, bits: count, interface: text })),
})
export type Host = v.InferOutput<typeof hostAnswer>

export const lookAnswer = v.object({
  notes: text,
  state: text,
  addresses: texts,
  neighbours: texts,
  checkpoints: texts,
})
export const stateAnswer = v.object({ state: text })
export const doneAnswer = v.object({ done: v.literal(true) })
/** `existed`: it was there already, and is as it was. */
export const createAnswer = v.object({ done: v.literal(true), existed: v.optional(v.boolean(), false) })
export const diskAnswer = v.object({ bytes: count, type: text, format: text })
export const parentsAnswer = v.object({ disks: v.array(v.object({ disk: text, parent: v.nullable(text) })) })

export type State = { status: VmStatus; paused?: string; pauseCause?: PauseCause; saved?: true }

const SAVED = ['Saved', 'FastSaved', 'SavedCritical']
const STOPPED = [...SAVED, 'Off', 'OffCritical']

/** `…Critical`: Hyper-V lost the storage of the machine, or its disk is full. */
export const parseState = (state: string): State => {
  if (SAVED.includes(state)) return { status: 'stopped', saved: true }
  if (STOPPED.includes(state)) return { status: 'stopped' }
  if (state.endsWith('Critical'))
    return { status: 'running', paused: `its disk cannot be written (${state})`, pauseCause: 'disk-full' }
  if (state === 'Paused') return { status: 'running', paused: 'somebody paused it', pauseCause: 'asked' }
  return { status: 'running' }
}
export const isStopped = (state: string): boolean => STOPPED.includes(state)
