/** What the bot writes in Jira without a command: notes on a ticket, and links to its pull requests. Pure. */
import { projectOf, type Ticket } from '../../domain.ts'
import type { PullRequestRef } from '../../schema/action.ts'
import type { ActionRow, JiraNote, PullRequestLink } from '../../store/port.ts'
import { projectBlocks } from './agent-words.ts'
import { type Block, code, type Line, line, own, plainBlocks } from './text.ts'
import { type WaitingView, waitingLine } from './waiting.ts'
import {
  commandOf,
  idleSleep,
  idleWarning,
  interruptionLine,
  moment,
  providerName,
  RESCUED_THERE,
  RESTORE_RESCUED,
  type Rendered,
  remedyLine,
  rendered,
  requestedBy,
  runnersHost,
  sshCommand,
  staysLine,
  type TimeTexts,
} from './words.ts'

type Note<Kind extends JiraNote['kind']> = Extract<JiraNote, { kind: Kind }>

const ready = ({ environment, host, without = [] }: Note<'ready'>, times: TimeTexts): Block[] => {
  const { ticket, vmId, provider, createdBy } = environment
  const command = sshCommand(environment)
  return [
    {
      line: line`${own(ticket)} has a machine: ${code(vmId)} (${own(providerName(provider))}; ${requestedBy(createdBy)}). Log in ${runnersHost(host)}:`,
    },
    { listing: [`agent-swarm ssh ${ticket}`, ...(command === null ? [] : [command])].join('\n') },
    ...projectBlocks(environment, times),
    ...without.map((text): Block => ({ line: own(text) })),
  ]
}
const failed = ({ action, failure }: Note<'failed'>): Block[] => [
  {
    line: line`${code(commandOf(action))} of ${own(action.ticket)} (${requestedBy(action.by)}) failed and needs attention:`,
  },
  { listing: failure.message },
  ...(failure.remedy === null ? [] : [{ line: line`What to do: ${remedyLine(failure.remedy, action.ticket)}` }]),
]
const deleted = ({ action, rescued }: Note<'deleted'>): Block[] => {
  const what = line`The machine of ${own(action.ticket)}, its disk and its checkpoints were deleted (${requestedBy(action.by)}).`
  if (rescued !== null)
    return [
      { line: line`${what} Its unsaved work was rescued on the runner's host:` },
      { listing: rescued },
      { line: own(RESTORE_RESCUED) },
    ]
  const work = action.force ? 'Unsaved work was not looked for (`--force`).' : 'There was no unsaved work.'
  return [{ line: line`${what} ${own(work)}` }]
}
const promoted = ({ action, summary, open, rescued }: Note<'promoted'>): Block[] => [
  { line: line`${code(commandOf(action))} (${requestedBy(action.by)}): ${summary}.${staysLine(open)}` },
  ...(rescued === null ? [] : [{ line: own(RESCUED_THERE) }]),
]
const rescued = ({ ticket, rescued }: Note<'rescued'>): Block[] => [
  { line: own(`The machine of ${ticket} was deleted. Rescued on the runner's host:`) },
  { listing: rescued },
  { line: own(RESTORE_RESCUED) },
]

/** `ticket`: the key that the issue has now. */
const notMoved = (ticket: Ticket, { from, reason }: Note<'not-moved'>): Block[] => {
  const why = {
    'project-not-served': `${projectOf(ticket)} is not served here, so the machine of ${from} did not move with it.`,
    'two-machines': `${ticket} has a machine of its own, so the machine of ${from} keeps its old key.`,
  }[reason]
  return [{ line: own(`${why} It will be stopped and kept; \`agent-swarm list\` shows it.`) }]
}

const lost = (ticket: Ticket, { vmId, provider, ending }: Note<'lost'>): Block[] => [
  {
    line: line`The machine of ${own(ticket)}, ${code(vmId)} (${own(providerName(provider))}), no longer exists, and agent-swarm did not delete it${ending === undefined ? [] : line` (${ending})`}.`,
  },
  {
    line: own(
      '`/swarm create` makes it again from its disk if that is left, or else a new one. `/swarm delete` gives it up; unsaved work on a disk that is left is saved first.',
    ),
  },
]
const paused = (ticket: Ticket, { reason }: Note<'paused'>): Block[] => [
  {
    line: line`The machine of ${own(ticket)} is paused: ${reason}. One that ran out of disk space goes on by itself when there is room again. What a person paused stays paused until ${code('/swarm start')}.`,
  },
]

const runnerGone = (ticket: Ticket, { host, machine, ended }: Note<'runner-gone'>): Block[] => [
  {
    line:
      machine === null
        ? line`The runner on ${host}, which was to work on ${own(ticket)}, is gone for good, according to an operator.`
        : line`The machine of ${own(ticket)}, ${code(machine.vmId)} (${own(providerName(machine.provider))}), is out of reach: the runner on ${host} is gone for good, according to an operator.`,
  },
  ...(ended.length === 0 ? [] : [{ line: own(`Not done: ${ended.map(kind => `\`${kind}\``).join(', ')}.`) }]),
  { line: own('`/swarm create` makes a new machine. Work that was not pushed is on the old one alone.') },
]

const idle = (ticket: Ticket, { idle }: Note<'idle'>): Block[] => {
  const since = (at: string | null): Line => (at === null ? [] : line` since ${own(moment(at))}`)
  if (idle.state === 'warned') return [{ line: idleWarning(ticket, idle) }]
  if (idle.state === 'awake')
    return [{ line: line`The machine of ${own(ticket)} is awake again. It slept${since(idle.at)}.` }]
  return [{ line: line`The machine of ${own(ticket)} sleeps${since(idle.at)}: ${idleSleep(idle.state)}` }]
}

const interruption = (ticket: Ticket, { interruption: told }: Note<'interruption'>): Block[] => [
  {
    line:
      told.state === 'over'
        ? line`${told.by} has started the machine of ${own(ticket)} again.`
        : interruptionLine(ticket, told),
  },
]

const FILE = '`.github/agent-swarm.yml`'
/** Why a move into progress made no machine, and the way to one. */
const noMachine = (ticket: Ticket, { why }: Note<'no-machine'>): Block[] => {
  const text = {
    'not-served': `the rules of its repository (${FILE}) do not serve ${projectOf(ticket)}.`,
    'assigned-to-nobody': 'it is assigned to nobody. Assign it to yourself, and it gets one.',
    'assigned-to-other': 'it is assigned to somebody whose tickets get none. Assign it to yourself, and it gets one.',
    'assignee-not-in-rules': `the rules of its repository (${FILE}) give machines only to tickets of other people.`,
    ended:
      'its last machine was deleted, or its pull request was merged, and the ticket was not back in the backlog since. Move it to the backlog and back, or comment `/swarm create`.',
    'deleted-later': 'somebody deleted it after the move. `/swarm create` makes one.',
    'closed-later': 'its pull request was closed after the move. `/swarm create` makes one.',
    unreadable:
      'the rules of its repository, or its pull requests, cannot be read now. The bot tries again for a day; its inbox (`agent-swarm bot inbox`) shows the error.',
  }[why]
  return [{ line: own(`${ticket} got no machine${why === 'unreadable' ? ' yet' : ''}: ${text}`) }]
}

const blocksOf = (ticket: Ticket, note: JiraNote, times: TimeTexts): Block[] => {
  switch (note.kind) {
    case 'ready':
      return ready(note, times)
    case 'failed':
      return failed(note)
    case 'deleted':
      return deleted(note)
    case 'promoted':
      return promoted(note)
    case 'rescued':
      return rescued(note)
    case 'not-moved':
      return notMoved(ticket, note)
    case 'no-machine':
      return noMachine(ticket, note)
    case 'lost':
      return lost(ticket, note)
    case 'paused':
      return paused(ticket, note)
    case 'runner-gone':
      return runnerGone(ticket, note)
    case 'idle':
      return idle(ticket, note)
    case 'interruption':
      return interruption(ticket, note)
    case 'text':
      return plainBlocks(note.text)
  }
}
/** `ticket`: where the note is posted. */
export const jiraNote = (ticket: Ticket, note: JiraNote): Rendered => rendered(times => blocksOf(ticket, note, times))

/** Begins the comment about an action that waits, by which it is found again. */
export const waitingLead = ({ action, createdAt }: ActionRow): string =>
  `${commandOf(action)} of ${action.ticket}, queued at ${moment(createdAt)}:`

const afterWaiting = ({ action, state, outcome }: ActionRow): Line => {
  if (state === 'cancelled') return own('cancelled before it started.')
  if (outcome?.result === 'failed') return line`it waited, and failed: ${outcome.failure.message}`
  if (outcome?.result === 'skipped') return line`it waited. Nothing to do: ${outcome.reason}.`
  if (outcome?.result === 'done') return own(`it waited, and is done.`)
  return state === 'active' ? own('it waited, and is in progress.') : line`${own(action.kind)} is over.`
}
/** `wait` null: it waits no longer. */
export const waitingNote = (row: ActionRow, wait: WaitingView | null): Rendered =>
  rendered(({ at }) => [
    { line: own(waitingLead(row)) },
    {
      line:
        wait === null
          ? line`${requestedBy(row.action.by)}: ${afterWaiting(row)}`
          : line`${requestedBy(row.action.by)}: ${waitingLine(wait)} (${own(at(wait.now))})`,
    },
  ])

/** By which Jira finds the link to a pull request. */
export const linkId = ({ repo, number }: PullRequestRef, webUrl: string): string =>
  `agent-swarm:${webUrl}/${repo}/pull/${number}`.slice(0, 255)
/** A pull request as Jira shows it beside the ticket. `webUrl`: GitHub's, for people. */
export const remoteLink = ({ repo, number, branch, state }: PullRequestLink, webUrl: string) => ({
  // Jira keeps one link of each id: the same id again updates it.
  globalId: linkId({ repo, number }, webUrl),
  relationship: 'pull request',
  object: {
    url: `${webUrl}/${repo}/pull/${number}`,
    title: `${repo}#${number}`,
    summary: `${branch} (${state})`.slice(0, 250),
    status: { resolved: state !== 'open' },
  },
})
