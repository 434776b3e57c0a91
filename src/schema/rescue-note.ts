/** `rescued.json` beside the bundles of one rescue. What a machine wrote is in it: each member is checked before it is used. */
import * as v from 'valibot'
import { requester } from './action.ts'
import { branchName, count, environmentKey, fullCommit, shortText, time } from './basics.ts'

const path = v.pipe(v.string(), v.regex(/^\/[\x20-\x7e]{0,500}$/))
/** A file beside the note. */
const bundleFile = v.pipe(v.string(), v.regex(/^[1-9]\d{0,5}-[A-Za-z0-9_-][A-Za-z0-9._-]{0,39}\.bundle$/))
const refName = v.pipe(v.string(), v.regex(/^refs\/[^\0-\x20\x7f~^:?*[\\]{1,500}$/))

const noteEntry = v.object({
  ...{ path, uncommitted: count, untracked: count, stashes: count, unpushed: count, reflog: v.optional(count) },
  ...{ commits: count, files: count },
  /** The branch that was checked out; null when none was. Earlier versions did not record it. */
  branch: v.optional(v.fallback(v.nullable(branchName), null)),
  bundle: bundleFile,
  bytes: count,
  refs: v.record(refName, fullCommit),
  getBack: v.array(v.string()),
})
export type NoteEntry = v.InferInput<typeof noteEntry>

export const rescueNote = v.object({
  ticket: environmentKey,
  savedAt: time,
  by: requester,
  host: shortText(255),
  machine: v.object({ provider: shortText(64), vmId: shortText(64), baseImage: shortText(64) }),
  how: v.string(),
  repositories: v.array(noteEntry),
})
export type RescueNote = v.InferInput<typeof rescueNote>
