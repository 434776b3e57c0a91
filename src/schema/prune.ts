/** What `agent-swarm prune` removes and keeps. */
import * as v from 'valibot'
import { count, described } from './basics.ts'

const kinds = [
  ...(['disk', 'machine files', 'base image', 'host key', 'rescued work', 'log', 'transcript', 'mirror'] as const),
  ...(['download', 'compiled code', 'damaged database', 'unfinished rebuild', 'unfinished bundle'] as const),
] as const

export const pruneItem = v.object({
  kind: v.picklist(kinds),
  name: v.string(),
  bytes: described(v.nullable(count), 'Null: not known.'),
  reason: described(v.string(), 'Why it may go, or why it stays.'),
})
export type PruneItem = v.InferOutput<typeof pruneItem>
