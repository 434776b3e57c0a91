/** The status comment on each pull request of a ticket. Pure. */
import { attemptOf, type Ticket } from '../../domain.ts'
import type { Environment, IdleReport, Interruption } from '../../schema/environment.ts'
import type { KnownEnvironment, KnownRunner, Request } from '../../store/port.ts'
import { agentLine, projectLine } from './agent-words.ts'
import { type Block, code, type Line, line, link, own, strong } from './text.ts'
import { type WaitingView, waitingLine } from './waiting.ts'
import {
  checkpointBlocks,
  commandOf,
  duration,
  graceBlocks,
  idleSleep,
  idleWarning,
  interruptionLine,
  type Links,
  loginLine,
  moment,
  providerName,
  RESTORE_RESCUED,
  type Rendered,
  rendered,
  requestedBy,
  runnersHost,
  staysLine,
  type TimeTexts,
  unsavedWorkLine,
} from './words.ts'

export type StatusView = {
  ticket: Ticket
  known: KnownEnvironment
  /** Machines that were forked for the ticket. `isHere`: the comment stands on the pull request of its branch. */
  attempts: readonly (Pick<Environment, 'ticket' | 'status' | 'vmId' | 'project' | 'observedAt'> & {
    isHere: boolean
  })[]
  /** The runner that has it; null when it is unknown. */
  runner: Pick<KnownRunner, 'host' | 'seenAt' | 'connected'> | null
  /** The last requests that were done, failed or refused; newest first. */
  history: readonly Request[]
  /** When a merge's delete is due, epoch ms; null when none is scheduled. */
  deleteAt: number | null
  /** The open pull requests that the machine stays for after the merge of another one, `acme/shop#13`. */
  openAfterMerge: readonly string[]
  /** Its oldest action, when that has waited for a runner for a while. */
  waiting: WaitingView | null
  links: Links
  /** Why the ticket was not moved in Jira, by `transitions`. */
  skippedMoves: readonly string[]
  /** Errors in the configuration file of the comment's repository. */
  fileProblems: readonly string[]
}

const resultLine = ({ action, ended, reason, verdict }: Request): Line => {
  if (verdict === 'refused') return line`refused: ${reason ?? ''}`
  const outcome = ended?.outcome ?? null
  if (outcome === null) return own('in progress')
  if (outcome.result === 'failed') return line`failed: ${code(outcome.failure.message)}`
  if (outcome.result === 'skipped') return own('nothing to do')
  // It says what became of the others.
  const what = action?.kind === 'promote' ? line`: ${outcome.summary}` : []
  return line`done in ${own(duration(outcome.seconds))}${what}`
}
const historyLine = (request: Request): Line => {
  const { action, what, at, by, ended } = request
  const command = action === null ? what : commandOf(action)
  return line`${own(moment(ended?.at ?? at))}: ${code(command)}, ${requestedBy(by)}: ${resultLine(request)}`
}
const historyBlocks = (history: readonly Request[]): Block[] =>
  history.length === 0 ? [] : [{ line: own('Recent requests:') }, { list: history.map(historyLine) }]

const waitingBlocks = (waiting: WaitingView | null): Block[] => {
  if (waiting === null) return []
  const { action, createdAt, state } = waiting.row
  if (state === 'active')
    return [{ line: line`${code(commandOf(action))}, ${requestedBy(action.by)}: ${waitingLine(waiting)}` }]
  return [
    {
      line: line`${code(commandOf(action))}, ${requestedBy(action.by)}, waits since ${own(moment(createdAt))}: ${waitingLine(waiting)}`,
    },
  ]
}

const pausedClause = (reason: string | null): Line => (reason === null ? [] : line`, and paused: ${reason},`)

const interruptedClause = (interruption: Interruption | undefined): Line => {
  if (interruption === undefined) return []
  return interruption.state === 'announced'
    ? line`, and ${interruption.by} stops it within minutes,`
    : line`, by ${interruption.by},`
}

const idleLine = (ticket: Ticket, idle: IdleReport): Line =>
  idle.state === 'warned'
    ? idleWarning(ticket, idle)
    : line`asleep${own(idle.at === null ? '' : ` since ${moment(idle.at)}`)}: ${idleSleep(idle.state)}`

type Row = [name: string, value: Line]
const attemptLine = ({ ticket, status, vmId, project, isHere }: StatusView['attempts'][number]): Line => {
  const branch = project?.branch == null ? [] : line`, branch ${code(project.branch)}`
  return line`${own(ticket)}: ${own(status)}, machine ${code(vmId)}${branch}${own(isHere ? ' (this pull request)' : '')}`
}
/** They are as old as the one that was observed longest ago. */
const attemptBlocks = (attempts: StatusView['attempts'], { at }: TimeTexts): Block[] => {
  const example = attempts.find(({ isHere }) => isHere) ?? attempts[0]
  if (example === undefined) return []
  const oldest = attempts.map(({ observedAt }) => observedAt).reduce((one, other) => (one < other ? one : other))
  const command = code(`/swarm promote ${attemptOf(example.ticket)}`)
  return [
    {
      line: line`Attempts as of ${own(at(oldest))} (${command} makes ${own(example.ticket)} the machine of the ticket and deletes the others):`,
    },
    { list: attempts.map(attemptLine) },
  ]
}

const rows = ({ ticket, known: { environment }, runner, links }: StatusView, times: TimeTexts): Row[] => {
  const { at } = times
  const { status, vmId, createdAt, createdBy, baseImage, unsavedWork, observedAt, project, agent, paused } = environment
  const { interruption, ending } = environment
  const endingClause = ending === undefined ? [] : line` (${ending})`
  const taken: Row[] = interruption === undefined ? [] : [['Interruption', interruptionLine(ticket, interruption)]]
  const idle: Row[] = environment.idle === undefined ? [] : [['Idle', idleLine(ticket, environment.idle)]]
  const logIn: Row[] = status === 'running' ? [['Log in', loginLine(environment, runner?.host ?? null)]] : []
  const contact: Row[] =
    runner === null ? [] : [['Runner', line`${code(runner.host)}, last contact ${own(at(runner.seenAt))}`]]
  const unsaved: Row[] = unsavedWork === null ? [] : [['Unsaved work at the last check', unsavedWorkLine(unsavedWork)]]
  const page = links.ticket(ticket)
  const jira: Row[] = page === null ? [] : [['Ticket', [link(ticket, page)]]]
  return [
    ...jira,
    [
      'State',
      line`${strong(status)}${pausedClause(paused ?? null)}${interruptedClause(interruption)}${endingClause} as of ${own(at(observedAt))}`,
    ],
    ...taken,
    ...idle,
    ...logIn,
    ...contact,
    ['Provider', own(providerName(environment.provider))],
    [
      'Machine',
      line`${code(vmId)}, created ${own(moment(createdAt))} from ${code(baseImage)}, ${requestedBy(createdBy)}`,
    ],
    ...(project === undefined ? [] : [['Project', projectLine(ticket, project)] satisfies Row]),
    ...(agent === undefined ? [] : [['Agent', agentLine(agent, environment, times)] satisfies Row]),
    ...unsaved,
  ]
}

const existing = (view: StatusView, times: TimeTexts): Block[] => {
  const { ticket, known, attempts, runner, history, deleteAt, openAfterMerge } = view
  const { waiting, links, skippedMoves, fileProblems } = view
  const { environment } = known
  const away: Block[] =
    runner === null || runner.connected
      ? []
      : [
          {
            line: line`The runner on ${code(runner.host)} does not respond. This is the state at its last contact.`,
          },
        ]
  const problems: Block[] =
    fileProblems.length === 0
      ? []
      : [
          { line: own('`.github/agent-swarm.yml` has errors. The previous version stays in effect:') },
          { listing: fileProblems.join('\n') },
        ]
  return [
    { heading: own(`${ticket}: ${environment.status}`) },
    { table: [[[], []], ...rows(view, times).map(([name, value]) => [own(name), value])] },
    ...away,
    ...attemptBlocks(attempts, times),
    ...waitingBlocks(waiting),
    ...graceBlocks(deleteAt),
    ...(openAfterMerge.length === 0
      ? []
      : [{ line: line`A pull request of ${own(ticket)} is merged.${staysLine(openAfterMerge)}` }]),
    ...skippedMoves.map(reason => ({ line: line`The ticket was not moved in Jira: ${reason}.` })),
    ...checkpointBlocks(environment, times, links),
    ...historyBlocks(history),
    ...problems,
    { small: own('Kept up to date by agent-swarm. `/swarm help` lists the commands.') },
  ]
}

const rescuedBlocks = ([last]: readonly Request[], host: string | null): Block[] => {
  const outcome = last?.ended?.outcome
  if (outcome?.result !== 'done' || outcome.rescued === undefined) return []
  return [{ line: line`Rescued before the delete, ${runnersHost(host)}: ${outcome.rescued}. ${own(RESTORE_RESCUED)}` }]
}
const gone = (
  { ticket, runner, history, waiting, attempts, known: { runnerForgotten } }: StatusView,
  { vmId, provider }: Environment,
  goneAt: number,
  times: TimeTexts,
): Block[] => [
  { heading: own(`${ticket}: ${runnerForgotten ? 'out of reach' : 'deleted'}`) },
  {
    line: runnerForgotten
      ? line`The machine ${code(vmId)} (${own(providerName(provider))}) is out of reach as of ${own(moment(goneAt))}: an operator forgot its runner, which is gone for good. ${code('/swarm create')} makes a new one.`
      : line`The machine ${code(vmId)} (${own(providerName(provider))}), its disk and its checkpoints no longer exist as of ${own(moment(goneAt))}.`,
  },
  ...attemptBlocks(attempts, times),
  ...rescuedBlocks(history, runner?.host ?? null),
  ...waitingBlocks(waiting),
  ...historyBlocks(history),
]

export const statusComment = (view: StatusView): Rendered => {
  const { environment, goneAt } = view.known
  return rendered(times => (goneAt === null ? existing(view, times) : gone(view, environment, goneAt, times)))
}

/** What remains of the status comment on a pull request that is not about the ticket any more. */
export const unlinkedComment = (ticket: Ticket): Rendered =>
  rendered(() => [
    { heading: own(`${ticket}: not linked to this pull request`) },
    {
      line: own(
        `Nothing that happens here changes the machine of ${ticket}. A pull request is about the first key in its branch, or else in its title, of a project that its repository serves. Its description names no ticket, and neither do branches of bots, of reverts and of the merge queue.`,
      ),
    },
  ])
