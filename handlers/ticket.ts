import { projectOf } from '../src/domain.ts'
import type { Requester } from '../src/schema/action.ts'
import { act, type Facts, type Handler, ignored, overridden, type Rules, type StatusCategory } from './handler.ts'

const isOurs = (assignee: string | null, { assignees }: Rules, me: string | null): boolean => {
  if (assignees === 'any') return true
  if (assignee === null) return false
  return assignees === 'me' ? assignee === me : assignees.includes(assignee)
}

/** Whether it carries what a ticket must carry here. */
const isMarked = (labels: readonly string[], rules: Rules): boolean =>
  rules.labels.length === 0 ||
  rules.labels.some(wanted => labels.some(label => label.toLowerCase() === wanted.toLowerCase()))

const CLOSED = 'its pull request was closed after that'

type Now = { category: StatusCategory; assignee: string | null; labels: readonly string[] }

/** The ticket as it is now: what was read again counts, then what the event said. Deleted is done. */
const present = (event: Now & { change: string }, now: Facts['ticket']['now']): Now => {
  if (event.change === 'deleted' || now === null || now === 'outdated')
    return { category: 'done', assignee: event.assignee, labels: event.labels }
  return now === 'unreadable' ? event : now
}

/** A ticket's way through Jira: in progress means a machine, back to new means stopped, done means stopped or gone. */
export const ticket: Handler<'ticket'> = (
  event,
  { environment, now, endedSinceNew, hadPullRequest, closedSince, me, laterRequest },
  rules,
) => {
  const { ticket } = event
  if (!rules.projects.includes(projectOf(ticket))) return ignored(`${projectOf(ticket)} is no project of ours`)
  const by: Requester = { via: 'jira', who: event.by }
  const common = { ticket, by, replyTo: null }
  const { category, assignee, labels } = present(event, now)
  // It would have been made and then stopped, or deleted.
  const closed = closedSince && rules.closed !== 'nothing'
  const inProgress = () => {
    if (!isOurs(assignee, rules, me))
      return ignored(`${ticket} is assigned to ${assignee === null ? 'nobody' : 'somebody else'}`)
    if (environment !== null) {
      if (environment.status === 'stopped') return closed ? ignored(CLOSED) : act([{ kind: 'start', ...common }])
      if (environment.status === 'running' || environment.status === 'creating')
        return ignored(`${ticket} has its machine`)
    }
    if (endedSinceNew)
      return ignored(
        `the last machine of ${ticket} was deleted or merged, and the ticket was not back in the backlog since`,
      )
    if (!isMarked(labels, rules)) return ignored(`${ticket} has none of the labels ${rules.labels.join(', ')}`)
    const create = { kind: 'create', ...common, machine: rules.machine } as const
    if (!closed) return act([create])
    return rules.closed === 'stop' ? act([create, { kind: 'stop', ...common }]) : ignored(CLOSED)
  }
  const rest = (): ReturnType<Handler<'ticket'>> => {
    if (environment === null) return ignored(`${ticket} has no environment`)
    return environment.status === 'stopped'
      ? ignored(`${ticket} is stopped already`)
      : act([{ kind: 'stop', ...common }])
  }
  const over = () => {
    if (environment === null) return ignored(`${ticket} has no environment`)
    // Only what was read just now may delete; without it the machine is stopped, and kept.
    const wanted = rules.done ?? (hadPullRequest ? 'stop' : 'delete')
    if (wanted === 'nothing') return ignored(`${ticket} is done, and nothing follows from that here`)
    return wanted === 'stop' || now === 'unreadable' ? rest() : act([{ kind: 'delete', force: false, ...common }])
  }
  const byCategory = {
    new: rest,
    indeterminate: inProgress,
    done: over,
    undefined: () => ignored(`the status of ${ticket} has no category`),
  } satisfies Record<StatusCategory, () => ReturnType<Handler<'ticket'>>>
  // Somebody else's assignment neither stops nor deletes; it only may begin a machine.
  if (event.change === 'assignee' && category !== 'indeterminate')
    return ignored(`${ticket} was assigned, and is not in progress`)
  if (laterRequest !== null) return overridden(laterRequest)
  if (now === 'outdated') return ignored(`later news of ${ticket} is known, and how it is now cannot be read`)
  return byCategory[category]()
}
