/** Every event and who decides about it. */
import { agentEnded } from './agent-ended.ts'
import { checks } from './checks.ts'
import { comment } from './comment.ts'
import type { EventKind, Handler } from './handler.ts'
import { pullRequest } from './pull-request.ts'
import { push } from './push.ts'
import { pushed } from './pushed.ts'
import { review } from './review.ts'
import { ticket } from './ticket.ts'
import { ticketComment } from './ticket-comment.ts'

export const handlers = {
  push,
  'pull-request': pullRequest,
  comment,
  ticket,
  'ticket-comment': ticketComment,
  'agent-ended': agentEnded,
  pushed,
  review,
  checks,
} satisfies {
  [Kind in EventKind]: Handler<Kind>
}
