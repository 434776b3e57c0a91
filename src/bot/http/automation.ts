/**
 * Jira automation's "Send web request" at `/jira/automation`. Nothing signs it: a header carries a secret. Of the body only the
 * issue's key is read; what happened to the issue is read from Jira.
 * https://support.atlassian.com/cloud-automation/docs/issue-data-automation-format-payload-for-send-web-request
 * https://support.atlassian.com/cloud-automation/docs/issue-data-jira-format-payload-for-send-web-request-action
 */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '../../clock.ts'
import { isTicket, type Ticket } from '../../domain.ts'
import type { Log } from '../../log.ts'
import type { Delivery } from '../../store/port.ts'
import { type BodyBudget, jsonObject, readBody } from './body.ts'
import { prove } from './connections.ts'
import type { Metrics } from './metrics.ts'
import { openRefusalLog } from './refusal-log.ts'
import { type Handle, refuse, respond } from './respond.ts'
import { isToken } from './signature.ts'

type AutomationOptions = {
  /** Null: there is no such route. */
  automation: { secret: string } | null
  lanes: { jira: (payload: unknown) => string }
  metrics: Metrics
  clock: Clock
  log: Log
}

/** An issue with all its fields and comments. */
const LIMIT = 5 * 1024 * 1024
/** Requests about one ticket in this time are one delivery: several rules may react to one change. Milliseconds. */
const ONCE_MS = 10_000
const SECRET_HEADER = 'x-agent-swarm-secret'

/** "Issue data" is the issue itself (Automation format), or holds it (Jira format); custom data may name its key. */
const ticketIn = (body: Record<string, unknown>): Ticket | null => {
  const { issue } = body
  const inner = typeof issue === 'object' && issue !== null && 'key' in issue ? issue.key : issue
  const key = [body.key, inner, body.issueKey].find(value => typeof value === 'string' && isTicket(value.trim()))
  return typeof key === 'string' ? key.trim() : null
}

/** The id of a request's delivery: of the first one about the ticket in the last ten seconds, or a new one. */
const openIds = (clock: () => number) => {
  const recent = new Map<Ticket, { id: string; at: number }>()
  return (ticket: Ticket): string => {
    const now = clock()
    for (const [other, { at }] of recent) if (Math.abs(now - at) >= ONCE_MS) recent.delete(other)
    const known = recent.get(ticket) ?? { id: `automation:${ticket}:${randomUUID()}`, at: now }
    recent.set(ticket, known)
    return known.id
  }
}

export const openAutomation = (
  { automation, lanes, metrics, clock, log }: AutomationOptions,
  accept: (delivery: Delivery, response: ServerResponse) => void,
  budget: BodyBudget,
): Handle | null => {
  if (automation === null) return null
  const { secret } = automation
  const idOf = openIds(clock)
  const warnRefused = openRefusalLog(log, 'requests of automation rules without the secret were refused')
  return async (request: IncomingMessage, response: ServerResponse) => {
    const given = request.headers[SECRET_HEADER]
    if (typeof given !== 'string' || !isToken(secret, given)) {
      metrics.delivery('jira', 'bad_signature')
      warnRefused(request, { source: 'jira automation' })
      return refuse(request, response, 401, `${SECRET_HEADER} is missing or wrong`)
    }
    prove(request)
    if (Number(request.headers['content-length'] ?? 0) > LIMIT) metrics.delivery('jira', 'too_large')
    const body = await readBody(request, response, LIMIT, budget)
    if (body === null) return
    const payload = jsonObject(body.toString('utf8'))
    const ticket = payload === null ? null : ticketIn(payload)
    if (ticket === null) {
      metrics.delivery('jira', 'bad_request')
      return respond(response)(400, { error: 'the body names no issue: choose "Issue data" in the rule' })
    }
    const update = { issue: { key: ticket } }
    accept(
      {
        ...{ source: 'jira', id: idOf(ticket), event: 'automation', lane: lanes.jira(update) },
        ...{ body: JSON.stringify(update), receivedAt: clock() },
      },
      response,
    )
  }
}
