/** What shall be done to one environment, and for whom. Crosses the queue, the runner protocol and the disk. */
import * as v from 'valibot'
import { MAX_ATTEMPTS, MAX_FORKS } from '../domain.ts'
import {
  branchName,
  checkpointName,
  commit,
  count,
  described,
  environmentKey,
  fullCommit,
  imageName,
  oneName,
  prose,
  repository,
  shortText,
  ticket,
  time,
} from './basics.ts'

/** What made somebody's wish an action, as people say it: `push`, then `by` and who it was. */
const cause = v.picklist([
  'push',
  'merge',
  'pull request closed',
  'pull request reopened',
  'ticket moved',
  'ticket assigned',
  'ticket deleted',
  'key changed',
  'command',
  'review',
  'failed check',
])
export type Cause = v.InferOutput<typeof cause>

/**
 * Who asked. `who` is a GitHub login, a Jira account or the user of the CLI; null when the source does not say. `name` is the
 * display name of a Jira account, `movedTo` that of a status: outside text, for people only.
 */
export const requester = v.pipe(
  v.object({
    via: described(
      v.picklist(['github', 'jira', 'cli', 'clock', 'machine']),
      '`machine`: a program in the machine itself, which counts as nobody.',
    ),
    who: described(v.nullable(shortText(255)), 'A login, an account or a user; null when the source does not say.'),
    name: described(v.optional(oneName), "A Jira account's display name."),
    cause: described(
      v.optional(cause),
      'What they did; absent when they asked on the command line, or an earlier version recorded it.',
    ),
    movedTo: described(v.optional(oneName), 'The status that they moved the ticket to, by its name in Jira.'),
  }),
  v.title('requester'),
)
export type Requester = v.InferOutput<typeof requester>

const pullRequestRef = v.object({ repo: repository, number: count })
export type PullRequestRef = v.InferOutput<typeof pullRequestRef>

const githubComment = { ...pullRequestRef.entries, commentId: count }
const jiraComment = { ticket, commentId: shortText(64) }
/** A comment that holds commands: on a pull request, or on a ticket in Jira. */
const commentRef = v.union([v.object(githubComment), v.object(jiraComment)])
export type CommentRef = v.InferOutput<typeof commentRef>
/** Names the comment that commands stand in: all commands of one comment share it. */
export const threadOf = (comment: CommentRef): string =>
  'repo' in comment ? `github:${comment.repo}:${comment.commentId}` : `jira:${comment.ticket}:${comment.commentId}`
/** Where a person waits for an answer. `line` is the command's index in that comment, from 0. */
const replyTo = v.union([v.object({ ...githubComment, line: count }), v.object({ ...jiraComment, line: count })])
export type ReplyTo = v.InferOutput<typeof replyTo>

/** What a repository asks of a new machine. Absent members take the runner's defaults, and the runner's limits apply. */
const machineSpec = v.object({
  baseImage: v.optional(imageName),
  cpus: v.optional(count),
  memoryMiB: v.optional(count),
  diskGiB: v.optional(count),
})
export type MachineSpec = v.InferOutput<typeof machineSpec>

/**
 * The project of a new machine. `branch` null: the runner makes `<TICKET>-<slug of the summary>`, unless the repository has a
 * branch of the ticket. `summary` is outside text.
 */
const projectSpec = v.object({
  repo: repository,
  branch: v.nullable(branchName),
  summary: v.nullable(oneName),
  /** Whether a person named the repository, and the rules did not choose it. */
  named: v.optional(v.literal(true)),
})
export type ProjectSpec = v.InferOutput<typeof projectSpec>

/** What an agent works on: the text of the ticket as it was when this was asked for. Outside text: data, never a command. */
export const task = v.object({ summary: prose(500), description: prose(30_000), acceptance: prose(30_000) })
export type Task = v.InferOutput<typeof task>

/** How many automatic checkpoints are kept, and for how many days at most. */
const checkpointRetention = v.object({ newest: count, days: v.nullable(count) })
export type CheckpointRetention = v.InferOutput<typeof checkpointRetention>

export const MAX_MERGED_COMMITS = 1_000
/** Commits of the ticket's merged pull requests. These and their ancestors are saved on GitHub, so they are not unsaved work. */
const mergedCommits = v.optional(v.pipe(v.array(fullCommit), v.maxLength(MAX_MERGED_COMMITS)))

const promoted = described(
  v.optional(v.pipe(count, v.minValue(1), v.maxValue(MAX_ATTEMPTS))),
  "Refused unless the ticket's machine is what this attempt was before it was promoted.",
)

const common = {
  /** The environment's key. */
  ticket: environmentKey,
  by: requester,
  replyTo: v.nullable(replyTo),
  /** Set for a fork's pull request: the action runs only while the pull request it answers has this head. */
  onlyAt: v.optional(commit),
  /** Time of the triggering event. A manual operation later than this wins. */
  at: v.optional(time),
  /** This action cancelled a delete that a merge had scheduled; its reply says so. */
  cancelsDelete: v.optional(v.literal(true)),
}

export const action = v.variant('kind', [
  v.object({
    kind: v.literal('create'),
    ...common,
    machine: v.optional(machineSpec),
    project: v.optional(projectSpec),
    /** Why the machine gets no project, for people. */
    noProject: v.optional(prose(1_000)),
    /** Present: an agent may start on this ticket, if the runner has one. */
    task: v.optional(task),
    /** Why no agent may start, for people. */
    noAgent: v.optional(prose(1_000)),
  }),
  v.object({ kind: v.literal('start'), ...common }),
  /** `idle`: nobody uses it. Its memory is saved where the provider can. `save`: it is saved, or nothing is done. */
  v.object({
    kind: v.literal('stop'),
    ...common,
    mergedCommits,
    promoted,
    idle: v.optional(v.literal(true)),
    save: v.optional(v.literal(true)),
  }),
  /** A stop and a start under one lock. */
  v.object({ kind: v.literal('restart'), ...common }),
  v.object({
    kind: v.literal('checkpoint'),
    ...common,
    /** Null: the runner names it after the time. */
    name: v.nullable(checkpointName),
    /** `machine`: a program in the machine asked for it. */
    why: v.picklist(['push', 'command', 'machine']),
    commit: v.nullable(commit),
    keep: v.optional(checkpointRetention),
  }),
  /** `name` null: the newest checkpoint that a restore did not make. `cold`: only its disk, which boots. */
  v.object({
    kind: v.literal('restore'),
    ...common,
    name: v.nullable(checkpointName),
    cold: v.optional(v.boolean()),
  }),
  v.object({ kind: v.literal('delete-checkpoint'), ...common, name: checkpointName }),
  v.object({ kind: v.literal('delete'), ...common, force: v.boolean(), mergedCommits, promoted }),
  /** The Jira issue `from` got the key `ticket`: its machine, checkpoints and history go along. */
  v.object({ kind: v.literal('move'), ...common, ticket, from: ticket }),
  /** Makes attempts: machines that go on from its present state, or from a checkpoint (`from`), each on a branch of its own. */
  v.object({
    kind: v.literal('fork'),
    ...common,
    count: v.pipe(count, v.minValue(1), v.maxValue(MAX_FORKS)),
    from: v.nullable(checkpointName),
  }),
  /** Makes the attempt of this number the ticket's machine. The former machine and the other attempts go. */
  v.object({
    kind: v.literal('promote'),
    ...common,
    ticket,
    attempt: v.pipe(count, v.minValue(1), v.maxValue(MAX_ATTEMPTS)),
  }),
  /** Gives the agent another message, in its session. `round`: which of the rounds it is that reviews and failed checks may take. */
  v.object({ kind: v.literal('tell'), ...common, text: prose(20_000), round: v.optional(count) }),
  /** Starts the agent, in its session if it has one, or stops it. `task`: the ticket's text now, for a first start. */
  v.object({ kind: v.literal('agent'), ...common, what: v.picklist(['start', 'stop']), task: v.optional(task) }),
  /** Reads and reports. `about`: the part to report; all of it when absent. */
  v.object({ kind: v.literal('status'), ...common, about: v.optional(v.picklist(['checkpoints', 'ssh', 'logs'])) }),
])
export type Action = v.InferOutput<typeof action>
export type ActionKind = Action['kind']
export const actionKinds = action.options.map(option => option.entries.kind.literal)

/** How far a running action is. */
export const progress = v.pipe(
  v.object({ phase: prose(200), at: described(time, 'When the phase began.') }),
  v.title('progress'),
)
export type Progress = v.InferOutput<typeof progress>

/** What a running action waits for, and has waited for longer than usual. */
const waitsFor = v.object({
  /** `virsh define`, or another command on the ticket. */
  what: prose(200),
  since: time,
  /** When it is given up; null when it is not. */
  until: v.nullable(time),
})
/** How far the attempt under way is, as its runner reports it. */
export const attemptProgress = v.object({ ...progress.entries, waitsFor: v.optional(v.nullable(waitsFor)) })
/** `failed`: why the attempt before it failed. */
export type AttemptProgress = v.InferOutput<typeof attemptProgress> & { failed?: string }

/** What a new machine lacks and why, one text each, for people. */
export const lacksOf = (action: Action): string[] =>
  action.kind === 'create' ? [action.noProject, action.noAgent].filter(text => text !== undefined) : []
