/** Every event and who decides about it. */
import { comment } from './comment.ts'
import type { EventKind, Handler } from './handler.ts'
import { pullRequest } from './pull-request.ts'
import { push } from './push.ts'
import { ticket } from './ticket.ts'
import { ticketComment } from './ticket-comment.ts'

export const handlers = {
  push,
  'pull-request': pullRequest,
  comment,
  ticket,
  'ticket-comment': ticketComment,
} satisfies {
  [Kind in EventKind]: Handler<Kind>
}
