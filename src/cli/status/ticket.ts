/** `status TICKET`: the details and the history of one ticket. */
import { attemptOf, type Ticket, ticketOf } from '../../domain.ts'
import { listEnvironments, type RunnerContext, requireEnvironment } from '../../runner/context.ts'
import { describeUnsavedWork } from '../../runner/rescue/unsaved-work.ts'
import { runningOperations, waitingActions } from '../../runner/standing.ts'
import type { Progress } from '../../schema/action.ts'
import type { IdleReport, Interruption } from '../../schema/environment.ts'
import { priceText, timeBetween } from '../../words.ts'
import type { Output } from '../json.ts'
import { onOneLine, stripControls, textWidth } from '../terminal/output.ts'
import { type Cell, pairs, table } from '../terminal/table.ts'
import { address, askedFor, requesterName, size, statusCell, when } from '../terminal/text.ts'
import { projectRows } from './project.ts'
import { listRescued, phaseText, rescuedSection, section, type View } from './shared.ts'

export type TicketStatus = Extract<Output<'status'>, { operations: unknown }>
type Details = NonNullable<TicketStatus['environment']>
type Operation = TicketStatus['operations'][number]

const OPERATIONS_SHOWN = 10
/** Of an operation, the longest. */
const PHASES_SHOWN = 8

/** `unread`: hypervisors that could not be asked, as sentences. */
export const ticketStatus = async (
  context: RunnerContext,
  ticket: Ticket,
): Promise<{ unread: string[]; status: TicketStatus }> => {
  const { registry } = context
  const { environments, unread } = await listEnvironments(context, { usage: true })
  const listed = environments.find(environment => environment.ticket === ticket)
  const operations = registry.operations(ticket, OPERATIONS_SHOWN)
  const underWay = await runningOperations(context, ticket)
  const waiting = waitingActions(context).filter(action => action.ticket === ticket)
  const rescued = (await listRescued(context)).filter(each => each.ticket === ticket)
  const isKnown = [operations, underWay, waiting, rescued].some(({ length }) => length > 0)
  // Fails when nothing is known of the ticket.
  const row = isKnown ? registry.environment(ticket) : requireEnvironment(context, ticket)
  return {
    unread: unread.map(({ message }) => message),
    status: {
      ticket,
      environment: listed === undefined ? null : listed,
      attempts: environments
        .filter(
          each => attemptOf(ticket) === null && attemptOf(each.ticket) !== null && ticketOf(each.ticket) === ticket,
        )
        .map(each => ({ ticket: each.ticket, status: each.status })),
      desired: row?.desired ?? null,
      desiredBy: row?.desiredBy ?? null,
      ...{ underWay, waiting, rescued, operations },
    },
  }
}

// ── As text ──

const idleText = (ticket: Ticket, idle: IdleReport, { now, terminal }: View): string => {
  const time = (at: string) => when(at, now, terminal)
  if (idle.state === 'warned') {
    const after =
      idle.becomes === 'left running' ? `it runs on: ${idle.reason ?? ''}` : `it is ${idle.becomes} at about ${idle.at}`
    return `nobody has used it since ${time(idle.since)}; ${after}`
  }
  const since = idle.at === null ? '' : ` since ${time(idle.at)}`
  return `${idle.state}${since}; agent-swarm ssh ${ticket} wakes it, and so does every command that needs it`
}

const attemptText = ({ of, from }: NonNullable<Details['attempt']>): string =>
  `forked from ${of}${from === null ? '' : ` at ${from}`}; agent-swarm promote keeps it`

const interruptionText = (ticket: Ticket, { state, by, cause, next }: Interruption): string => {
  const [what, more] =
    state === 'announced'
      ? [`${by} stops it within minutes`, `. To keep its disk as it is now: agent-swarm checkpoint ${ticket}`]
      : [`${by} stopped it`, '']
  return stripControls(`${what} (${cause}). ${next}${more}`)
}

const detailRows = (environment: Details, { now, terminal }: View): (readonly [string, Cell])[] => {
  const { ticket, provider, ssh, usage, price, unsavedWork, interruption, ending, attempt } = environment
  const hasUnsavedWork = unsavedWork !== null && (!unsavedWork.known || unsavedWork.repositories.length > 0)
  return [
    ['ticket', ticket],
    ...(attempt === undefined ? [] : [['attempt', attemptText(attempt)] as const]),
    ['state', statusCell(environment)],
    ...(environment.idle === undefined
      ? []
      : [['idle', idleText(ticket, environment.idle, { now, terminal })] as const]),
    ...(interruption === undefined ? [] : [['interruption', interruptionText(ticket, interruption)] as const]),
    ...(environment.status === 'lost'
      ? [
          [
            'lost',
            `its machine no longer exists, and agent-swarm did not delete it${ending === undefined ? '' : ` (${stripControls(ending)})`}; agent-swarm create ${ticket} makes it again from its disk${attemptOf(ticket) === null ? ', or makes a new one' : ', where that is left'}`,
          ] as const,
        ]
      : []),
    ['provider', provider === 'synthetic' ? 'synthetic (a folder, not a machine)' : provider],
    ['machine', environment.vmId],
    ['address', address(environment)],
    ...(ssh === null ? [] : [['shell', `agent-swarm ssh ${ticket}`] as const]),
    ['base image', environment.baseImage],
    ['created', `${when(environment.createdAt, now, terminal)} ${askedFor(environment.createdBy)}`],
    ...(usage === null
      ? []
      : ([
          ['CPUs', String(usage.cpus)],
          ['memory', `up to ${size(usage.memoryBytes)}, uses ${size(usage.memoryUsedBytes)} of the host`],
          ['disk', size(usage.diskBytes)],
        ] as const)),
    ...(price === undefined ? [] : [['price', priceText(price)] as const]),
    ...projectRows(environment, { now, terminal }),
    ...(hasUnsavedWork ? [['unsaved work', onOneLine(describeUnsavedWork(unsavedWork))] as const] : []),
  ]
}

const checkpointTable = ({ checkpoints }: Details, { now, terminal }: View): string =>
  table(
    [{ title: 'NAME', whole: true }, 'CREATED', 'REASON', 'SIZE'],
    checkpoints.map(({ name, createdAt, why, sizeBytes }) => [
      name,
      when(createdAt, now, terminal),
      why,
      size(sizeBytes),
    ]),
    terminal,
  )

/** `disk 0.2 s, start 0.5 s`: each phase with its time; of many, the longest. */
const phaseTimes = (phases: readonly Progress[], end: string): string => {
  const times = phases.map(({ phase, at }, index) => ({
    phase,
    ms: Date.parse(phases[index + 1]?.at ?? end) - Date.parse(at),
  }))
  const longest = times.toSorted((one, other) => other.ms - one.ms).slice(0, PHASES_SHOWN)
  const shown = times.filter(time => longest.includes(time))
  return [
    ...shown.map(({ phase, ms }) => `${onOneLine(phase)} ${(ms / 1000).toFixed(1)} s`),
    ...(times.length > shown.length ? [`${times.length - shown.length} more`] : []),
  ].join(', ')
}

const resultText = ({ outcome, result, endedAt, phases }: Operation): string => {
  if (outcome?.result === 'failed') return `failed: ${onOneLine(outcome.failure.message.split('\n')[0] ?? '')}`
  if (outcome?.result === 'skipped') return `skipped: ${onOneLine(outcome.reason)}`
  if (endedAt === null) return 'not ended'
  return phases.length === 0 ? `${result}` : `${result}: ${phaseTimes(phases, endedAt)}`
}

const operationTable = ({ operations }: TicketStatus, { now, terminal }: View): string =>
  table(
    ['STARTED', 'OPERATION', 'BY', 'RESULT'],
    operations.map(operation => [
      when(operation.startedAt, now, terminal),
      [operation.kind, operation.detail?.name, operation.detail?.force === true ? '--force' : undefined]
        .filter(Boolean)
        .join(' '),
      requesterName(operation.by),
      resultText(operation),
    ]),
    terminal,
  )

export const ticketPage = (status: TicketStatus, home: string, view: View): string => {
  const { ticket, environment, attempts, operations, underWay, waiting, rescued } = status
  const { now, terminal } = view
  const width = terminal.stdout.isTTY === true ? textWidth(terminal) : null
  return [
    environment === null ? `${ticket} has no machine.` : pairs(detailRows(environment, view), terminal, width),
    ...(environment === null || environment.checkpoints.length === 0
      ? []
      : section('CHECKPOINTS', checkpointTable(environment, view))),
    ...(attempts.length === 0
      ? []
      : [`\nAttempts: ${attempts.map(each => `${each.ticket} (${each.status})`).join(', ')}.`]),
    ...underWay.map(
      operation =>
        `\n${operation.kind} ${askedFor(operation.by)} ${operation.interrupted ? 'was' : 'in progress:'} ${phaseText(operation, now)}.`,
    ),
    ...waiting.map(
      ({ kind, by, since, why }) =>
        `\n${kind} ${askedFor(by)} has waited for ${timeBetween(Date.parse(since), now.getTime())}: ${why}.`,
    ),
    ...rescuedSection(rescued, home, view),
    ...(operations.length === 0 ? [] : section('OPERATIONS', operationTable(status, view))),
  ].join('\n')
}
