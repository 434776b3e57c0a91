/**
 * The small schemas that the others are made of. Objects drop members that they do not know, so that a newer runner and an
 * older bot understand each other; whoever publishes a JSON Schema of one closes it.
 */
import * as v from 'valibot'
import { CHECKPOINT_NAME, ENVIRONMENT_KEY, IMAGE_NAME, PROJECT, PROVIDER_NAME, TICKET, VM_ID } from '../domain.ts'

/** A member with its meaning, which the JSON Schemas and the docs show. */
export const described = <Schema extends v.GenericSchema>(schema: Schema, description: string) =>
  v.pipe(schema, v.description(description))

/** `most` is in characters. */
export const shortText = (most: number) => v.pipe(v.string(), v.maxLength(most))
/** Long text is cut, never refused: an outcome must not be lost because its message is long. */
export const prose = (most: number) =>
  v.pipe(
    v.string(),
    v.transform(text => text.slice(0, most)),
  )
/** How a person or a status is called: one line, without control and invisible characters. */
export const oneName = v.pipe(
  v.string(),
  v.transform(name =>
    name
      .slice(0, 100)
      .replaceAll(/[\s\p{Cc}]+/gu, ' ')
      .replaceAll(/[\p{Cf}\p{Cs}\p{Co}]/gu, '')
      .trim(),
  ),
)
export const count = v.pipe(v.number(), v.integer(), v.minValue(0))
export const machineSize = v.object({ cpus: count, memoryMiB: count, diskGiB: count })
/** What a machine may take, or needs, in MiB of memory and GiB of disk. */
export type MachineSize = v.InferOutput<typeof machineSize>
/** ISO 8601, UTC. */
export const time = v.pipe(v.string(), v.maxLength(40), v.title('time'))
/** The newest `most` members of a list whose last is the newest. */
export const newest = <Item extends v.GenericSchema>(item: Item, most: number) =>
  v.pipe(
    v.array(item),
    v.transform(all => all.slice(-most)),
  )

export const ticket = v.pipe(v.string(), v.regex(TICKET), v.title('ticket'))
/** The key of a Jira project: `DROP`. */
export const project = v.pipe(v.string(), v.regex(PROJECT))
/** A ticket, or one of its attempts: `DROP-2100~1`. */
export const environmentKey = v.pipe(v.string(), v.regex(ENVIRONMENT_KEY), v.title('ticket or attempt'))
export const vmId = v.pipe(v.string(), v.regex(VM_ID))
export const checkpointName = v.pipe(v.string(), v.regex(CHECKPOINT_NAME))
export const providerName = v.pipe(v.string(), v.regex(PROVIDER_NAME))
export const imageName = v.pipe(v.string(), v.regex(IMAGE_NAME))
/** A commit: SHA-1 or SHA-256, perhaps shortened. */
export const commit = v.pipe(v.string(), v.regex(/^[0-9a-f]{7,64}$/i))
/** A whole commit id. */
export const fullCommit = v.pipe(v.string(), v.regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/))
/** `owner/name` on GitHub. */
export const repository = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,38}\/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}$/),
)
/** A branch by git's own rules for names (git-check-ref-format): nothing invisible, and nothing that a program takes for an option. */
const BRANCH_NAME =
  /^(?![-./])(?!.*(?:\.\.|@\{|\/\/|\/\.|\.lock(?:\/|$)))(?!@$)[^\0- \x7f-\xa0~^:?*[\\\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]{1,250}(?<![./])$/
export const branchName = v.pipe(v.string(), v.regex(BRANCH_NAME))
