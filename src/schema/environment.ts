/** One environment, as its runner reports it. */
import * as v from 'valibot'
import { requester } from './action.ts'
import {
  checkpointName,
  commit,
  count,
  described,
  newest,
  prose,
  providerName,
  shortText,
  ticket,
  time,
  vmId,
} from './basics.ts'

const environmentStatus = v.picklist(['creating', 'running', 'stopped', 'deleting', 'failed', 'lost'])
export type EnvironmentStatus = v.InferOutput<typeof environmentStatus>

export const sshAddress = v.pipe(
  v.object({
    host: shortText(255),
    port: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535)),
    user: shortText(64),
  }),
  v.title('ssh address'),
)
export type SshAddress = v.InferOutput<typeof sshAddress>

export const checkpoint = v.pipe(
  v.object({
    name: checkpointName,
    why: described(v.picklist(['push', 'command', 'before restore']), 'Why it was made.'),
    commit: described(v.nullable(commit), 'The commit that was pushed.'),
    createdAt: time,
    withMemory: described(v.boolean(), 'Whether a restore resumes the running guest instead of booting it.'),
    sizeBytes: described(v.optional(v.nullable(count), null), 'Disk space that making it took; null when unknown.'),
  }),
  v.title('checkpoint'),
)
export type Checkpoint = v.InferOutput<typeof checkpoint>

/** What would be lost with the machine. `known: false` when the guest could not be asked. */
export const unsavedWork = v.pipe(
  v.variant('known', [
    v.object({
      known: v.literal(true),
      repositories: v.pipe(
        v.array(
          v.object({ path: shortText(500), uncommitted: count, untracked: count, stashes: count, unpushed: count }),
        ),
        v.maxLength(200),
      ),
    }),
    v.object({ known: v.literal(false), reason: described(prose(2_000), 'Why the machine could not be checked.') }),
  ]),
  v.title('unsaved work'),
)
export type UnsavedWork = v.InferOutput<typeof unsavedWork>

export const environment = v.pipe(
  v.object({
    ticket,
    provider: providerName,
    vmId,
    ip: v.nullable(shortText(64)),
    status: environmentStatus,
    baseImage: shortText(64),
    createdAt: time,
    createdBy: v.optional(requester, { via: 'cli', who: null }),
    ssh: v.nullable(sshAddress),
    checkpoints: described(newest(checkpoint, 1_000), 'Oldest first.'),
    unsavedWork: described(
      v.nullable(unsavedWork),
      'At the last stop or delete; null when there was none or no check.',
    ),
    observedAt: described(time, 'When the hypervisor was queried.'),
  }),
  v.title('environment'),
)
export type Environment = v.InferOutput<typeof environment>
