import { projectOf, ticketOf } from '../src/domain.ts'
import { act, type Handler, ignored } from './handler.ts'

/** The end of a run is told in one comment. */
export const agentEnded: Handler<'agent-ended'> = ({ ticket, run }, _facts, { projects }) =>
  projects.includes(projectOf(ticket))
    ? act([], { announcements: [{ kind: 'agent-ended', ticket: ticketOf(ticket), run }] })
    : ignored(`${projectOf(ticket)} is not served here`)
