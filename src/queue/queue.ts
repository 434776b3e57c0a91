/**
 * The queue's port: inbox (deliveries until they have become actions), actions (until they have an outcome) and outbox
 * (messages until they are published). One process opens it: the bot. Calls are synchronous: the store is local, and a
 * call that returned is on disk. Times are epoch milliseconds from the injected clock.
 */
import type { Action, Environment, Failure, Outcome, Progress, Ticket } from '../domain.ts'

/** What arrived from outside, verified. `lane` groups what must keep its order (a ticket, a pull request, a ref). */
export type Delivery = {
  /** `clock`: what was put off until now. */
  source: 'github' | 'jira' | 'clock'
  id: string
  event: string
  lane: string
  body: string
  receivedAt: number
}
/** `since`: when it was first due, or due again: what cannot be decided is given up some time after. */
export type StoredDelivery = Delivery & { seq: number; attempt: number; since: number }
/** What a delivery became. A refusal and an ignored delivery keep their reason. */
export type Verdict = { verdict: 'actions' | 'ignored' | 'refused' | 'failed'; reason: string | null }
/** What a delivery became, with all that follows from it. */
type Settlement = {
  seq: number
  verdict: Verdict
  actions: readonly QueuedAction[]
  messages: readonly Message[]
}
/** A delivery as the inbox shows it. */
export type DeliveryRow = Pick<Delivery, 'source' | 'id' | 'event' | 'lane' | 'receivedAt'> & {
  verdict: Verdict['verdict'] | 'waiting'
  /** Of the verdict; of one that waits, why it could not be decided the last time. */
  reason: string | null
  /** How often it could not be decided. */
  attempt: number
  /** When one that waits is decided next, epoch ms. */
  dueAt: number | null
  settledAt: number | null
  /** What it became. `because`: why one was skipped or failed. */
  actions: {
    kind: Action['kind']
    ticket: Ticket
    state: ActionState
    result: Outcome['result'] | null
    because: string | null
  }[]
}
/** `again`: it is due now. Otherwise why not: it took effect, it is being decided, its payload is no longer kept, or nobody knows it. */
export type Replayed = 'again' | 'took effect' | 'in hand' | 'forgotten' | 'unknown'

/** An action on its way. `id` is `<source>:<delivery id>:<index>`, so that a redelivery makes the same ids. */
export type QueuedAction = { id: string; correlation: string; action: Action }
export type ActionState = 'pending' | 'active' | 'done' | 'dead' | 'cancelled'
export type ActionRow = QueuedAction & {
  seq: number
  state: ActionState
  attempt: number
  runnerId: string | null
  leaseUntil: number | null
  progress: Progress | null
  createdAt: number
  notBefore: number
  outcome: Outcome | null
}

/** A claimed action with the attempt's fencing token: only its holder may renew, complete or fail it. */
export type Lease = QueuedAction & { seq: number; attempt: number; token: string; leaseMs: number }

/** A message for the outside. `key` orders and replaces: a newer unpublished message of the same key takes its place. */
export type Message = { key: string; body: MessageBody }
export type MessageBody =
  | { kind: 'action'; actionId: string }
  | { kind: 'reaction'; repo: string; commentId: number; content: 'eyes' | 'rocket' | 'confused' }
  | { kind: 'reply'; repo: string; number: number; commentId: number }
  | { kind: 'status'; ticket: Ticket }
  | { kind: 'jira'; ticket: Ticket; about: string; text: string }
  | { kind: 'jira-reply'; ticket: Ticket; commentId: string }
  | { kind: 'jira-link'; ticket: Ticket; repo: string; number: number }
/**
 * `body` is the message as it was when it was taken: one that was replaced since is published again. `correlation`: the
 * delivery that it comes of; null when it comes of none.
 */
export type OutboxRow = { seq: number; message: Message; attempt: number; body: string; correlation: string | null }

/** What seems to wait longer was put off before the clock was set back, and is due. Milliseconds. */
export const LONGEST_WAIT_MS = 60 * 60_000

export type Queue = {
  /**
   * Stores deliveries in one transaction. Those whose (source, id) is known are left as they are when they wait or took
   * effect, and are due again when they had none. Returns how many are due by this.
   */
  accept(deliveries: readonly Delivery[]): number
  /** Whether it came, and waits or was decided: one that could not be decided is as if it had not come. */
  taken(delivery: Pick<Delivery, 'source' | 'id'>): boolean
  /** The oldest due delivery of each lane that has none in hand, at most `limit`. */
  due(limit: number): StoredDelivery[]
  /** Deliveries have become actions (perhaps none), a verdict and messages: one transaction for all. */
  settle(settlements: readonly Settlement[]): void
  /** It could not be decided yet: again at `at`, within LONGEST_WAIT_MS. Its lane waits with it. */
  postpone(seq: number, at: number, reason: string): void
  /** It could be neither settled nor postponed, as when the disk is full: it is due as it was. Writes nothing. */
  release(seq: number): void
  /**
   * Deliveries, newest first, at most `limit`. Each of `words` must be its verdict, source, event, id, the ticket of one of
   * its actions, or name its lane, as `lanesOf` says.
   */
  deliveries(filter: {
    words: readonly string[]
    limit: number
    lanesOf?: (word: string) => readonly string[]
  }): DeliveryRow[]
  /** Has a delivery decided again that had no effect. `id` may be `<source>:<id>`. */
  replay(id: string): Replayed

  enqueue(action: QueuedAction): 'added' | 'duplicate'
  /** The oldest pending action of a ticket that has none active and that this runner may take. Pins the ticket to it. */
  claim(runner: { runnerId: string }): Lease | null
  renew(id: string, token: string, progress: Progress | null): 'ok' | 'lost'
  /** Ends the action, with the messages that `messages` makes once the lease was found good, in one transaction. */
  complete(id: string, token: string, outcome: Outcome, messages?: () => readonly Message[]): 'ok' | 'lost'
  /** Tries again with back-off, or, when it may not or has been tried enough, ends it with a failed outcome. */
  fail(
    id: string,
    token: string,
    failure: Failure,
    options: { retry: boolean; environment: Environment | null; messages?: () => readonly Message[] },
  ): 'retry' | 'dead' | 'lost'
  /** Queued actions only. */
  cancel(id: string): 'cancelled' | 'too-late'
  /** Leases that ran out go back to pending; one that was tried enough ends as failed, with the messages of `lost`. Returns how many ran out. */
  reap(lost: (action: ActionRow, outcome: Outcome) => readonly Message[]): number
  pinnedTo(ticket: Ticket): string | null
  pin(ticket: Ticket, runnerId: string): void
  unpin(ticket: Ticket): void
  pinsOf(runnerId: string): Ticket[]
  get(id: string): ActionRow | null
  list(filter?: { ticket?: Ticket; state?: ActionState }): ActionRow[]
  /** Epoch ms when the next delivery, or the next message, is due; null when there is none. */
  nextDelivery(): number | null
  nextMessage(): number | null
  /** Throws when the store cannot be written. */
  probe(): void

  outbox: {
    put(messages: readonly Message[]): void
    /** Due messages behind `after` (a `seq`), oldest first, at most `limit`. A key has one at a time. */
    take(limit: number, after?: number): OutboxRow[]
    ack(row: OutboxRow): void
    /** Again at `at`, within LONGEST_WAIT_MS. */
    later(seq: number, at: number, reason: string): void
    drop(seq: number, reason: string): void
  }
  /**
   * Forgets what was settled before (epoch ms): no sender sends it again after so long. Of settled deliveries without an
   * effect, the newest payloads are kept for a replay, `payloadBytes` of them.
   */
  purge(before: number, payloadBytes: number): void
  counts(): {
    inbox: number
    pending: number
    active: number
    dead: number
    outbox: number
    oldestDeliveryAt: number | null
    oldestPendingAt: number | null
    oldestMessageAt: number | null
  }
  close(): void
}
