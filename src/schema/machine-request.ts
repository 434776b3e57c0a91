/** What `swarm` in a machine may ask of the runner: `POST /v1/<what>`, with its argument as the body. */
import * as v from 'valibot'
import { isAutomatic, parseCheckpointName } from '../domain.ts'

/** Characters. */
export const MAX_NOTE = 2_000

/** Line breaks and tabs stay. Nothing else may move a terminal's cursor, or hide. */
const withoutControls = (text: string): string => text.replaceAll(/(?![\n\t])[\p{Cc}\p{Cf}]/gu, '').trim()
const name = v.pipe(
  v.string(),
  v.transform(typed => parseCheckpointName(typed.trim())),
  v.string('a name has letters, digits and hyphens, at most 41, and does not begin with a hyphen'),
)
const newName = v.pipe(
  name,
  v.check(typed => !isAutomatic(typed), 'names that begin with push- or pre-restore- are for automatic checkpoints'),
)
const nothing = v.pipe(
  v.literal('', 'unexpected text'),
  v.transform(() => null),
)

export const machineRequest = v.variant('what', [
  v.object({ what: v.literal('status'), argument: nothing }),
  v.object({
    what: v.literal('checkpoint'),
    /** Null: named after the time. */
    argument: v.pipe(
      v.string(),
      v.transform(typed => (typed.trim() === '' ? null : typed)),
      v.nullable(newName),
    ),
  }),
  v.object({ what: v.literal('restore'), argument: name }),
  v.object({
    what: v.literal('note'),
    argument: v.pipe(
      v.string(),
      v.transform(withoutControls),
      v.nonEmpty('a note needs text'),
      v.maxLength(MAX_NOTE, `a note has at most ${MAX_NOTE.toLocaleString('en')} characters`),
    ),
  }),
])
export type MachineRequest = v.InferOutput<typeof machineRequest>
