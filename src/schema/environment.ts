/** One environment, as its runner reports it. */
import * as v from 'valibot'
import { requester } from './action.ts'
import {
  branchName,
  checkpointName,
  commit,
  count,
  described,
  environmentKey,
  newest,
  prose,
  providerName,
  repository,
  shortText,
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
    why: described(
      v.picklist(['push', 'command', 'before restore', 'machine']),
      'Why it was made. `machine`: a program in the machine asked for it, or for the restore that it was made before.',
    ),
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
          v.object({
            ...{ path: shortText(500), uncommitted: count, untracked: count, stashes: count, unpushed: count },
            reflog: described(v.optional(count), 'Commits that no branch, tag or stash holds any more.'),
          }),
        ),
        v.maxLength(200),
      ),
    }),
    v.object({ known: v.literal(false), reason: described(prose(2_000), 'Why the machine could not be checked.') }),
  ]),
  v.title('unsaved work'),
)
export type UnsavedWork = v.InferOutput<typeof unsavedWork>

/** A run of the project's setup or start. */
const projectStep = v.pipe(
  v.object({
    state: v.picklist(['running', 'done', 'failed']),
    source: described(shortText(200), 'Where its commands come from, for example `.github/agent-swarm.yml`.'),
    exit: described(v.nullable(count), 'Exit status; null while it runs, or when it did not end by itself.'),
    startedAt: time,
    seconds: v.nullable(v.pipe(v.number(), v.minValue(0))),
  }),
  v.title('project step'),
)
export type ProjectStep = v.InferOutput<typeof projectStep>

const project = v.pipe(
  v.object({
    repo: repository,
    branch: v.nullable(branchName),
    path: described(shortText(500), 'The folder in the machine.'),
    ports: described(v.pipe(v.array(count), v.maxLength(50)), 'That it says it listens on.'),
    setup: described(v.nullable(projectStep), 'Null: there is none, or it was not reached.'),
    start: described(v.nullable(projectStep), 'The last one; null: there is none, or it was not reached.'),
    problem: described(v.nullable(prose(2_000)), 'Why the project is not there, or not as it should be.'),
  }),
  v.title('project'),
)
export type Project = v.InferOutput<typeof project>

/** A push that the git gateway let through. */
export const push = v.pipe(
  v.object({
    repo: repository,
    branch: branchName,
    commit,
    byAgent: described(v.boolean(), 'Whether the agent pushed it, and not a person in the machine.'),
    at: time,
  }),
  v.title('push'),
)
export type Push = v.InferOutput<typeof push>

const agentResults = ['done', 'blocked', 'out of time', 'out of budget', 'crashed', 'stopped'] as const
export const agentReport = v.pipe(
  v.object({
    use: described(v.picklist(['claude', 'codex', 'command']), 'The program.'),
    run: described(v.pipe(v.string(), v.regex(/^[0-9a-f]{8}$/)), 'Names one run; the next one has another.'),
    state: described(v.picklist(['wanted', 'running', 'ended']), '`wanted`: it starts as soon as it can.'),
    startedAt: v.nullable(time),
    endedAt: v.nullable(time),
    result: described(v.nullable(v.picklist(agentResults)), 'How the run ended.'),
    reason: described(v.nullable(prose(2_000)), 'Why it ended so, or why it does not start.'),
    summary: described(v.nullable(prose(5_000)), "The agent's own last words: outside text."),
    turns: count,
    tokens: described(count, 'In and out, of all its runs; those of an attempt include what its source had used.'),
    usd: described(v.nullable(v.pipe(v.number(), v.minValue(0))), 'Cost of the same; null when unknown.'),
    rounds: described(count, 'How many reviews and failed checks were passed on to it.'),
    pullRequest: described(v.picklist(['draft', 'ready', 'none']), 'What its first push opens.'),
  }),
  v.title('agent'),
)
export type AgentReport = v.InferOutput<typeof agentReport>

/**
 * A machine that nobody uses (setting `idle`), and one whose memory is saved for whatever reason. `becomes`: what it is at `at`,
 * unless somebody uses it; `reason`: why it stays as it is.
 */
const idleReport = v.pipe(
  v.variant('state', [
    v.object({
      state: v.literal('warned'),
      since: described(time, 'When it was used last.'),
      becomes: v.picklist(['saved', 'stopped', 'left running']),
      at: v.nullable(time),
      reason: v.nullable(prose(1_000)),
    }),
    v.object({
      state: v.picklist(['saved', 'stopped']),
      at: described(v.nullable(time), 'Since when; null: unknown.'),
    }),
  ]),
  v.title('idle'),
)
export type IdleReport = v.InferOutput<typeof idleReport>

/** A hypervisor that takes machines back by itself: Spot of AWS. */
const interruption = v.pipe(
  v.object({
    state: described(
      v.picklist(['announced', 'stopped']),
      '`announced`: it runs for some minutes yet. `stopped`: the hypervisor alone starts it again.',
    ),
    by: described(shortText(64), 'Whose decision it is, for example `AWS`.'),
    cause: described(prose(500), 'In its own words.'),
    next: described(prose(1_000), 'What becomes of the machine, and what helps.'),
  }),
  v.title('interruption'),
)
export type Interruption = v.InferOutput<typeof interruption>

export const environment = v.pipe(
  v.object({
    ticket: environmentKey,
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
    paused: described(
      v.optional(v.nullable(shortText(200))),
      "The hypervisor's reason why a running machine is paused, outside an operation.",
    ),
    interruption: described(
      v.optional(interruption),
      'That the hypervisor takes the machine back by itself. Missing: it does not.',
    ),
    ending: described(
      v.optional(prose(500)),
      'Why a lost machine ended, as long as its hypervisor knows. Missing: unknown.',
    ),
    idle: described(
      v.optional(idleReport),
      'Whether the machine was warned as idle, saved or stopped for it. Missing: none of these.',
    ),
    project: described(v.optional(project), 'Missing: the machine has none.'),
    agent: described(v.optional(agentReport), 'Missing: no agent was asked for.'),
    pushes: described(v.optional(newest(push, 20)), 'The newest pushes from the machine, oldest first.'),
    attempt: described(
      v.optional(v.object({ of: environmentKey, from: v.nullable(checkpointName) })),
      'Of an attempt: what it was forked from, and its checkpoint; null: as it was at the moment.',
    ),
    note: described(
      v.optional(v.object({ text: prose(2_000), at: time })),
      'The last note that was written in the machine: outside text.',
    ),
  }),
  v.title('environment'),
)
export type Environment = v.InferOutput<typeof environment>
