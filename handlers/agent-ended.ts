import { projectOf } from '../src/domain.ts'
import { act, type Handler, ignored } from './handler.ts'

/** One comment reports the end of a run, in an attempt under the attempt's key. */
export const agentEnded: Handler<'agent-ended'> = ({ ticket, run }, _facts, { projects }) =>
  projects.includes(projectOf(ticket))
    ? act([], { announcements: [{ kind: 'agent-ended', ticket, run }] })
    : ignored(`${projectOf(ticket)} is not served here`)
