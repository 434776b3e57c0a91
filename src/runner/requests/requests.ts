/**
 * What a program in a machine asks for through its link: about that machine alone, since the link says whose request it is.
 * Checkpoints and restores go the way of every action, and count as nobody's wish.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import * as v from 'valibot'
import { isWithin } from '../../clock.ts'
import type { FailureKind } from '../../domain.ts'
import type { Log } from '../../log.ts'
import type { EnvironmentRow } from '../../registry/registry.ts'
import type { Action } from '../../schema/action.ts'
import { MAX_NOTE, type MachineRequest, machineRequest } from '../../schema/machine-request.ts'
import type { Outcome } from '../../schema/outcome.ts'
import type { RunnerContext } from '../context.ts'
import { execute } from '../executor.ts'
import type { LinkedMachine, LinkHandler } from '../link/types.ts'
import { statusText } from './status-text.ts'

/** Bytes. A character has up to four; there may be some to leave out. */
const MAX_BODY = MAX_NOTE * 4 + 1_000
/** Requests of one machine: each reads the registry. */
const RATE = { most: 30, periodMs: 10_000 }
/** Between two checkpoints, and between two restores, of one machine. */
const CHANGE_MS = 60_000
/** Failures whose message is about the machine itself. Others may tell of the host. */
const TELLABLE: readonly FailureKind[] = ['already-exists', 'no-such-checkpoint', 'needs-stop', 'not-running', 'busy']

type Answer = { status: number; text: string; afterwards?: () => void }
type Change = Extract<Action, { kind: 'checkpoint' | 'restore' }>
/** Of one machine: how much it asked for in this period, and when it last changed something. */
type Recent = { since: number; counted: number; changed: Partial<Record<Change['kind'], number>>; isChanging: boolean }
type Requests = {
  context: RunnerContext
  log: Log
  onChange: () => void
  recent: Map<string, Recent>
  changing: Set<Promise<unknown>>
  signal: AbortSignal
}

const refused = (status: number, text: string): Answer => ({ status, text })

/** Null when there is more than MAX_BODY. */
const readBody = async (request: IncomingMessage): Promise<string | null> => {
  const parts: Buffer[] = []
  let length = 0
  for await (const part of request) {
    length += part.length
    if (length > MAX_BODY) return null
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

const recentOf = (recent: Requests['recent'], vmId: string): Recent => {
  const now = performance.now()
  for (const [id, { since, isChanging }] of recent)
    if (!isChanging && now - since > CHANGE_MS + RATE.periodMs) recent.delete(id)
  const found = recent.get(vmId) ?? { since: now, counted: 0, changed: {}, isChanging: false }
  recent.set(vmId, found)
  return found
}

const isTooOften = (recent: Recent): boolean => {
  const now = performance.now()
  if (now - recent.since > RATE.periodMs) {
    recent.since = now
    recent.counted = 0
  }
  recent.counted += 1
  return recent.counted > RATE.most
}

const outcomeAnswer = (outcome: Outcome): Answer => {
  if (outcome.result === 'done') return { status: 200, text: outcome.summary }
  if (outcome.result === 'skipped') return refused(409, outcome.reason)
  const { kind, message } = outcome.failure
  return refused(409, TELLABLE.includes(kind) ? message : `it failed (${kind}); the log of the runner says why`)
}

const change = async (
  { context, log, onChange, signal, changing }: Requests,
  row: EnvironmentRow,
  action: Change,
): Promise<Outcome> => {
  const { ticket, vmId } = row
  const machineLog = log.child({ ticket, vmId, kind: action.kind, by: 'machine' })
  machineLog.info({ checkpoint: action.name }, 'begins')
  const executing = execute(context, action, {
    ...{ actionId: null, correlation: null, signal },
    onPhase: phase => machineLog.debug({ phase }, 'phase'),
  })
  changing.add(executing)
  const outcome = await executing.finally(() => changing.delete(executing))
  const failure = outcome.result === 'failed' ? outcome.failure : null
  machineLog.info({ result: outcome.result, failure: failure?.kind }, failure?.message ?? 'ended')
  onChange()
  return outcome
}

/** When the machine last made a checkpoint, epoch ms; 0: never. The registry knows of those before this runner's start. */
const lastMade = ({ context: { registry } }: Requests, { ticket }: EnvironmentRow): number => {
  const made = registry.checkpoints(ticket).findLast(({ why }) => why === 'machine')
  return made === undefined ? 0 : Date.parse(made.createdAt)
}

/** Why the machine must not change now; null when it may. Takes the turn. */
const takeTurn = (requests: Requests, row: EnvironmentRow, kind: Change['kind']): string | null => {
  const recent = recentOf(requests.recent, row.vmId)
  if (recent.isChanging) return 'another checkpoint or restore of this machine is running'
  const now = requests.context.clock().getTime()
  const times = [recent.changed[kind] ?? 0, kind === 'checkpoint' ? lastMade(requests, row) : 0]
  const wait = Math.max(...times.filter(at => isWithin(at, CHANGE_MS, now))) + CHANGE_MS - now
  if (wait > 0) return `at most one ${kind} a minute: try again in ${Math.ceil(wait / 1000)} s`
  recent.changed[kind] = now
  recent.isChanging = true
  return null
}
const endTurn = ({ recent }: Requests, { vmId }: EnvironmentRow) => {
  const ended = recent.get(vmId)
  if (ended !== undefined) ended.isChanging = false
}

const common = ({ context }: Requests, ticket: string) =>
  ({ ticket, by: { via: 'machine', who: null }, replyTo: null, at: context.clock().toISOString() }) as const

const makeCheckpoint = async (requests: Requests, row: EnvironmentRow, name: string | null): Promise<Answer> => {
  const busy = takeTurn(requests, row, 'checkpoint')
  if (busy !== null) return refused(429, busy)
  try {
    const asked = common(requests, row.ticket)
    return outcomeAnswer(
      await change(requests, row, { kind: 'checkpoint', ...asked, name, why: 'machine', commit: null }),
    )
  } finally {
    endTurn(requests, row)
  }
}

/** Answers before it begins: the answer could not arrive afterwards. */
const restore = (requests: Requests, row: EnvironmentRow, name: string): Answer => {
  const names = requests.context.registry.checkpoints(row.ticket).map(checkpoint => checkpoint.name)
  if (!names.includes(name))
    return refused(404, `there is no checkpoint ${name}. Available checkpoints: ${names.join(', ') || 'none'}`)
  const busy = takeTurn(requests, row, 'restore')
  if (busy !== null) return refused(429, busy)
  const asked = common(requests, row.ticket)
  return {
    status: 202,
    text: `Restoring ${row.ticket} to ${name}. The present state is kept as a checkpoint first. Then every connection and program of now ends, this one too. Afterwards: swarm status`,
    afterwards: () =>
      void change(requests, row, { kind: 'restore', ...asked, name })
        .catch(error => requests.log.error({ ticket: row.ticket, err: error }, 'a restore that the machine asked for'))
        .finally(() => endTurn(requests, row)),
  }
}

const answer = async (requests: Requests, row: EnvironmentRow, { what, argument }: MachineRequest): Promise<Answer> => {
  const { context, log, onChange } = requests
  if (what === 'checkpoint') return makeCheckpoint(requests, row, argument)
  if (what === 'restore') return restore(requests, row, argument)
  if (what === 'status') return { status: 200, text: statusText(context, row) }
  context.registry.setNote(row.ticket, { text: argument, at: context.clock().toISOString() })
  log.info({ ticket: row.ticket, vmId: row.vmId, characters: argument.length, by: 'machine' }, 'a note')
  onChange()
  return { status: 200, text: 'Noted. It survives a restore: swarm status shows it afterwards.' }
}

const decide = async (requests: Requests, machine: LinkedMachine, request: IncomingMessage): Promise<Answer> => {
  if (isTooOften(recentOf(requests.recent, machine.vmId)))
    return refused(429, `at most ${RATE.most} requests in ${RATE.periodMs / 1000} s`)
  const what = /^\/v1\/([a-z]{1,20})$/.exec(request.url ?? '')?.[1]
  if (what === undefined) return refused(404, 'there is no such request')
  if (request.method !== 'POST') return refused(405, 'use POST')
  const body = await readBody(request)
  if (body === null) return refused(413, `the text is too long: at most ${MAX_NOTE.toLocaleString('en')} characters`)
  const parsed = v.safeParse(machineRequest, { what, argument: body })
  if (!parsed.success) {
    const isUnknown = machineRequest.options.every(({ entries }) => entries.what.literal !== what)
    return isUnknown ? refused(404, 'there is no such request') : refused(400, parsed.issues[0].message)
  }
  const row = requests.context.registry.environmentOfMachine(machine.vmId)
  return row === null ? refused(503, 'this machine has no ticket any more') : answer(requests, row, parsed.output)
}

const respond = (response: ServerResponse, { status, text, afterwards = () => {} }: Answer): void => {
  response.once('close', afterwards)
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' })
  response.end(`${text}\n`)
}

/** `onChange`: what the heartbeat reports has changed. `signal` cancels checkpoints and restores when the runner ends. */
export const openRequests = (
  options: Omit<Requests, 'recent' | 'changing'>,
): { handle: LinkHandler; idle: () => Promise<unknown> } => {
  const requests: Requests = { ...options, recent: new Map(), changing: new Set() }
  return {
    handle: async (machine, request, response) => respond(response, await decide(requests, machine, request)),
    /** Resolves when no checkpoint and no restore is running. */
    idle: () => Promise.allSettled(requests.changing),
  }
}
