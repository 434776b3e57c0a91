import { projectOf } from '../src/domain.ts'
import { type Handler, ignored } from './handler.ts'
import { movedTicket } from './moved-ticket.ts'
import { ticketStatus } from './ticket-status.ts'

/** A ticket's way through Jira. */
export const ticket: Handler<'ticket'> = (event, facts, rules) => {
  if (event.change === 'moved') return movedTicket(event, facts, rules)
  return rules.projects.includes(projectOf(event.ticket))
    ? ticketStatus(event, facts, rules)
    : ignored(`${projectOf(event.ticket)} is not served here`)
}
