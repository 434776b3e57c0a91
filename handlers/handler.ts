/**
 * What a handler is: an event, the facts that it lacks, and the rules in; a decision out. Pure: no I/O, no clock, no
 * randomness. Events are ours and small; src/bot makes them out of webhook payloads (later also out of polls), so that
 * every way in meets in the same handlers.
 */
import type { Ticket } from '../src/domain.ts'
import type {
  Action,
  CheckpointRetention,
  MachineSpec,
  PullRequestRef,
  ReplyTo,
  Requester,
} from '../src/schema/action.ts'
import type { Environment } from '../src/schema/environment.ts'
import type { CommandName } from './slash-commands.ts'

/** Jira's status categories. Names are renamable and translated; these keys are not. `undefined` is Jira's own fourth. */
export type StatusCategory = 'new' | 'indeterminate' | 'done' | 'undefined'

export type SwarmEvent =
  | { kind: 'push'; repo: string; ref: string; after: string; deleted: boolean; pusher: string | null }
  | {
      kind: 'pull-request'
      /**
       * `closed` is told apart from `merged` by the present state, not by the event. `grace over`: the clock's; the minutes
       * that were given after a merge have passed.
       */
      change: 'opened' | 'reopened' | 'ready_for_review' | 'edited' | 'closed' | 'grace over'
      pullRequest: PullRequestRef
      branch: string
      title: string
      body: string
      /** The head branch lives in another repository, or in one that is gone. */
      fromFork: boolean
      sender: string | null
      /** Not later than this it was reopened, epoch ms; null where nobody says. When it was closed is read again. */
      at: number | null
    }
  | {
      kind: 'comment'
      pullRequest: PullRequestRef
      commentId: number
      body: string
      author: string
      authorIsBot: boolean
      /** Why nothing in it can be a command, whoever wrote it; null: nothing is against it. */
      unfit: string | null
      /** When it was written, epoch ms; null where nobody says. */
      at: number | null
    }
  | {
      kind: 'ticket-comment'
      ticket: Ticket
      commentId: string
      /** As it was told: a document, or wiki text. */
      body: unknown
      change: 'created' | 'edited'
      /** When it was written, epoch ms of Jira's clock; null where nobody says. */
      at: number | null
    }
  | {
      kind: 'ticket'
      ticket: Ticket
      /** `deleted` counts as category `done`. */
      change: 'status' | 'assignee' | 'deleted'
      category: StatusCategory
      assignee: string | null
      labels: readonly string[]
      by: string | null
      /** When it happened, epoch ms of Jira's clock; null where nobody says. */
      at: number | null
    }
export type EventKind = SwarmEvent['kind']

/** A pull request as it is now. */
export type PullRequestNow = {
  state: 'open' | 'closed' | 'merged'
  branch: string
  title: string
  body: string
  fromFork: boolean
  headSha: string
  /** Epoch ms; null while it is open. */
  closedAt: number | null
}

/** Actions that say how the machine shall be: there or not, running or not. */
export const STATE_CHANGING_ACTIONS: readonly Action['kind'][] = ['create', 'start', 'stop', 'restore', 'delete']

/** What was asked for after an event had happened: it holds against the event, however late that comes. */
export type LaterRequest = { who: string | null; kind: Action['kind'] }

/** What happened to a ticket after a command was given: the command may come late. */
export type SinceCommand = {
  /** What a person asked for by another command, or by hand. */
  person: LaterRequest | null
  /** What was asked for last, by whomever or whatever. */
  asked: LaterRequest | null
  /** Where it was moved in Jira, in that order. */
  moved: readonly ('new' | 'indeterminate')[]
}

/** What a handler must know beyond the event, read beforehand. `null` where the thing does not exist. */
export type Facts = {
  push: { environment: Environment | null; live: boolean }
  'pull-request': {
    environment: Environment | null
    /** Read again just now: what it says counts. */
    now: PullRequestNow | null
    /** It was decided before what follows from how it has ended. */
    endDecided: boolean
    /** Other open pull requests of the same ticket. */
    others: PullRequestRef[]
    /** After it was closed its ticket was moved in progress; after a merge, by way of category `new`. */
    begunAnew: boolean
    laterWish: LaterRequest | null
  }
  comment: {
    /** The commenter's permission at this moment; `maintain` counts as write, `triage` as read. */
    permission: 'admin' | 'write' | 'read' | 'none'
    /** Of the teams that a rule for these commands names, those that the commenter belongs to; null when they cannot be read. */
    teams: readonly string[] | null
    now: PullRequestNow | null
    /** The commit of a fork that somebody allowed. */
    allowed: string | null
    since: SinceCommand
  }
  'ticket-comment': {
    /** Read again just now: the document that it is, and whether it was changed since it was written. */
    now: { body: unknown; author: string | null; authorIsApp: boolean; edited: boolean } | null
    /** The bot wrote it. */
    isOurs: boolean
    /** Of the ticket, at this moment. */
    assignee: string | null
    since: SinceCommand
  }
  ticket: {
    environment: Environment | null
    /**
     * Read again just now; null when it is gone. `unread` when Jira could not be asked (the event counts, for a create);
     * `overtaken` when it could not, and later news of the ticket is known.
     */
    now:
      | { category: StatusCategory; assignee: string | null; labels: readonly string[] }
      | 'unread'
      | 'overtaken'
      | null
    /** Its last environment was deleted or merged since the ticket was last in category `new`. */
    endedSinceNew: boolean
    /** A pull request of this ticket was seen, ever, or there was no way to look for one. */
    hadPullRequest: boolean
    /** After this, its last open pull request was closed unmerged. */
    closedSince: boolean
    /** Whose Jira token it is. */
    me: string | null
    laterWish: LaterRequest | null
  }
}

type Ending = 'stop' | 'delete' | 'nothing'
/** The rules a handler decides by: the configuration's, narrowed and refined by the repository's own file. */
export type Rules = {
  projects: readonly string[]
  assignees: 'me' | 'any' | readonly string[]
  /** A ticket must carry one of these to get a machine by itself; none are named: every ticket. Jira's labels know no case. */
  labels: readonly string[]
  /** Branches that count, `*` for any text; none are named: every branch. */
  branches: readonly string[]
  machine: MachineSpec
  /** What becomes of the machine when its pull request is closed without a merge, and when it is merged. */
  closed: Ending
  merged: Ending
  /** When its ticket is done; null: it is stopped, and deleted when the ticket never had a pull request. */
  done: Ending | null
  /** From the merge to the delete. */
  graceMinutes: number
  keep: CheckpointRetention
  /**
   * Who may give a command, by command: GitHub logins, teams as `org/team`, Jira accounts as `jira:<account id>`. It narrows:
   * write access is needed all the same. A command that is not named here is for everybody who may command at all.
   */
  commands: Readonly<Partial<Record<CommandName, readonly string[]>>>
  /** Jira accounts that may command on every ticket; its assignee may anyway. */
  jiraCommanders: readonly string[]
}

/**
 * An answer that needs no action. `text` is ours: of what others wrote it holds nothing but letters, digits and harmless
 * signs; `code` is in backticks. `help`: the table of commands follows. `ok` chooses 🚀 or 😕.
 */
export type Reply = { to: ReplyTo; text: string; help: boolean; ok: boolean }
/** Who asked for what, and why it is done or not: for the audit log. A refusal with its `ticket` is told on its status comment. */
export type Judgement = { by: Requester; what: string; reason: string; ticket: Ticket | null }

export type Decision =
  /** Decided again after so many minutes: then as `event`. */
  | { verdict: 'later'; ticket: Ticket; minutes: number; event: SwarmEvent; reason: string }
  | {
      verdict: 'act'
      actions: Action[]
      replies: Reply[]
      /** Of what people asked for by command. */
      granted: Judgement[]
      refusals: Judgement[]
      /** The commit of a fork's pull request on which commands may act from now on. */
      allow: string | null
    }
  /** Means nothing to us. */
  | { verdict: 'ignored'; reason: string }
  /** Someone asked who may not, or something that may not be: recorded, and not answered. */
  | { verdict: 'refused'; reason: string; refusals: Judgement[] }

export type Handler<Kind extends EventKind> = (
  event: Extract<SwarmEvent, { kind: Kind }>,
  facts: Facts[Kind],
  rules: Rules,
) => Decision

export const act = (actions: Action[]): Decision => ({
  verdict: 'act',
  actions,
  replies: [],
  granted: [],
  refusals: [],
  allow: null,
})
/** People win: what somebody asked for later holds until the next transition or command. */
export const overridden = ({ who, kind }: LaterRequest): Decision =>
  ignored(`${who ?? 'somebody'} asked for ${kind} after that`)
export const ignored = (reason: string): Decision => ({ verdict: 'ignored', reason })
