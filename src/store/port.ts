/**
 * The bot's durable state: inbox (deliveries until they are decided), queue (actions until they have an outcome), outbox
 * (messages until they are published), and what the bot knows of requests, tickets, pull requests, repositories and runners.
 *
 * Every call is one transaction, and a call that has returned is on disk. What must be atomic is one call with data; there are
 * no callbacks. One contract suite (test/store/contract.ts) holds for every backend. Times are epoch milliseconds from the
 * injected clock unless a comment says otherwise.
 */
import type { Announcement, MoveNote, StatusCategory, WhyNoMachine } from '../../handlers/handler.ts'
import type { EnvironmentKey, ProviderName, Ticket } from '../domain.ts'
import type { Action, ActionKind, AttemptProgress, CommentRef, PullRequestRef, Requester } from '../schema/action.ts'
import type { MachineSize } from '../schema/basics.ts'
import type { Environment, IdleReport, Interruption } from '../schema/environment.ts'
import type { Failure } from '../schema/failure.ts'
import type { Outcome } from '../schema/outcome.ts'
import { type HeartbeatRequest, IDLE_HEARTBEAT_MS, type Lease, type Offer } from '../schema/runner-protocol.ts'

/** A wait longer than this is a clock that was set back: the thing is due. Milliseconds. */
export { MAX_WAIT_MS } from '../backoff.ts'
/** How often an action is tried before it ends as failed. */
export const MAX_ATTEMPTS = 6
/** Milliseconds after which an action that found no room may be taken again, where an offer has as much. */
export const ROOM_RETRY_MS = 2_000
/** Milliseconds that younger creates may overtake one that waits for room. */
export const ROOM_PATIENCE_MS = 10 * 60_000
/** How many requests of each verdict the audit log keeps: strangers push out only strangers. */
export const AUDIT_ROWS = 5_000
/** How much of a ticket's history its status comment shows; purge keeps as much while the ticket has its machine. */
export const HISTORY_LENGTH = 5
/** A runner that sent no heartbeat for this long is away. Milliseconds. */
export const RUNNER_AWAY_MS = 2 * IDLE_HEARTBEAT_MS
/** Epoch ms. A heartbeat that lies ahead came before the clock was set back. */
export const isConnected = (seenAt: number, now: number): boolean => Math.abs(now - seenAt) <= RUNNER_AWAY_MS

// ── Inbox ──

/** The events of what a runner reported for the first time: the end of an agent's run, and a push. */
export const AGENT_ENDED = 'agent-ended'
export const PUSHED = 'pushed'

/** What arrived from outside, verified. `lane` groups what must keep its order (a ticket, a pull request, a ref). */
export type Delivery = {
  /** `clock`: what was scheduled for now. `runner`: what a runner reported for the first time. */
  source: 'github' | 'jira' | 'clock' | 'runner'
  id: string
  event: string
  lane: string
  body: string
  receivedAt: number
}
/** `dueSince`: when it first became due, or became due again by a replay. */
export type StoredDelivery = Delivery & { seq: number; attempt: number; dueSince: number }

export type Verdict = 'actions' | 'ignored' | 'refused' | 'failed'

/** Everything that follows from deciding one delivery. It takes effect in one transaction. */
export type Settlement = {
  verdict: Verdict
  reason: string | null
  actions: readonly QueuedAction[]
  messages: readonly Message[]
  /** Requests whose id is known already are left as they are. */
  requests: readonly NewRequest[]
  effects: readonly Effect[]
}

export type Effect =
  /** Decide this delivery at `delivery.receivedAt`. One a ticket: a newer one replaces it. */
  | { kind: 'schedule'; ticket: Ticket; delivery: Delivery }
  /** Drop what is scheduled for the ticket. */
  /** `before`: epoch ms. What a later event scheduled stays. */
  | { kind: 'unschedule'; ticket: Ticket; before: number }
  /** Cancel pending deletes of the ticket that an event (not a command) before `before` (ISO 8601) asked for. */
  | { kind: 'cancel-deletes'; ticket: Ticket; before: string }
  /** Commands may act on this commit of a fork's pull request. */
  | { kind: 'allow-commit'; pullRequest: PullRequestRef; commit: string }
  /** An event about it was decided, which found it in this state. */
  | { kind: 'pull-request-decided'; pullRequest: PullRequestRef; state: PullRequestState }
  /** An event was decided while the open pull request was ready for review, or a draft. */
  | { kind: 'pull-request-ready'; pullRequest: PullRequestRef; ready: boolean }
  | { kind: 'ticket-decided'; ticket: Ticket; state: TicketState }
  /** This delivery was the first to report the change. */
  | { kind: 'change-reported'; change: string; delivery: string }
  /**
   * The Jira issue `from` now has the key `to`. Its queued actions, pin, requests, links, comments and environment follow, and
   * `from` stays an alias of `to`. Fails with `busy` while both have an environment or an active action.
   */
  | { kind: 'rename-ticket'; from: Ticket; to: Ticket }

export type SettledDelivery = { seq: number } & Settlement

/** A delivery as the inbox shows it. */
export type DeliveryRow = Pick<Delivery, 'source' | 'id' | 'event' | 'lane' | 'receivedAt'> & {
  verdict: Verdict | 'waiting'
  /** The verdict's reason; of a waiting one, why the last attempt to decide it failed. */
  reason: string | null
  attempt: number
  /** When a waiting one is decided next. */
  dueAt: number | null
  settledAt: number | null
  actions: {
    kind: ActionKind
    ticket: Ticket
    state: ActionState
    result: Outcome['result'] | null
    reason: string | null
  }[]
}
/** `again`: due now. Otherwise it had an effect, is being decided, lost its payload to retention, or is unknown. */
export type ReplayResult = 'again' | 'had-effect' | 'in-progress' | 'no-payload' | 'unknown'

type Inbox = {
  /**
   * Stores deliveries. One whose (source, id) is known stays as it is while it waits or when it had an effect, and becomes due
   * again otherwise. Returns how many became due.
   */
  accept(deliveries: readonly Delivery[]): Promise<number>
  /** Accepts the scheduled deliveries that are due at `now`, and removes their schedule. Returns how many. */
  acceptScheduled(now: number): Promise<number>
  /** When the next scheduled delivery is due; null when there is none. */
  nextScheduledAt(): Promise<number | null>
  /** When a delivery is scheduled for the ticket, for an event before `before` (epoch ms); null when none is. */
  scheduledAt(ticket: Ticket, before?: number): Promise<number | null>
  /** Of these, the ids that are known and wait or were decided. One that failed counts as not known. */
  known(source: Delivery['source'], ids: readonly string[]): Promise<Set<string>>
  /** The oldest due delivery of each lane that has none in progress, at most `limit`. They are then in progress. */
  due(limit: number, sources?: readonly Delivery['source'][]): Promise<StoredDelivery[]>
  /**
   * All of them or none: effects, requests, actions, messages. One that is settled already, or unknown, is left out. Fails with
   * `busy` when the ticket of an action or a schedule got another key since it was decided: it must be decided again.
   */
  settle(settled: readonly SettledDelivery[]): Promise<void>
  /** It could not be decided: try again at `at`, within MAX_WAIT_MS. Its lane waits with it. */
  postpone(seq: number, at: number, reason: string): Promise<void>
  /** It could be neither settled nor postponed (disk full): due as before. Writes nothing. */
  release(seq: number): Promise<void>
  /**
   * Deliveries, newest first. Each member of `filters` must match: a word equals the verdict, source, event, id or the ticket of
   * an action, or the lane is one of `lanes`.
   */
  list(filters: readonly { word: string; lanes: readonly string[] }[], limit: number): Promise<DeliveryRow[]>
  /** Decides a delivery again that had no effect. `id` may be `<source>:<id>`. */
  replay(id: string): Promise<ReplayResult>
  /** When the next delivery, of these sources, is due; null when none waits. */
  nextDueAt(sources?: readonly Delivery['source'][]): Promise<number | null>
}

// ── Queue ──

/** `id` is `<source>:<delivery id>:<index>`, so that a redelivery makes the same ids. */
export type QueuedAction = { id: string; correlation: string; action: Action }
export type ActionState = 'pending' | 'active' | 'done' | 'dead' | 'cancelled'
export type ActionRow = QueuedAction & {
  seq: number
  state: ActionState
  attempt: number
  runnerId: string | null
  /** The active attempt's fencing token. */
  token: string | null
  leaseUntil: number | null
  progress: AttemptProgress | null
  /** Room that its runner did not have for it: it waits for as much. */
  needs: MachineSize | null
  createdAt: number
  notBefore: number
  outcome: Outcome | null
}

/** `machinesPerPerson`: as many machines as one person may have; null or absent: any number. */
export type StoreLimits = { machinesPerPerson?: number | null }

type Queue = {
  enqueue(action: QueuedAction): Promise<'added' | 'duplicate'>
  /**
   * The oldest pending action of a ticket that has none active, that no other runner is pinned to, and that the offer fits
   * (fits.ts; a create of a ticket that has its machine fits). One that has waited for room for ROOM_PATIENCE_MS goes ahead of
   * younger creates, unless the host would lack the room without any machine, too. A move goes ahead of its ticket's other
   * pending actions. Pins the ticket when it is a create or a promote. A create or a fork with which its person would have more
   * machines than one may have waits.
   */
  claim(runnerId: string, offer: Offer): Promise<Lease | null>
  /** The machines of the person whose limit keeps this pending create or fork waiting; null when no limit does. */
  beyondLimit(id: string): Promise<Ticket[] | null>
  renew(id: string, token: string, progress: AttemptProgress | null): Promise<'ok' | 'lost'>
  /**
   * Ends an action with its outcome and its messages, and records what the outcome says: the request's end, the environment, or
   * that it is gone.
   */
  complete(id: string, token: string, outcome: Outcome, messages: readonly Message[]): Promise<'ok' | 'lost'>
  /**
   * A failure that says what room was missing counts as no attempt: the action waits until there is as much. A create that made
   * nothing leaves its ticket to any runner. Tries again with back-off;
   * ends as `complete` does when it may not be retried or was tried MAX_ATTEMPTS times.
   */
  fail(
    id: string,
    token: string,
    failed: { failure: Failure; retry: boolean; environment: Environment | null; messages: readonly Message[] },
  ): Promise<'retry' | 'dead' | 'lost'>
  /** Ends a pending action that nobody can take. */
  reject(id: string, failure: Failure, messages: readonly Message[]): Promise<'dead' | 'too-late'>
  /** Pending actions only. */
  cancel(id: string): Promise<'cancelled' | 'too-late'>
  /** Active actions whose lease ran out. */
  expired(): Promise<ActionRow[]>
  /** When the next lease runs out, or the next wait between two attempts is over; null when there is neither. */
  nextDueAt(): Promise<number | null>
  /** Returns an active action to pending, for its next attempt. */
  giveBack(id: string, token: string): Promise<'ok' | 'lost'>
  pinnedTo(ticket: Ticket): Promise<string | null>
  get(id: string): Promise<ActionRow | null>
  /** Oldest first. With a ticket or a state: without them, it reads all that ever ended. */
  list(filter?: { ticket?: Ticket; kind?: ActionKind; state?: ActionState }): Promise<ActionRow[]>
}

// ── Outbox ──

/** `awake`: it slept since `at`. */
export type IdleNote = IdleReport | { state: 'awake'; at: string | null }

/** A text for Jira that no command asked for. It is rendered when it is published. */
export type JiraNote =
  /** `without`: what it lacks and why, one sentence each: a project, an agent. Absent: an earlier version wrote it. */
  | { kind: 'ready'; environment: Environment; host: string | null; without?: readonly string[] }
  | { kind: 'failed'; action: Action; failure: Failure }
  | { kind: 'deleted'; action: Extract<Action, { kind: 'delete' }>; rescued: string | null }
  /** `summary`: its runner's. `open`: the pull requests that the machine stays for, `acme/shop#13`. */
  | {
      kind: 'promoted'
      action: Extract<Action, { kind: 'promote' }>
      summary: string
      open: readonly string[]
      rescued: string | null
    }
  /** Written by an earlier version. */
  | { kind: 'rescued'; ticket: Ticket; rescued: string }
  /** The issue `from` got the key of this ticket, and its machine did not come along (see MoveNote in handlers/handler.ts). */
  | { kind: 'not-moved'; from: Ticket; reason: MoveNote['reason'] }
  /** A move into progress made no machine. */
  | { kind: 'no-machine'; why: WhyNoMachine }
  /** Its machine no longer exists, and nobody deleted it. `ending`: why, as far as its hypervisor knows. */
  | { kind: 'lost'; vmId: string; provider: ProviderName; ending?: string }
  /** `reason`: the hypervisor's. */
  | { kind: 'paused'; reason: string }
  /** An operator forgot the runner that had the machine, or was to do these actions. */
  | {
      kind: 'runner-gone'
      host: string
      machine: { vmId: string; provider: ProviderName } | null
      ended: readonly ActionKind[]
    }
  | { kind: 'idle'; idle: IdleNote }
  /** `over`: it runs again. */
  | { kind: 'interruption'; interruption: Interruption | { state: 'over'; by: string } }
  /** Written by an earlier version. Indented lines are code. */
  | { kind: 'text'; text: string }

/** What it says is looked up when it is published, so that it is true then. */
export type MessageBody =
  | { kind: 'reaction'; repo: string; commentId: number; content: 'eyes' | 'rocket' | 'confused' }
  /** The reply to the commands of a comment. */
  | { kind: 'reply'; comment: CommentRef }
  /** Our reply to this comment, which a newer reply made outdated. */
  | { kind: 'outdated-reply'; repo: string; number: number; commentId: number }
  /** The status comment on each pull request of the ticket. */
  | { kind: 'status'; ticket: Ticket }
  | { kind: 'jira-note'; ticket: Ticket; about: string; note: JiraNote }
  /** That an action has waited for a runner for a while, and then that it does no longer. `action`: its id. */
  | { kind: 'jira-waiting'; ticket: Ticket; action: string }
  /** The status comment of the ticket on a pull request that is no longer linked to it. */
  | { kind: 'unlinked'; ticket: Ticket; pullRequest: PullRequestRef }
  /** The link from the ticket to a pull request that is no longer linked to it. */
  | { kind: 'jira-unlink'; ticket: Ticket; pullRequest: PullRequestRef }
  /** The link from the ticket to its pull request. */
  | { kind: 'jira-link'; ticket: Ticket; pullRequest: PullRequestRef }
  | Announcement
/** `key` orders and replaces: a newer unpublished message of the same key takes its place. messages.ts makes them. */
export type Message = { key: string; body: MessageBody }
/** `version` changes when the message is replaced. `correlation`: the delivery that caused it; null when none did. */
export type OutboxRow = Message & {
  seq: number
  version: number
  attempt: number
  correlation: string | null
  /** `jira`, or `github` with its installation and repository: `github:7:acme/shop`. */
  lane: string
  /** A person waits for it. */
  isAnswer: boolean
}

type Outbox = {
  put(messages: readonly Message[]): Promise<void>
  /** Whether a message of this key is not published yet. */
  has(key: string): Promise<boolean>
  /**
   * Due messages, those that a person waits for first, then oldest first; of each lane at most `limit` of either. Lanes that are
   * named by `resting`, or whose side is, are left out. A key has one message at a time.
   */
  due(limit: number, resting?: readonly string[]): Promise<OutboxRow[]>
  /** Published. A message that was replaced since it was taken stays, and is published again. */
  ack(row: Pick<OutboxRow, 'seq' | 'version'>): Promise<void>
  /** Again at `at`, within MAX_WAIT_MS. */
  postpone(seq: number, at: number, reason: string): Promise<void>
  drop(seq: number): Promise<void>
  /** When the next message becomes due that is not now; null when there is none. */
  nextDueAt(): Promise<number | null>
}

// ── Held ──

const HELD_ID = /^held:\d{1,15}$/
export const isHeldId = (id: string): boolean => HELD_ID.test(id)
/** What was queued in a backup that took the store's place: an action, or a message of the outbox. */
export type HeldRow = { id: string; createdAt: number | null } & (
  | { action: Action; message: null }
  | { action: null; message: MessageBody }
)
/** Nothing of it is carried out by itself. */
type Held = {
  /** When a backup took the store's place; null when none did. What happened before is only reported. */
  restoredAt(): Promise<number | null>
  /** Oldest first. */
  list(limit: number): Promise<HeldRow[]>
  /** Queues it again: `had-effect` when its action has been queued again already. */
  replay(id: string): Promise<'again' | 'had-effect' | 'unknown'>
}

// ── Requests ──

/** The record of who asked for what, where and when, how it was judged and how it ended. */
export type Request = {
  /** The action's id, or one derived from the delivery, so that a redelivery adds nothing. */
  id: string
  /** Time of the triggering event. */
  at: number
  by: Requester
  /** A person asked, by a command or by hand; not an event. */
  person: boolean
  /** `acme/shop#7`, `acme/shop`, `DROP-1`, `cli`, `clock`. */
  place: string
  /** The command's comment and its line there; null when no command asked. */
  command: { comment: CommentRef; line: number } | null
  ticket: Ticket | null
  /** The command as it was written, or the action. */
  what: string
  /** Null when no action came of it. */
  action: Action | null
  /** `answered`: a command that needed no permission and no action, for example `help`. */
  verdict: 'allowed' | 'refused' | 'answered'
  /** Why it was allowed or refused. */
  reason: string | null
  /** The reply to a command that needs no action. */
  answer: { text: string; help: boolean } | null
  /** Null while it is not done. `ok` chooses the reaction. */
  ended: { at: number; ok: boolean; outcome: Outcome | null } | null
}
/** `ok` of an answer that needs no action; such a request has ended when it is recorded. */
export type NewRequest = Omit<Request, 'ended'> & { ok: boolean | null }

type Requests = {
  get(id: string): Promise<Request | null>
  /** The ticket's last request of a state-changing action, by a person or by anything; null when there is none. */
  lastStateChange(ticket: Ticket, by: 'person' | 'anything'): Promise<Request | null>
  /**
   * The commands of one comment, by line. A line has one: a later request for it has `command` null, or takes the line from one
   * that was refused without an answer.
   */
  ofComment(comment: CommentRef): Promise<Request[]>
  /** Comments with a command recorded at or before `before` that has not ended, newest first. */
  unfinishedComments(before: number, limit: number): Promise<CommentRef[]>
  /**
   * The ticket's last actions that ended as done or failed (not `status`, which changes nothing), and its last refusals that were
   * answered; newest first.
   */
  history(ticket: Ticket, limit: number): Promise<Request[]>
  /** Commands that were allowed or refused, newest first; AUDIT_ROWS of each. `ticket` null: of every ticket. */
  audit(ticket: Ticket | null, limit: number): Promise<Request[]>
}

// ── What the bot knows ──

/** `noMachine`: why the ticket got no machine then, and when that was decided; null or absent when it needed none or got one. */
export type TicketState = {
  category: StatusCategory
  assignee: string | null
  noMachine?: { at: number; reason: string } | null
}
export type KnownTicket = {
  category: StatusCategory | null
  /** Age of what is known of its category. */
  categoryAt: number | null
  /** Its last environment was deleted, or its pull request merged, since it was last in category `new`. */
  endedSinceNew: boolean
  hadPullRequest: boolean
  /** When it was last moved there. */
  toNewAt: number | null
  toProgressAt: number | null
  /** As the last decided event found it. */
  decided: TicketState | null
}
type Tickets = {
  get(ticket: Ticket): Promise<KnownTicket>
  /** The key that the ticket has now, when the issue was moved; the same key otherwise. */
  current(ticket: Ticket): Promise<Ticket>
  /** The ticket was in this category at that time. Older news than what is known changes only when it was last `new`. */
  sawCategory(ticket: Ticket, category: StatusCategory, at: number): Promise<void>
  /** It was moved there, or assigned while there. */
  movedTo(ticket: Ticket, category: 'new' | 'indeterminate', at: number): Promise<void>
  /** Its machine was deleted, or its pull request merged. */
  ended(ticket: Ticket, at: number): Promise<void>
  /** The delivery that first reported this change; null when none did. */
  reportedBy(change: string): Promise<string | null>
}

export type PullRequestState = 'open' | 'closed' | 'merged'
export type PullRequestLink = PullRequestRef & {
  ticket: Ticket
  branch: string
  state: PullRequestState
  /** Null while it is open. */
  closedAt: number | null
}
/**
 * `decided`: the state that the last decided event found, and when; null when none was decided. `ready`: whether it was ready for review, or a draft, when the
 * last event was decided while it was open; null when none was.
 */
export type KnownPullRequest = PullRequestLink & {
  decided: { state: PullRequestState; at: number } | null
  ready: boolean | null
}
type PullRequests = {
  link(link: PullRequestLink): Promise<void>
  /** A status comment there says so. That the ticket had a pull request stays known. */
  unlink(pullRequest: PullRequestRef): Promise<void>
  get(pullRequest: PullRequestRef): Promise<KnownPullRequest | null>
  /** By repository, then number. */
  ofTicket(ticket: Ticket): Promise<KnownPullRequest[]>
  ticketsIn(repo: string): Promise<Ticket[]>
  /** By number. */
  inRepository(repo: string): Promise<KnownPullRequest[]>
  /** Of the linked tickets, by repository. */
  projects(): Promise<{ repo: string; project: string }[]>
  /** The commit of a fork on which commands may act. */
  allowedCommit(pullRequest: PullRequestRef): Promise<string | null>
}

/** `good`: the last content without an error; null when there is none. */
export type RepositoryFile = { etag: string | null; good: string | null; problems: string[]; checkedAt: number }
type Repositories = {
  /** The repository's name, as far as known. `id` is GitHub's number. */
  nameOf(id: number): Promise<string | null>
  /** This name, and the others that its repository has or had under the same owner. */
  namesOf(repo: string): Promise<string[]>
  /** The name that the repository has now, as GitHub writes it. `repo`: a name that it has or had, in any case. */
  presentName(repo: string): Promise<string>
  /**
   * Records GitHub's number and current name. Under a new name, what is known of the repository goes along; what is known of
   * another one that had this name before is dropped.
   */
  rename(id: number, repo: string): Promise<void>
  /** The App's installation that reaches it. */
  setInstallation(repo: string, id: number): Promise<void>
  installation(repo: string): Promise<number | null>
  file(repo: string): Promise<RepositoryFile | null>
  /** All known ones, by name. */
  files(): Promise<{ repo: string; good: string | null }[]>
  setFile(repo: string, file: RepositoryFile): Promise<void>
  /** Names of the repositories that were polled or compared. */
  watched(): Promise<string[]>
  /** The commit of each known branch, by ref. */
  heads(repo: string): Promise<Map<string, string>>
  setHead(repo: string, ref: string, commit: string): Promise<void>
}

/** How far each poll has come, as JSON by name. A cursor `github:<repo>` or `github-app:<repo>` belongs to its repository. */
type Cursors = {
  get<T>(name: string): Promise<T | null>
  set(name: string, value: unknown): Promise<void>
}

/**
 * Our own comment (or link). `about`: the ticket of a status comment, the id of the comment that a reply answers, the `about`
 * of a note, the pull request of a link (`acme/shop#7`). A move of a ticket that we made is a note too.
 */
export type OwnCommentKey =
  | { side: 'github'; kind: 'status' | 'reply' | 'note'; repo: string; number: number; about: string }
  | { side: 'jira'; kind: 'reply' | 'note' | 'link'; ticket: Ticket; about: string }
/** `begunAt`: recorded before it was sent, so that a crash in between shows. `id` null: not known to have arrived. */
export type OwnComment = { begunAt: number; id: string | null; fingerprint: string | null }
/** In place of a fingerprint: our reply is hidden, and never written again. */
export const OUTDATED = 'outdated'
type Comments = {
  get(key: OwnCommentKey): Promise<OwnComment | null>
  begin(key: OwnCommentKey): Promise<void>
  set(key: OwnCommentKey, id: string | null, fingerprint: string | null): Promise<void>
  forget(key: OwnCommentKey): Promise<void>
  /** The comments on a pull request that we replied to, newest first, at most `limit`; without outdated replies. */
  replies(pullRequest: PullRequestRef, limit: number): Promise<number[]>
  /** Whether we wrote the comment with this id. `repo` of a comment on GitHub. */
  isOwn(comment: { side: 'github'; repo: string; id: number } | { side: 'jira'; id: string }): Promise<boolean>
}

/** A ticket's environment as its runner last reported it. One that is gone stays until the ticket has another. */
export type KnownEnvironment = {
  environment: Environment
  runnerId: string | null
  heardAt: number
  /** When it was found to be gone; null while it exists. */
  goneAt: number | null
  /** It went with its runner, which an operator forgot: it may still exist there. */
  runnerForgotten?: true
}
export type KnownRunner = { id: string; host: string; seenAt: number; connected: boolean; offer: Offer | null }
/** Environments that one transaction of a heartbeat writes. */
export const HEARTBEAT_CHUNK = 100
/** Tickets that a runner may bring that the bot never gave it. */
export const MAX_BROUGHT = 200
type Runners = {
  /**
   * Records a heartbeat: environments, manual operations, the offer, pins. What it says of a ticket whose machine a connected
   * other runner has, or that the bot gave another runner, is left out. Puts a status message for each ticket that a reader
   * would now see differently. Where a machine is gone, what Jira told since it was last seen and was ignored is due again.
   * Written in transactions of HEARTBEAT_CHUNK environments, with other work between them; what is missing is found after the
   * last. `isStopped` is asked between them, and ends it.
   */
  heartbeat(
    heartbeat: HeartbeatRequest,
    isStopped?: () => boolean,
  ): Promise<{
    changed: Ticket[]
    /** Environments that were left out, with the host of the runner that has the ticket's machine. */
    heldElsewhere: { ticket: Ticket; vmId: string; host: string }[]
    /** Tickets that were left out, because the runner has MAX_BROUGHT others that the bot never gave it. */
    tooMany: Ticket[]
    /** A full heartbeat lacks a machine for the first time: another full one tells whether it is gone. */
    isUnsure: boolean
  }>
  /** The one that was heard last first. */
  list(): Promise<KnownRunner[]>
  /** The ticket's environment as last reported, also when it is gone since. */
  environment(ticket: EnvironmentKey): Promise<KnownEnvironment | null>
  /** The ticket's attempts that are there, in order. */
  attempts(ticket: Ticket): Promise<Environment[]>
  /** The keys of environments that are there: of tickets, and of attempts. */
  withMachine(): Promise<EnvironmentKey[]>
  /**
   * A runner that is gone for good: its machines count as gone, its tickets and creates are free, its other actions end as failed,
   * its token and its id stop working, and a comment on each ticket says so. `nameOrId`: the name of its token, or its id. Returns what it
   * was; `dryRun`: what it would be. `connected`: it was heard within RUNNER_AWAY_MS.
   */
  forget(
    nameOrId: string,
    options: { dryRun: boolean },
  ): Promise<ForgottenRunner | { problem: 'unknown-runner' } | { problem: 'connected'; host: string | null }>
}
/** `machines`: as they were last reported. `tickets`: those that it alone had, without a machine. `released`: any runner can do them now. */
export type ForgottenRunner = Pick<ListedRunner, 'id' | 'name' | 'host' | 'seenAt'> & {
  machines: (Pick<Environment, 'ticket' | 'vmId' | 'provider' | 'status' | 'unsavedWork'> & { heardAt: number })[]
  tickets: Ticket[]
  released: { kind: ActionKind; ticket: Ticket }[]
  ended: { kind: ActionKind; ticket: Ticket }[]
}

/** `another`: the token belongs to another runner, `runnerId`. */
export type TokenHolder = { who: 'runner' | 'another'; runnerId: string } | { who: 'unknown' }
/** A runner that has a token or was heard. `token`: `shared` is that of AGENT_SWARM_RUNNER_TOKEN. */
export type ListedRunner = {
  name: string | null
  id: string
  token: 'own' | 'shared' | 'none'
  host: string | null
  seenAt: number | null
}
type RunnerTokens = {
  /** `as`: the id of a runner that was heard, whose tickets the token's holder gets; null: a new id. */
  add(token: {
    name: string
    hash: string
    as: string | null
  }): Promise<
    | { runnerId: string }
    | { problem: 'name-taken' }
    | { problem: 'unknown-runner' }
    | { problem: 'has-token'; name: string }
  >
  /** The id of the runner whose token it was; null when no token has this name. */
  revoke(name: string): Promise<string | null>
  list(): Promise<ListedRunner[]>
  /** Whether a runner with this id was heard. */
  isKnown(runnerId: string): Promise<boolean>
  /** Whether a runner has a token of its own. */
  hasOwn(): Promise<boolean>
  /**
   * Who shows a token. It belongs to the first installation that shows it, `instance`; null where the request names none.
   * `isShared`: it is that of AGENT_SWARM_RUNNER_TOKEN.
   */
  identify(hash: string, shown: { instance: string | null; isShared: boolean }): Promise<TokenHolder>
}

export type Counts = {
  inbox: number
  pending: number
  active: number
  outbox: number
  oldestDeliveryAt: number | null
  oldestPendingAt: number | null
  oldestMessageAt: number | null
}

export type Store = {
  inbox: Inbox
  queue: Queue
  outbox: Outbox
  held: Held
  requests: Requests
  tickets: Tickets
  pullRequests: PullRequests
  repositories: Repositories
  cursors: Cursors
  comments: Comments
  runners: Runners
  runnerTokens: RunnerTokens
  counts(): Promise<Counts>
  /**
   * Drops what ended before: deliveries and actions before `queueBefore`, everything else before `knowledgeBefore`. Payloads of
   * settled deliveries without an effect stay for a replay, the newest `payloadBytes` of them. What still matters stays: the
   * last state change of each ticket, unanswered commands, comments and runners of existing machines. Done in steps, with other
   * work between them; `isStopped` is asked between them, and ends it. What is free then goes back to the disk.
   */
  purge(
    limits: { queueBefore: number; knowledgeBefore: number; payloadBytes: number },
    isStopped?: () => boolean,
  ): Promise<void>
  /** Fails when the store cannot be written. It is written for that, at most once a second. */
  probe(): Promise<void>
  close(): Promise<void>
}
