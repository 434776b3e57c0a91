/**
 * The contract of a handler: (event, facts, rules) -> decision. Handlers are pure: no I/O, no clock, no randomness. Events are
 * our own small types; src/bot makes them out of webhooks, polls and scheduled deliveries, so that every source ends in the same
 * handler.
 */
import { type EnvironmentKey, type Ticket, withTicket } from '../src/domain.ts'
import type {
  Action,
  ActionKind,
  CheckpointRetention,
  MachineSpec,
  PullRequestRef,
  ReplyTo,
  Requester,
  Task,
} from '../src/schema/action.ts'
import type { AgentReport, Environment, Push } from '../src/schema/environment.ts'
import type { Transitions } from '../src/schema/workspace.ts'
import type { CommandLine } from './command-lines.ts'
import type { CommandName } from './slash-commands.ts'

/** Jira's status categories, by key: their names can be renamed and translated. `undefined` is Jira's own fourth key. */
export type StatusCategory = 'new' | 'indeterminate' | 'done' | 'undefined'

/** Where a ticket stands in Jira. `summary`: its title, where the source tells it. */
export type TicketNow = {
  category: StatusCategory
  assignee: string | null
  labels: readonly string[]
  summary?: string | null
}

export type PullRequestEvent = {
  kind: 'pull-request'
  /**
   * `closed` covers a merge too: the present state tells them apart. `grace over`: the minutes of grace after a merge have passed
   * (a scheduled event).
   */
  change: 'opened' | 'reopened' | 'ready_for_review' | 'converted_to_draft' | 'edited' | 'closed' | 'grace over'
  pullRequest: PullRequestRef
  branch: string
  title: string
  /** The head branch is in another repository, or in one that was deleted. */
  fromFork: boolean
  /** `closed` by a merge. */
  merged: boolean
  sender: string | null
  /** It was changed at this time or before, epoch ms; null when the source does not say. The time of a close is read again. */
  at: number | null
}

/**
 * `at`: when it happened, epoch ms of Jira's clock; null when the source does not say. `fromStatus`: the id of the status that it
 * was moved from; null when its status did not change or the source does not say. `statusName`: of the status that it has, as
 * people read it; null when the source does not say.
 */
type TicketEvent = TicketNow & {
  kind: 'ticket'
  ticket: Ticket
  fromStatus: string | null
  statusName: string | null
  by: Requester
  at: number | null
}
/** `deleted` counts as category `done`. */
export type StatusEvent = TicketEvent & { change: 'status' | 'assignee' | 'deleted' }
/** The Jira issue `from` got the key `ticket`. `statusChanged`: the same change also moved it to another status. */
export type MovedEvent = TicketEvent & { change: 'moved'; from: Ticket; statusChanged: boolean }

export type SwarmEvent =
  /** `at`: epoch ms; missing or null when GitHub does not say. */
  | {
      kind: 'push'
      repo: string
      ref: string
      after: string
      deleted: boolean
      pusher: string | null
      at?: number | null
    }
  | PullRequestEvent
  | {
      kind: 'comment'
      pullRequest: PullRequestRef
      commentId: number
      body: string
      author: string
      authorIsBot: boolean
      /** Why this comment cannot give commands, whoever wrote it (for example `UNFIT_EDITED`); null when it can. */
      unfit: string | null
      /** When it was written, epoch ms; null when the source does not say. */
      at: number | null
      /** GitHub calls the author OWNER, MEMBER or COLLABORATOR. */
      authorIsMember?: true
    }
  | {
      kind: 'ticket-comment'
      ticket: Ticket
      commentId: string
      /** As the source sent it: a document (ADF) or wiki text. */
      body: unknown
      change: 'created' | 'edited'
      /** When it was written, epoch ms of Jira's clock; null when the source does not say. */
      at: number | null
    }
  | StatusEvent
  | MovedEvent
  /** A run of the ticket's agent has ended, as its runner reports it. */
  | { kind: 'agent-ended'; ticket: EnvironmentKey; run: AgentReport }
  /** The git gateway let a push from the ticket's machine through. `agentOpens`: what the first push of its agent opens. */
  | { kind: 'pushed'; ticket: EnvironmentKey; push: Push; agentOpens: AgentReport['pullRequest'] }
  /** A review that asks for changes. */
  | {
      kind: 'review'
      pullRequest: PullRequestRef
      reviewId: number
      body: string
      author: string
      authorIsBot: boolean
      /** When it was submitted, epoch ms; null when the source does not say. */
      at: number | null
    }
  /** Checks of a commit have failed. `branch`: its branch in this repository; null when it has none. */
  | { kind: 'checks'; repo: string; branch: string | null; commit: string; at: number | null }
export type EventKind = SwarmEvent['kind']
export type EventOf<Kind extends EventKind> = Extract<SwarmEvent, { kind: Kind }>

/** A pull request at this moment. */
export type PullRequestNow = {
  state: 'open' | 'closed' | 'merged'
  branch: string
  title: string
  fromFork: boolean
  isDraft: boolean
  headSha: string
  /** Epoch ms; null while it is open. */
  closedAt: number | null
  /** Epoch ms of GitHub's clock; null when it does not say. */
  updatedAt: number | null
}

/** Why branches of bots mean nothing (branches.ts). */
export const OF_A_BOT = "the branch is a bot's: of dependencies, of a revert or of the merge queue"
export const UNFIT_EDITED = 'edited comments cannot give commands'
export const UNFIT_OWN = 'comments of the bot cannot give commands'

/** Actions that decide which machine the ticket has, and whether it runs. */
export const STATE_CHANGING_ACTIONS: readonly ActionKind[] = [
  'create',
  'start',
  'stop',
  'restart',
  'restore',
  'delete',
  'promote',
]

/** A request made after the event happened. It wins over the event, however late the event arrives. `who`: for people. */
export type LaterRequest = { who: string | null; kind: ActionKind }

/** What happened to a ticket after a command was written: the command may arrive late. */
export type SinceCommand = {
  /** The last request by a person, by another command or by hand. */
  personRequest: LaterRequest | null
  /** The last request by anybody or anything. */
  lastRequest: LaterRequest | null
  /** The categories that the ticket was moved to in Jira, oldest first. */
  moves: readonly ('new' | 'indeterminate')[]
}

/** An environment that an event stops or deletes. */
export type Existing = Pick<Environment, 'ticket' | 'status'>

/** What decides which project a new machine gets, and whether an agent starts in it. */
export type NewMachine = {
  /**
   * The repositories that serve the ticket's project, in the operator's order, by their present names; `acme/*` stands for all of
   * an owner.
   */
  repositories: readonly string[]
  /** The operator's map names them for this project, so that the first is preferred. */
  isMapped: boolean
  /**
   * The ticket's open pull request, or the one on which the command was given. `branch` null: it is closed, or its head is in
   * another repository (`fromFork`).
   */
  pullRequest: { repo: string; branch: string | null; fromFork: boolean } | null
  /** A repository that has a branch of the ticket. Looked for only where several could. */
  withBranch: string | null
  /** The ticket's title; null when Jira does not tell it. */
  summary: string | null
  /**
   * Read only where the operator has an agent. `'unwanted'`: the repository's own file wants none. `null`: there is no Jira, or no
   * such ticket.
   */
  text: { task: Task; reporter: string | null } | 'unreadable' | 'unwanted' | null
  /** The Jira account of the bot's token, where `agent.reporters` needs it. */
  me: string | null
}

/** What a handler needs to know beyond the event, read beforehand. `null` where the thing does not exist. */
export type Facts = {
  /** `live`: its provider makes checkpoints without stopping the machine. */
  /** `environment`: of the attempt whose branch it is, while that exists; else of the ticket. */
  push: { environment: Environment | null; live: boolean }
  'pull-request': {
    /** Of the attempt whose branch it has, while that exists; else of the ticket. */
    environment: Environment | null
    /** The attempts of the ticket, but those that a person requested something of after this event. Absent: none. */
    attempts?: readonly Existing[]
    /** Read again just now; it wins over the event. */
    now: PullRequestNow | null
    /** An earlier event was already decided on this same state of the pull request. */
    stateDecided: boolean
    /** The last that happened to its machine is that the close of a pull request stopped it. */
    stoppedByClose: boolean
    /** An earlier event was already decided on a pull request that was ready for review, and it was no draft since. */
    readyDecided: boolean
    /** Its ticket has or had a machine here. */
    hadMachine: boolean
    /** Other open pull requests of the same ticket. */
    others: PullRequestRef[]
    /** The ticket was moved in progress after the pull request was closed; after a merge, by way of category `new`. */
    ticketRestarted: boolean
    laterRequest: LaterRequest | null
  }
  comment: {
    /** The commenter's permission at this moment; `maintain` counts as write, `triage` as read. */
    permission: 'admin' | 'write' | 'read' | 'none'
    /**
     * They may not command, and belong to the repository all the same: everybody who reads a private one; in a public one, who has
     * triage access or is OWNER, MEMBER or COLLABORATOR.
     */
    isColleague?: boolean
    /** The commands of the comment, when they were read for the other facts. */
    lines?: readonly CommandLine[]
    /** The commenter's teams, among those that a rule for these commands names; null when they cannot be read. */
    teams: readonly string[] | null
    now: PullRequestNow | null
    /** The attempt whose branch the pull request has, while that exists. Absent: none. */
    attempt?: Pick<Environment, 'ticket'> | null
    /** The commit of a fork that somebody allowed. */
    allowed: string | null
    since: SinceCommand
    /** Absent: not read, because nothing is created. */
    newMachine?: NewMachine
  }
  'ticket-comment': {
    /** Read again just now: its document, and whether it was edited since it was written. */
    now: { body: unknown; author: Requester; authorIsApp: boolean; edited: boolean } | null
    /** The bot wrote it. */
    isOwnComment: boolean
    /** The ticket's assignee at this moment. */
    assignee: string | null
    since: SinceCommand
    /** Absent: not read, because nothing is created. */
    newMachine?: NewMachine
  }
  /**
   * After a move, `environment` is the one under the new key; the members that tell history (`endedSinceNew`, `hadPullRequest`,
   * `closedSince`, `laterRequest`) are about the old key, whose history follows the ticket.
   */
  ticket: {
    environment: Environment | null
    /** After a move, the environment under the old key; null for every other event. */
    previous: Environment | null
    /** See `pull-request`. After a move, those of the old key. */
    attempts?: readonly Existing[]
    /**
     * Read again just now; null when the issue is gone. `unreadable`: Jira could not be read, and the event counts (for a create
     * only). `outdated`: Jira could not be read, and the bot knows a newer state of the ticket than the event's.
     */
    now: TicketNow | 'unreadable' | 'outdated' | null
    /** The category of the status that a move comes from; null when it is unknown, or the event is no move. */
    from: StatusCategory | null
    /** The assignee, or who caused the event, is one of those whose tickets the operator gives machines. */
    isOurs: boolean
    /** Its last environment was deleted or merged since the ticket was last in category `new`. */
    endedSinceNew: boolean
    /** The ticket has had a pull request, or the bot had no way to look for one. */
    hadPullRequest: boolean
    /** Its last open pull request was closed unmerged after this event. */
    closedSince: boolean
    /** The Jira account of the bot's token. */
    me: string | null
    laterRequest: LaterRequest | null
    /** Absent: not read, because nothing is created. */
    newMachine?: NewMachine
  }
  'agent-ended': Record<never, never>
  pushed: {
    /** GITHUB_REPOSITORIES lets the repository act. */
    isListed: boolean
    /** Whose branch it is there, by its present key. */
    named: EnvironmentKey | null
    /** A pull request that the branch has, or had. */
    pullRequest: PullRequestRef | null
  }
  review: {
    /** See `comment`. */
    permission: 'admin' | 'write' | 'read' | 'none'
    teams: readonly string[] | null
    now: PullRequestNow | null
    /** The ticket of the pull request, by its present key. */
    ticket: Ticket | null
    environment: Environment | null
    /** Of this review, in the order of the code. Outside text. */
    comments: readonly ReviewComment[]
    /** How many reviews and failed checks were passed on to its agent already. */
    told: number
    /** This review was passed on already. */
    isPassedOn: boolean
  }
  checks: {
    ticket: Ticket | null
    environment: Environment | null
    /** The commit is the head of its branch at this moment. */
    isHead: boolean
    /** Outside text. */
    failed: readonly FailedCheck[]
    /** An open pull request of the branch. */
    pullRequest: PullRequestRef | null
    /** See `review`. */
    told: number
    isPassedOn: boolean
  }
}

/** A comment on a line of the code. `line` null: on the file, or the line is gone. */
export type ReviewComment = { path: string; line: number | null; body: string }
export type FailedCheck = { name: string; conclusion: string; url: string | null; summary: string | null }

/** `me`: the account of the bot's token. Otherwise Jira accounts. */
type Assignees = 'me' | 'any' | readonly string[]
type Ending = 'stop' | 'delete' | 'nothing'
/** The rules that a handler decides by: the operator's configuration, narrowed by the repository's own file. */
export type Rules = {
  projects: readonly string[]
  assignees: Assignees
  /** The repository's own: a ticket gets a machine automatically when it is for both. */
  onlyAssignees: Assignees
  /** A ticket needs one of these labels, in any case, to get a machine automatically. Empty: every ticket does. */
  labels: readonly string[]
  /** Patterns of the branches that are served, `*` for any text. Empty: every branch. */
  branches: readonly string[]
  machine: MachineSpec
  /** What happens to the machine when its pull request is closed unmerged, and when it is merged. */
  closed: Ending
  merged: Ending
  /** What happens when its ticket is done. Null: stop, or delete when the ticket never had a pull request. */
  done: Ending | null
  /** From the merge to the delete. */
  graceMinutes: number
  keep: CheckpointRetention
  /**
   * Who may give a command, by command: GitHub logins, teams as `org/team`, Jira accounts as `jira:<account id>`. A rule only
   * narrows: write access is required as well. A command without a rule is open to everybody who may command at all.
   */
  commands: Readonly<Partial<Record<CommandName, readonly string[]>>>
  /** Jira accounts that may command on every ticket, besides its assignee. */
  jiraCommanders: readonly string[]
  /**
   * Whose tickets start an agent, by who reported them, and how many reviews and failed checks it gets. Null: there is no agent.
   */
  agent: { reporters: Assignees; rounds: number } | null
  /** What GitHub's events do to the ticket in Jira. */
  transitions: Transitions
}

/** How many reviews and failed checks are passed on to an agent. */
export const roundsOf = ({ agent }: Rules): number => agent?.rounds ?? 0

/**
 * An answer that needs no action. `text` is ours: what it quotes of others holds only letters, digits and harmless signs; code is
 * in backticks. `what`: the command as it was written. `help`: the table of commands follows. `ok` chooses 🚀 or 😕.
 */
export type Reply = { to: ReplyTo; what: string; text: string; help: boolean; ok: boolean }
/**
 * A person's request and how it was judged, for the audit log. A refusal with a `ticket` also shows on its status comment.
 * `line`: the command's index in its comment, from 0; null for the whole comment. `what`: the command as it was written.
 */
export type Judgement = { by: Requester; line: number | null; what: string; reason: string; ticket: Ticket | null }
/**
 * A comment to write on `ticket`: the machine of its old key `from` did not come along, and is stopped. `project-not-served`: its
 * new project is not served here. `two-machines`: the new key has a machine of its own.
 */
export type MoveNote = { ticket: Ticket; from: Ticket; reason: 'project-not-served' | 'two-machines' }

/** Why a ticket in progress gets no machine, where a comment on the ticket tells it. */
export type WhyNoMachine =
  | 'not-served'
  | 'assigned-to-nobody'
  | 'assigned-to-other'
  | 'assignee-not-in-rules'
  | 'ended'
  | 'deleted-later'
  | 'closed-later'
  /** What the decision needs cannot be read yet: it is tried again. */
  | 'unreadable'

/** A ticket in progress gets no machine. `tell`: what a comment on the ticket says of it, null when nothing does. */
export type NoMachine = { tell: WhyNoMachine | null }

/** What is done on GitHub or in Jira besides the answers to commands. Each is done once. */
export type Announcement =
  /** One comment on how the run ended. */
  | { kind: 'agent-ended'; ticket: EnvironmentKey; run: AgentReport }
  | { kind: 'open-pull-request'; ticket: Ticket; repo: string; branch: string; draft: boolean; byAgent: boolean }
  /** Moves the ticket in Jira. `status`: the name of the status, or true: whichever fits. */
  | { kind: 'move-ticket'; ticket: Ticket; pullRequest: PullRequestRef; to: 'review' | 'done'; status: string | true }
  /** The agent was told as many reviews and failed checks as the rules allow. */
  | { kind: 'rounds-over'; ticket: Ticket; pullRequest: PullRequestRef; told: number }

export type Decision =
  /** Decide `event` after so many minutes, by what is true then. */
  | {
      verdict: 'later'
      ticket: Ticket
      minutes: number
      event: SwarmEvent
      reason: string
      announcements?: readonly Announcement[]
    }
  | {
      verdict: 'act'
      /** Jira issues that got a new key. Their records are renamed before `actions` are queued. */
      renames: { from: Ticket; to: Ticket }[]
      actions: Action[]
      replies: Reply[]
      notes: MoveNote[]
      announcements: readonly Announcement[]
      /** Requests that people made by command. */
      granted: Judgement[]
      refusals: Judgement[]
      /** The commit of a fork's pull request on which commands may act from now on. */
      allow: string | null
      noMachine?: NoMachine
    }
  /** The event needs no action. */
  | { verdict: 'ignored'; reason: string; noMachine?: NoMachine }
  /** A request that is not permitted: recorded, and not answered. `isShown`: a reaction shows that it was read. */
  | { verdict: 'refused'; reason: string; refusals: Judgement[]; isShown?: true }
type ActDecision = Extract<Decision, { verdict: 'act' }>
export type RefusedDecision = Extract<Decision, { verdict: 'refused' }>

export type Handler<Kind extends EventKind> = (event: EventOf<Kind>, facts: Facts[Kind], rules: Rules) => Decision

export const act = (actions: Action[], more: Partial<Omit<ActDecision, 'verdict' | 'actions'>> = {}): ActDecision => ({
  verdict: 'act',
  renames: [],
  actions,
  replies: [],
  notes: [],
  announcements: [],
  granted: [],
  refusals: [],
  allow: null,
  ...more,
})
/** What an event is about: the attempt that its branch belongs to, whose environment was found, or else the ticket. */
export const keyWith = (ticket: Ticket, environment: Pick<Environment, 'ticket'> | null): EnvironmentKey =>
  environment === null ? ticket : withTicket(environment.ticket, ticket)

/** What the actions of one event have in common. */
export type ActionBase = Pick<Action, 'ticket' | 'by' | 'replyTo'>
/** Everything of a ticket that runs or could run: its own machine, and those of its attempts. By the key that the ticket has now. */
export const machinesOf = (
  ticket: Ticket,
  environment: Existing | null,
  attempts: readonly Existing[] = [],
): Existing[] => [
  ...(environment === null ? [] : [{ ticket, status: environment.status }]),
  ...attempts.map(attempt => ({ ticket: withTicket(attempt.ticket, ticket), status: attempt.status })),
]
export const stopAll = (base: ActionBase, machines: readonly Existing[]): Decision => {
  if (machines.length === 0) return ignored(`${base.ticket} has no machine`)
  const running = machines.filter(({ status }) => status !== 'stopped')
  return running.length === 0
    ? ignored(`${base.ticket} is already stopped`)
    : act(running.map(({ ticket }) => ({ kind: 'stop', ...base, ticket })))
}
/** Each by the rules of unsaved work. */
export const deleteAll = (base: ActionBase, machines: readonly Existing[]): Decision =>
  act(machines.map(({ ticket }) => ({ kind: 'delete', force: false, ...base, ticket })))
type IgnoredDecision = Extract<Decision, { verdict: 'ignored' }>
export const ignored = (reason: string): IgnoredDecision => ({ verdict: 'ignored', reason })
/** People win: a person's later request holds until the next transition or command. */
export const overridden = ({ who, kind }: LaterRequest): IgnoredDecision =>
  ignored(`${who ?? 'somebody'} requested ${kind} after that`)
