/** Deliveries of the clock: an event that a handler wants decided later. */
import * as v from 'valibot'
import type { PullRequestEvent, SwarmEvent } from '../../../handlers/handler.ts'
import type { Ticket } from '../../domain.ts'
import { count, repository } from '../../schema/basics.ts'
import type { Delivery } from '../../store/port.ts'

/** The name of their event. */
export const LATER = 'later'

/** `at`: when to decide it, epoch ms. */
export const clockDelivery = (ticket: Ticket, event: SwarmEvent, at: number): Delivery => ({
  source: 'clock',
  id: `${ticket}:${at}`,
  event: LATER,
  lane: `clock:${ticket}`,
  body: JSON.stringify(event),
  receivedAt: at,
})

const scheduledEvent = v.object({
  kind: v.literal('pull-request'),
  change: v.picklist([
    'opened',
    'reopened',
    'ready_for_review',
    'converted_to_draft',
    'edited',
    'closed',
    'grace over',
  ]),
  pullRequest: v.object({ repo: repository, number: count }),
  branch: v.string(),
  title: v.string(),
  fromFork: v.boolean(),
  // Missing in what an earlier version scheduled.
  merged: v.optional(v.boolean(), true),
  sender: v.nullable(v.string()),
  at: v.nullable(v.number()),
})
export const parseScheduled = (body: string): PullRequestEvent => v.parse(scheduledEvent, JSON.parse(body))
