/**
 * The mark that says whose a machine is and for what: a line of JSON in the VM's notes. People may write more lines beside it. The
 * scripts read it, too (scripts/common.ps1).
 */
import * as v from 'valibot'
import { ENVIRONMENT_KEY, VM_ID } from '../../src/domain.ts'

/** Scripts look for this. */
const BEGIN = 'agent-swarm {'
const MAX_LINE = 2_000

const mark = v.object({
  vmId: v.pipe(v.string(), v.regex(VM_ID)),
  ticket: v.nullable(v.pipe(v.string(), v.regex(ENVIRONMENT_KEY))),
  /** The id of the AGENT_SWARM_HOME that made it. No version made machines without. */
  home: v.pipe(v.string(), v.maxLength(64)),
  mac: v.pipe(v.string(), v.regex(/^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/)),
  /** Its fixed address with the prefix, `172.30.0.10/20`. Null: it gets one by DHCP. */
  address: v.nullable(v.pipe(v.string(), v.regex(/^\d{1,3}(?:\.\d{1,3}){3}\/\d{1,2}$/))),
  /** False while the machine is being made. */
  made: v.boolean(),
})
export type Mark = v.InferOutput<typeof mark>

/** The mark in notes, which anybody may have written. Null without one that is whole. */
export const parseMark = (notes: string): Mark | null => {
  const line = notes.split(/\r?\n/).find(each => each.startsWith(BEGIN) && each.length < MAX_LINE)
  if (line === undefined) return null
  try {
    const read = v.safeParse(mark, JSON.parse(line.slice(BEGIN.length - 1)))
    return read.success ? read.output : null
  } catch {
    return null
  }
}

export const hostOf = ({ address }: Mark): string | null => address?.split('/')[0] ?? null
