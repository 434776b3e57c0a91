/** What runners tell: outcomes and heartbeats go into the memory, and become messages for those who wait. */
import type { Action } from '../../schema/action.ts'
import type { Outcome } from '../../schema/outcome.ts'
import type { HeartbeatRequest } from '../../schema/runner-protocol.ts'
import type { ActionRow, Message } from '../../store/port.ts'
import type { Memory } from '../../store/sqlite/memory.ts'
import type { Operation } from '../../store/sqlite/operations.ts'
import { jiraLinkMessage, jiraMessage, reactionMessages, replyMessage, statusMessage } from '../publish/messages.ts'
import { failedText, keptText, readyText, words } from '../publish/render.ts'

/** A failed one of these needs a person, also when nobody asked for it by a command. */
const NEEDS_A_PERSON = ['create', 'start', 'restore', 'delete']

export const openOutcomes = ({
  memory,
  toJira,
  secrets,
  clock,
}: {
  memory: Memory
  toJira: boolean
  /** What may turn up in the message of a failure, and shall be read by nobody. */
  secrets: readonly string[]
  clock: () => number
}) => {
  const clean = (text: string) =>
    secrets.reduce((rest, secret) => (secret.length < 6 ? rest : rest.replaceAll(secret, '[redacted]')), text)
  const cleaned = (outcome: Outcome): Outcome =>
    JSON.parse(JSON.stringify(outcome), (_name, value) => (typeof value === 'string' ? clean(value) : value))

  const jiraOf = ({ id, action, runnerId }: ActionRow, outcome: Outcome): Message[] => {
    const { ticket, kind, replyTo } = action
    const { environment } = outcome
    if (!toJira) return []
    if (outcome.result === 'failed') {
      const { failure } = outcome
      return failure.kind === 'unsaved-work' || (replyTo === null && NEEDS_A_PERSON.includes(kind))
        ? [jiraMessage(ticket, `failed:${id}`, failedText(action, failure))]
        : []
    }
    if (outcome.result === 'done' && outcome.rescued !== undefined)
      return [jiraMessage(ticket, `kept:${id}`, keptText(ticket, outcome.rescued))]
    if (kind !== 'create' || environment === null || environment.status !== 'running') return []
    const host = memory.runners().find(one => one.id === runnerId)?.host ?? null
    return [jiraMessage(ticket, `ready:${environment.vmId}`, readyText(environment, host))]
  }

  const operationOf = (action: Action, outcome: Outcome): Operation | null => {
    const told = { what: words(action), by: action.by, at: clock() }
    // A question changes nothing, and neither does what was so already.
    if (action.kind === 'status' || outcome.result === 'skipped') return null
    return outcome.result === 'done'
      ? { ...told, result: 'done', said: outcome.rescued ?? null, seconds: outcome.seconds }
      : { ...told, result: 'failed', said: outcome.failure.message, seconds: null }
  }

  /** Remembers what came of an action, and tells it on GitHub. */
  const wordsOf = ({ action, id, runnerId }: ActionRow, outcome: Outcome): Message[] => {
    const { ticket, kind, replyTo } = action
    const before = memory.environment(ticket)
    if (outcome.environment !== null) memory.learn(outcome.environment, runnerId)
    // A failure without an environment says nothing about whether there is one.
    else if (outcome.result !== 'failed')
      memory.learnGone(
        ticket,
        kind === 'delete' && outcome.result === 'done' ? { askedAt: memory.askedAt(id) ?? clock() } : null,
      )
    const operation = operationOf(action, outcome)
    if (operation !== null) memory.noteOperation(ticket, operation)
    const messages: Message[] = []
    if (replyTo !== null) {
      memory.endCommand(id, outcome)
      const results = memory.commandsOf(replyTo).map(one => one.ok)
      // While others of the comment go on, the publisher tells how they do: what is quick gets one post.
      if (!results.includes(null))
        messages.push(
          replyMessage(replyTo),
          ...reactionMessages(replyTo, results.includes(false) ? 'confused' : 'rocket'),
        )
    }
    if (memory.mirrored(ticket) !== null) messages.push(statusMessage(ticket))
    // A ticket that has its machine shows its pull requests.
    if (toJira && before === null && memory.environment(ticket) !== null)
      messages.push(...memory.pullRequestsOf(ticket).map(one => jiraLinkMessage(one, ticket)))
    return messages
  }

  /** An action ended. What comes back is stored with its end, in one transaction. */
  const onOutcome = (row: ActionRow, told: Outcome): Message[] => {
    const outcome = cleaned(told)
    return memory.together(() => [...wordsOf(row, outcome), ...jiraOf(row, outcome)])
  }

  /** What changed on a machine, whoever changed it, reaches the status comments. */
  const onHeartbeat = (heartbeat: HeartbeatRequest): Message[] => memory.heartbeat(heartbeat).map(statusMessage)

  return { onOutcome, onHeartbeat, heldByOther: memory.heldByOther }
}
