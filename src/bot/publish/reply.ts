/** The reply to the commands of one comment. Pure. */
import { commandsFor } from '../../../handlers/slash-commands.ts'
import { attemptOf } from '../../domain.ts'
import { type Action, type CommentRef, lacksOf } from '../../schema/action.ts'
import type { Environment } from '../../schema/environment.ts'
import type { Failure } from '../../schema/failure.ts'
import type { Outcome } from '../../schema/outcome.ts'
import type { ActionRow, Request } from '../../store/port.ts'
import { projectBlocks } from './agent-words.ts'
import { type Block, code, type Line, line, link, own } from './text.ts'
import { slowLine, type WaitingView, waitingLine } from './waiting.ts'
import {
  checkpointBlocks,
  commandOf,
  duration,
  graceBlocks,
  idleSleep,
  type Links,
  loginLine,
  moment,
  personOf,
  RESCUED_THERE,
  RESTORE_RESCUED,
  type Rendered,
  remedyLine,
  rendered,
  type TimeTexts,
  unsavedWorkLine,
} from './words.ts'

/** A command of the comment, with what its answer needs. */
export type ReplyView = Omit<WaitingView, 'row'> & {
  request: Request
  /** Its action in the queue; null when it has none or it is no longer there. */
  row: ActionRow | null
  /** The host of the runner that has the environment. */
  host: string | null
  /** When a merge's delete is due, epoch ms; null when none is scheduled. */
  deleteAt: number | null
  links: Links
  /** Why the ticket's last change in Jira made no machine, and when that was (epoch ms); null when it needed none or made one. */
  noMachine: { at: number; reason: string } | null
}
type Side = 'github' | 'jira'

// ── While it waits or runs ──

const progressLine = (view: ReplyView, { at, elapsed }: TimeTexts): Line => {
  const { request, row, now } = view
  if (row === null) return own('The command is no longer in the queue. Repeat it if you still need it.')
  if (row.state === 'cancelled') return own('Cancelled before it started.')
  if (row.state !== 'active') return line`${waitingLine({ ...view, row })} (${own(at(now))})`
  const phase = row.progress === null ? [] : line`: ${code(row.progress.phase)} since ${own(moment(row.progress.at))}`
  return line`In progress${phase} (${own(at(now))}, ${own(elapsed(request.at, now))} after the command).${slowLine(row)}`
}

// ── When it has ended ──

const unsavedWorkBlocks = ({ unsavedWork }: Environment): Block[] =>
  unsavedWork === null ? [] : [{ line: line`Unsaved work at the last check: ${unsavedWorkLine(unsavedWork)}.` }]

const accessBlock = (environment: Environment, host: string | null): Block => {
  const { status } = environment
  if (status === 'running') return { line: line`Log in with ${loginLine(environment, host)}.` }
  const { idle } = environment
  if (idle !== undefined && idle.state !== 'warned') return { line: line`It sleeps: ${idleSleep(idle.state)}` }
  return { line: own(status === 'stopped' ? 'It is stopped. `/swarm start` starts it.' : `It is ${status}.`) }
}

/** The answer to a question: the part that was asked for, with its age. */
const statusBlocks = (
  about: 'checkpoints' | 'ssh' | 'logs' | 'all',
  environment: Environment,
  { host, deleteAt, links }: Pick<ReplyView, 'host' | 'deleteAt' | 'links'>,
  times: TimeTexts,
): Block[] => {
  const { ticket, status, ssh, observedAt } = environment
  const address =
    ssh === null || status !== 'running' ? [] : line` Its SSH address is ${code(`${ssh.host}:${ssh.port}`)}.`
  const state = (): Block[] => [
    { line: line`${own(ticket)} is ${own(status)} as of ${own(times.at(observedAt))}.${address}` },
    ...(status === 'running' || status === 'stopped' ? [accessBlock(environment, host)] : []),
    ...projectBlocks(environment, times),
    ...graceBlocks(deleteAt),
    ...unsavedWorkBlocks(environment),
  ]
  const gone = line`${own(ticket)} has lost its machine. None of these can be restored now.`
  const checkpoints = () => [
    ...(about === 'checkpoints' && status === 'lost' ? [{ line: gone }] : []),
    ...checkpointBlocks(environment, times, links),
  ]
  // The log itself comes with the outcome.
  return { ssh: state, logs: state, checkpoints, all: () => [...state(), ...checkpoints()] }[about]()
}

type Done = Extract<Outcome, { result: 'done' }>
const forkBlocks = ({ attempts = [] }: Done): Block[] => {
  const [first] = attempts
  if (first === undefined) return []
  return [
    {
      list: attempts.map(({ ticket, branch }) =>
        branch === null ? [code(ticket)] : line`${code(ticket)} on the branch ${code(branch)}`,
      ),
    },
    {
      line: line`Log in: ${code(`agent-swarm ssh ${first.ticket}`)}. Keep one: ${code(`/swarm promote ${attemptOf(first.ticket)}`)}.`,
    },
  ]
}
/** What to do next, by kind of action. */
const nextSteps = (action: Action, outcome: Done, host: string | null): Block[] => {
  const { environment, rescued } = outcome
  const access = environment === null ? [] : [accessBlock(environment, host)]
  if (action.kind === 'stop')
    return [
      { line: own('`/swarm start` starts it again.') },
      ...(environment === null ? [] : unsavedWorkBlocks(environment)),
    ]
  if (action.kind === 'checkpoint') {
    // Without a name, the runner chose one.
    const name = action.name ?? environment?.checkpoints.at(-1)?.name
    return name === undefined ? [] : [{ line: line`${code(`/swarm restore ${name}`)} restores it.` }]
  }
  if (action.kind === 'delete')
    return [{ line: own(rescued === undefined ? 'This cannot be undone.' : RESTORE_RESCUED) }]
  if (action.kind === 'fork') return forkBlocks(outcome)
  if (action.kind === 'promote')
    return [
      { line: own(rescued === undefined ? 'The deletes cannot be undone.' : RESCUED_THERE) },
      // The summary says how to start it.
      ...(environment?.status === 'running' ? access : []),
    ]
  if (action.kind === 'restore') return [{ line: own('Pushed commits and sent messages are not undone.') }, ...access]
  return action.kind === 'delete-checkpoint' ? [] : access
}

const logBlocks = ({ replyTo }: Action, log: string): Block[] => [
  ...(log.trim() === '' ? [{ line: own('The logs are empty.') }] : [{ log }]),
  ...(replyTo !== null && 'repo' in replyTo
    ? [{ small: own('Everybody who can see this pull request can read these lines.') }]
    : []),
]

const doneBlocks = (view: ReplyView, action: Action, outcome: Done, times: TimeTexts): Block[] => {
  const { environment, summary, seconds } = outcome
  if (action.kind === 'status')
    return environment === null
      ? [
          { line: line`${summary}. ${own('`/swarm create` creates its machine.')}` },
          ...(view.noMachine === null
            ? []
            : [{ line: line`It got none in Jira at ${own(moment(view.noMachine.at))}: ${view.noMachine.reason}.` }]),
        ]
      : [
          ...statusBlocks(action.about ?? 'all', environment, view, times),
          ...(outcome.log === undefined ? [] : logBlocks(action, outcome.log)),
        ]
  const { at, ended } = view.request
  const total = ended === null ? 0 : Math.round((ended.at - at) / 1000)
  const waited = total > seconds + 5 ? line` (${own(duration(total))} including the wait)` : []
  return [
    { line: line`${remedyLine(summary, action.ticket)}. It took ${own(duration(seconds))}${waited}.` },
    // A runner may have said it already.
    ...lacksOf(action).flatMap((text): Block[] =>
      summary.includes(text.replace(/\.$/, '')) ? [] : [{ line: own(text) }],
    ),
    ...nextSteps(action, outcome, view.host),
  ]
}

const failedBlocks = ({ message, remedy }: Failure, { ticket }: Action): Block[] => [
  { line: own('Failed:') },
  { listing: message },
  ...(remedy === null ? [] : [{ line: line`What to do: ${remedyLine(remedy, ticket)}` }]),
]

// ── The whole ──

const unfinishedBlocks = (view: ReplyView, action: Action, side: Side, times: TimeTexts): Block[] => {
  const { known } = view
  // Jira has no reactions that would say so.
  const received = side === 'jira' ? own('Received. ') : []
  const lastKnown: Block[] =
    action.kind === 'status' && known !== null
      ? [{ line: own('Until then, the last known state:') }, ...statusBlocks(action.about ?? 'all', known, view, times)]
      : []
  return [{ line: [...received, ...progressLine(view, times)] }, ...lastKnown]
}

/** Who gave the command, for which ticket, and the command as it was written. */
const quoteBlock = ({ request, links }: ReplyView): Block => {
  const { by, ticket, what, action } = request
  const person = personOf(by) ?? own('Somebody')
  const about = ticket === null ? [] : line` on ${link(ticket, links.ticket(ticket))}`
  // Earlier versions recorded the kind of the action alone.
  const command = action === null || /^\/swarm\s/i.test(what) ? what : `/swarm ${commandOf(action)}`
  return { quote: line`${person}${about}: ${code(command)}` }
}

const answerBlocks = (view: ReplyView, side: Side, times: TimeTexts): Block[] => {
  const { action, answer, ended } = view.request
  if (answer !== null) return answer.text === '' ? [] : [quoteBlock(view), { line: own(answer.text) }]
  if (action === null) return []
  const outcome = ended?.outcome ?? null
  const blocks = () => {
    if (outcome === null) return unfinishedBlocks(view, action, side, times)
    if (outcome.result === 'failed') return failedBlocks(outcome.failure, action)
    return outcome.result === 'done'
      ? doneBlocks(view, action, outcome, times)
      : [{ line: line`Nothing to do: ${outcome.reason}.` }]
  }
  const keeps = action.cancelsDelete === true && action.kind !== 'delete' && outcome?.result !== 'failed'
  return [
    quoteBlock(view),
    ...blocks(),
    ...(keeps ? [{ line: own('The delete that was scheduled after the merge is cancelled.') }] : []),
  ]
}

const helpBlocks = (side: Side): Block[] => [
  { line: own('Commands, each on a line of its own:') },
  {
    table: [
      ['Command', 'What it does', 'Example'].map(own),
      ...commandsFor(side).map(({ usage, summary, example }) => [
        [code(`/swarm ${usage}`)],
        own(summary),
        [code(example)],
      ]),
    ],
  },
]

/** First line of a reply in Jira, by which it is found again. Replies of earlier versions have it too. */
export const jiraReplyLine = (commentId: string): string => `Answer to comment ${commentId}:`

/** One comment that answers all commands of another. */
export const replyTo = (comment: CommentRef, views: readonly ReplyView[]): Rendered => {
  // On GitHub a hidden marker names the comment.
  const [side, head]: [Side, Block[]] =
    'repo' in comment ? ['github', []] : ['jira', [{ line: own(jiraReplyLine(comment.commentId)) }]]
  const withHelp = views.some(({ request }) => request.answer?.help === true)
  return rendered(times => {
    const answers = views.map(view => answerBlocks(view, side, times)).filter(blocks => blocks.length > 0)
    // The table comes once, however many commands ask for it.
    const parts = withHelp ? [...answers, helpBlocks(side)] : answers
    return [...head, ...parts.flatMap((part, n): Block[] => [...(n === 0 ? [] : [{ rule: true } as const]), ...part])]
  })
}
