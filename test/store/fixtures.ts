import type { Action, ActionKind, CommentRef } from '../../src/schema/action.ts'
import type { Environment } from '../../src/schema/environment.ts'
import type { Failure } from '../../src/schema/failure.ts'
import type { Outcome } from '../../src/schema/outcome.ts'
import type { HeartbeatRequest, Offer } from '../../src/schema/runner-protocol.ts'
import type { Delivery, Message, NewRequest, QueuedAction, Settlement } from '../../src/store/port.ts'

export const START = Date.parse('2026-11-24T10:00:00Z')
export const MINUTE = 60_000
/** `seconds` after START, ISO 8601. */
export const timeAt = (seconds: number): string => new Date(START + seconds * 1000).toISOString()

export const dev = { via: 'github', who: 'dev' } as const
export const comment = { repo: 'acme/shop', number: 7, commentId: 500 }

const DETAILS = {
  checkpoint: { name: 'push-1234567', why: 'push', commit: '1234567' },
  restore: { name: null },
  'delete-checkpoint': { name: 'before' },
  delete: { force: false },
  move: { from: 'OLD-1' },
} as const
export const actionOf = (kind: ActionKind, ticket = 'DROP-1', more: Partial<Action> = {}): Action =>
  ({ kind, ticket, by: dev, replyTo: null, ...(kind in DETAILS ? DETAILS[kind as 'move'] : {}), ...more }) as Action
export const queued = (id: string, kind: ActionKind = 'stop', ticket = 'DROP-1', more = {}): QueuedAction => ({
  id,
  correlation: id,
  action: actionOf(kind, ticket, more),
})

export const delivery = (id: string, lane = 'a', more: Partial<Delivery> = {}): Delivery => ({
  source: 'github',
  id,
  event: 'push',
  lane,
  body: `{"id":"${id}"}`,
  receivedAt: START,
  ...more,
})
export const settlement = (more: Partial<Settlement> = {}): Settlement => ({
  verdict: 'actions',
  reason: null,
  actions: [],
  messages: [],
  requests: [],
  effects: [],
  ...more,
})

export const status = (ticket: string): Message => ({ key: `status:${ticket}`, body: { kind: 'status', ticket } })

/** A request by an event, for an action. */
export const request = (id: string, action: Action | null, more: Partial<NewRequest> = {}): NewRequest => ({
  id,
  at: START,
  by: action?.by ?? dev,
  person: false,
  place: 'acme/shop#7',
  command: null,
  ticket: action?.ticket ?? null,
  what: action?.kind ?? 'help',
  action,
  verdict: 'allowed',
  reason: null,
  answer: null,
  ok: null,
  ...more,
})
/** A request by a command. */
export const command = (
  id: string,
  action: Action | null,
  more: Partial<NewRequest> & { line?: number; in?: CommentRef } = {},
): NewRequest => {
  const { line = 0, in: place = comment, ...rest } = more
  return request(id, action, { person: true, command: { comment: place, line }, ...rest })
}

export const environmentOf = (ticket: string, more: Partial<Environment> = {}): Environment => ({
  ticket,
  provider: 'kvm',
  vmId: `as-${ticket.toLowerCase()}-1a2b3c4d`,
  ip: null,
  status: 'running',
  baseImage: 'agent-swarm-base',
  createdAt: timeAt(-3600),
  createdBy: { via: 'cli', who: null },
  ssh: null,
  checkpoints: [],
  unsavedWork: null,
  observedAt: timeAt(0),
  ...more,
})

export const done = (environment: Environment | null = null): Outcome => ({
  result: 'done',
  summary: 'done',
  environment,
  seconds: 1,
})
export const failure: Failure = { kind: 'timeout', message: 'no answer', remedy: null }

export const offer: Offer = {
  providers: [{ name: 'kvm', label: 'KVM', live: true, images: ['agent-swarm-base'] }],
  defaults: { provider: 'kvm', baseImage: 'agent-swarm-base', size: { cpus: 2, memoryMiB: 2048, diskGiB: 20 } },
  limits: { cpus: 8, memoryMiB: 8192, diskGiB: 100 },
  room: null,
}
/** An offer with this much memory free on a host of 16 GiB. */
export const withFree = (memoryMiB: number): Offer => ({
  ...offer,
  room: { free: { cpus: 64, memoryMiB, diskGiB: 100 }, empty: { cpus: 64, memoryMiB: 16_384, diskGiB: 100 } },
})

export const heartbeatOf = (environments: Environment[], more: Partial<HeartbeatRequest> = {}): HeartbeatRequest => ({
  runnerId: 'runner-1',
  host: 'studio',
  version: '0.1.0',
  offer,
  environments,
  manualOperations: [],
  ...more,
})
