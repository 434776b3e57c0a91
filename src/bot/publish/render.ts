/** What people read: replies, the status comment, and what is told in Jira. Pure. What is ours and what is outside text: text.ts. */
import { createHash } from 'node:crypto'
import { isIP } from 'node:net'
import { commandsFor } from '../../../handlers/slash-commands.ts'
import type { Ticket } from '../../domain.ts'
import type { Action, CommentRef, Requester } from '../../schema/action.ts'
import type { Checkpoint, Environment, UnsavedWork } from '../../schema/environment.ts'
import type { Failure } from '../../schema/failure.ts'
import type { Outcome } from '../../schema/outcome.ts'
import type { ActionRow } from '../../store/port.ts'
import type { HeardCommand } from '../../store/sqlite/commands.ts'
import type { Mirrored } from '../../store/sqlite/environments.ts'
import type { Operation } from '../../store/sqlite/operations.ts'
import type { PullRequestLink } from '../../store/sqlite/pull-requests.ts'
import type { KnownRunner } from '../../store/sqlite/runners.ts'
import { type Block, code, type Line, line, markdown, own, strong } from './text.ts'

const CHECKPOINTS_SHOWN = 20

// ── Words ──

/** `2026-11-24 09:45:10 UTC`. A runner's clock and words are its own: what is no time is said so. */
const moment = (at: number | string): string => {
  const date = new Date(at)
  return Number.isNaN(date.getTime())
    ? 'at a time that is not known'
    : `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`
}
const duration = (seconds: number): string => {
  if (seconds < 0.1) return 'less than 0.1 s'
  if (seconds < 90) return `${Math.round(seconds * 10) / 10} s`
  const whole = Math.round(seconds)
  return whole < 90 * 60
    ? `${Math.floor(whole / 60)} min ${whole % 60} s`
    : `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}
const size = (bytes: number): string => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10))
  return `${Math.round((bytes / 1024 ** power) * 10) / 10} ${units[power]}`
}

/** An action as the command that it is. */
export const words = (action: Action): string => {
  if (action.kind === 'status') return action.about ?? 'status'
  if (action.kind === 'delete') return action.force ? 'delete --force' : 'delete'
  return 'name' in action && action.name !== null ? `${action.kind} ${action.name}` : action.kind
}
const places = { github: 'on GitHub', jira: 'in Jira', cli: 'by the CLI', clock: 'by the clock' } satisfies Record<
  Requester['via'],
  string
>
const askedBy = ({ via, who }: Requester): Line => own(places[via]).concat(who === null ? [] : line` by ${code(who)}`)

const provider = (name: Environment['provider']) => (name === 'synthetic' ? 'synthetic: no real machine' : name)

const joined = (parts: readonly Line[], by: string): Line =>
  parts.flatMap((part, n) => (n === 0 ? part : [{ ours: by }, ...part]))

/** So many repositories are named; of more, only how many: a comment has its limit. */
const NAMED = 10
const riskOf = (work: UnsavedWork): Line => {
  if (!work.known) return line`not known: ${work.reason}`
  if (work.repositories.length === 0) return own('none')
  const more = work.repositories.length - NAMED
  const found = work.repositories.slice(0, NAMED).map(one => {
    const counts = [
      [one.uncommitted, 'uncommitted'],
      [one.untracked, 'untracked'],
      [one.stashes, 'stashed'],
      [one.unpushed, 'unpushed'],
    ] as const
    return line`${code(one.path)}: ${own(counts.flatMap(([n, what]) => (n === 0 ? [] : [`${n} ${what}`])).join(', '))}`
  })
  return joined(
    [...found, ...(more > 0 ? [line`${more} more ${own(more === 1 ? 'repository' : 'repositories')}`] : [])],
    '; ',
  )
}

/**
 * What is pasted on the runner's machine to log in, held to the machine's own key as agent-swarm holds itself to it. Both
 * keys lie in the runner's home: here as its default has it. Null where an address is none that can be pasted.
 */
const sshCommand = ({ vmId, ssh }: Pick<Environment, 'vmId' | 'ssh'>): string | null => {
  if (ssh === null || (isIP(ssh.host) === 0 && ssh.host !== 'localhost') || !/^[a-z_][a-z0-9_-]*$/.test(ssh.user))
    return null
  const keys = '~/.agent-swarm/ssh'
  const pin = `-o HostKeyAlias=${vmId} -o UserKnownHostsFile=${keys}/${vmId}.known_hosts -o StrictHostKeyChecking=yes`
  const port = ssh.port === 22 ? '' : `-p ${ssh.port} `
  return `ssh -i ${keys}/login/key -o IdentitiesOnly=yes ${pin} ${port}${ssh.user}@${ssh.host}`
}

/** How a running machine is entered. `host`: the runner's machine, when it is known. */
const entering = (environment: Environment, host: string | null): Line => {
  const where = host === null ? own("on the runner's machine") : line`on the runner's machine (${code(host)})`
  const command = sshCommand(environment)
  const from = command === null ? [] : line`, or ${code(command)} from there`
  return line`${code(`agent-swarm ssh ${environment.ticket}`)} ${where}${from}`
}

// ── Rendering ──

/** What changes with the time alone: left out of the fingerprint. */
type Clock = {
  at: (time: number | string) => string
  /** Since `from` (epoch ms) until now; told anew once a minute. */
  soFar: (from: number, now: number) => string
}
export type Rendered = {
  blocks: Block[]
  /** The same as long as a reader learns nothing new: what was looked at again, with the same result, does not count. */
  fingerprint: string
}
const rendered = (build: (clock: Clock) => Block[]): Rendered => ({
  blocks: build({ at: moment, soFar: (from, now) => duration(Math.max(0, Math.round((now - from) / 1000))) }),
  fingerprint: createHash('sha256')
    .update(
      JSON.stringify(
        build({ at: () => '', soFar: (from, now) => String(Math.floor(Math.max(0, now - from) / 60_000)) }),
      ),
    )
    .digest('hex'),
})

/** First line of a comment of ours on GitHub, by which it is found again. */
const MARK = '<!-- agent-swarm:'
export const isMarked = (body: string): boolean => body.startsWith(MARK)
export const statusMarker = (ticket: Ticket): string => `${MARK}status:${ticket} -->`
export const replyMarker = (commentId: number): string => `${MARK}reply:${commentId} -->`
export const commentBody = (marker: string, { blocks }: Rendered): string => `${marker}\n${markdown(blocks)}\n`

/** In the minutes of grace after a merge. */
const inGrace = (deletedAt: number | null): Block[] =>
  deletedAt === null
    ? []
    : [
        {
          line: line`Its pull request is merged: it will be deleted at ${own(moment(deletedAt))}. ${code('/swarm start')} keeps it.`,
        },
      ]
/** Where the work is that a delete saved. */
const BRING_BACK = '`rescued.json` there has the commands that bring it back.'

// ── Status comment ──

const checkpointRow = ({ name, why, commit, createdAt, withMemory, sizeBytes }: Checkpoint): Line[] => [
  [code(name)],
  line`${own(why)}${commit === null ? '' : line` of ${code(commit.slice(0, 7))}`}${own(withMemory ? ', with memory' : '')}`,
  own(moment(createdAt)),
  own(sizeBytes === null || sizeBytes === undefined ? '' : size(sizeBytes)),
]

const checkpointBlocks = ({ checkpoints, observedAt }: Environment, { at }: Clock): Block[] => {
  if (checkpoints.length === 0) return [{ line: own('No checkpoints yet: `/swarm checkpoint [name]` makes one.') }]
  const newest = checkpoints.toReversed().slice(0, CHECKPOINTS_SHOWN)
  const more = checkpoints.length - newest.length
  return [
    { line: line`Checkpoints, as seen ${own(at(observedAt))}:` },
    { table: [['checkpoint', 'why', 'made', 'size'].map(own), ...newest.map(checkpointRow)] },
    ...(more > 0 ? [{ line: line`${more} older ones are not shown.` }] : []),
  ]
}

const operationLine = ({ what, by, at, result, said, seconds }: Operation): Line => {
  const came = {
    done: () => line`done in ${own(duration(seconds ?? 0))}`,
    failed: () => line`failed: ${code(said ?? '')}`,
    refused: () => line`refused: ${said ?? ''}`,
  }[result]()
  return line`${own(moment(at))}: ${code(what)}, asked for ${askedBy(by)}: ${came}`
}
/** Newest first. */
const operationBlocks = (operations: readonly Operation[]): Block[] =>
  operations.length === 0 ? [] : [{ line: own('What was asked for last:') }, { list: operations.map(operationLine) }]

export type StatusView = {
  ticket: Ticket
  mirrored: Mirrored
  /** The runner that has it; null when it was not heard yet. */
  runner: KnownRunner | null
  /** What was done or refused last, newest first. */
  operations: readonly Operation[]
  /** When it shall be deleted, the pull request being merged. Epoch ms; null: nothing of the kind is planned. */
  deletedAt: number | null
  /** What is wrong with the rules of the repository that the comment stands in. */
  ruleProblems: readonly string[]
}

export const statusComment = ({
  ticket,
  mirrored,
  runner,
  operations,
  deletedAt,
  ruleProblems,
}: StatusView): Rendered => {
  const { environment, goneAt } = mirrored
  const { status, createdAt, createdBy, baseImage, unsavedWork } = environment
  const where = runner === null ? [] : line` (${code(runner.host)})`
  // What the delete saved first.
  const kept = operations.slice(0, 1).flatMap(({ result, said }) => (result === 'done' && said !== null ? [said] : []))
  const rows = ({ at }: Clock): [string, Line][] => [
    ['State', line`${strong(status)}, as seen ${own(at(environment.observedAt))}`],
    ...(status === 'running' ? [['Log in', entering(environment, runner?.host ?? null)] as [string, Line]] : []),
    ...(runner === null
      ? []
      : [['Runner', line`${code(runner.host)}, last heard ${own(at(runner.seenAt))}`] as [string, Line]]),
    ['Provider', own(provider(environment.provider))],
    [
      'Machine',
      line`${code(environment.vmId)}, made ${own(moment(createdAt))} from ${code(baseImage)}, asked for ${askedBy(createdBy)}`,
    ],
    ...(unsavedWork === null ? [] : [['Work only there', riskOf(unsavedWork)] as [string, Line]]),
  ]
  return rendered(clock =>
    goneAt === null
      ? [
          { heading: line`${own(ticket)}: ${own(status)}` },
          { table: [[[], []], ...rows(clock).map(([name, value]) => [own(name), value])] },
          ...(runner === null || runner.connected
            ? []
            : [
                {
                  line: line`The runner on ${code(runner.host)} does not answer: this is how things were when it was last heard.`,
                },
              ]),
          ...inGrace(deletedAt),
          ...checkpointBlocks(environment, clock),
          ...operationBlocks(operations),
          ...(ruleProblems.length === 0
            ? []
            : [
                {
                  line: own(
                    'The rules of this repository have mistakes. What held before holds on, until they are right:',
                  ),
                },
                { listing: ruleProblems.join('\n') },
              ]),
          { small: own('Kept up to date by agent-swarm. `/swarm help` lists the commands.') },
        ]
      : [
          { heading: line`${own(ticket)}: deleted` },
          {
            line: line`The machine ${code(environment.vmId)} (${own(provider(environment.provider))}) is gone since ${own(moment(goneAt))}, with its disk and its checkpoints.`,
          },
          ...kept.map(said => ({ line: line`On its runner's machine${where}: ${said}. ${own(BRING_BACK)}` })),
          ...operationBlocks(operations),
        ],
  )
}

// ── Reply to commands ──

export type ReplyView = {
  command: HeardCommand
  /** Its action in the queue, when it is still known there. */
  row: ActionRow | null
  /** The ticket's actions before it that are not done, oldest first. */
  ahead: readonly ActionRow[]
  /** The runner that its ticket is pinned to, or null when any may take it. */
  pinned: KnownRunner | null
  anyRunner: boolean
  /** The environment as it was told last, and its runner's machine. */
  known: Environment | null
  host: string | null
  /** As in the status comment. */
  deletedAt: number | null
  /** Epoch ms: what is said of something that goes on says when. */
  now: number
}

const ready = (environment: Environment, host: string | null): Block => {
  const { status } = environment
  if (status === 'running') return { line: line`Log in with ${entering(environment, host)}.` }
  return { line: line`It is ${own(status)}${own(status === 'stopped' ? ': `/swarm start` starts it' : '')}.` }
}

const atRisk = ({ unsavedWork }: Environment): Block[] =>
  unsavedWork === null ? [] : [{ line: line`Work only there, when it was looked for last: ${riskOf(unsavedWork)}.` }]

/** What a question is answered with: the part that was asked for, and how old it is. */
const facts = (
  about: 'checkpoints' | 'ssh' | 'all',
  environment: Environment,
  { host, deletedAt }: Pick<ReplyView, 'host' | 'deletedAt'>,
  clock: Clock,
) => {
  const { ticket, status, ssh, observedAt } = environment
  const address = ssh === null || status !== 'running' ? [] : line` Its SSH is at ${code(`${ssh.host}:${ssh.port}`)}.`
  const state = (): Block[] => [
    { line: line`${own(ticket)} is ${own(status)}, as seen ${own(clock.at(observedAt))}.${address}` },
    ...(status === 'running' || status === 'stopped' ? [ready(environment, host)] : []),
    ...inGrace(deletedAt),
    ...atRisk(environment),
  ]
  const checkpoints = () => checkpointBlocks(environment, clock)
  return { ssh: state, checkpoints, all: () => [...state(), ...checkpoints()] }[about]()
}

const done = (
  view: ReplyView,
  action: Action,
  { environment, summary, seconds, rescued }: Extract<Outcome, { result: 'done' }>,
  clock: Clock,
): Block[] => {
  const { command, host } = view
  const readiness = () => (environment === null ? [] : [ready(environment, host)])
  const after = {
    create: readiness,
    start: readiness,
    stop: () => [
      { line: own('`/swarm start` goes on from there.') },
      ...(environment === null ? [] : atRisk(environment)),
    ],
    checkpoint: () => {
      // Without a name it got one.
      const name = (action.kind === 'checkpoint' ? action.name : null) ?? environment?.checkpoints.at(-1)?.name
      return name === undefined ? [] : [{ line: line`${code(`/swarm restore ${name}`)} brings it back.` }]
    },
    restore: readiness,
    'delete-checkpoint': () => [],
    delete: () => [{ line: own(rescued === undefined ? 'That cannot be taken back.' : BRING_BACK) }],
    status: () =>
      environment !== null && action.kind === 'status'
        ? facts(action.about ?? 'all', environment, view, clock)
        : [{ line: line`${summary}. ${own('`/swarm create` makes its machine.')}` }],
  } satisfies Record<Action['kind'], () => Block[]>
  const blocks = after[action.kind]()
  // The answer to a question needs no word about the asking.
  if (action.kind === 'status' && blocks.length > 0) return blocks
  const whole = command.endedAt === null ? 0 : Math.round((command.endedAt - command.at) / 1000)
  const waited = whole > seconds + 5 ? line` (${own(duration(whole))} with the wait)` : []
  return [{ line: line`${summary}. It took ${own(duration(seconds))}${waited}.` }, ...blocks]
}

/** What helps from where it is read: a remedy tells it for the runner's machine, and commands in it are broken. */
const HERE: Partial<Record<Failure['kind'], string>> = {
  'no-such-environment': 'Here: `/swarm create` makes its machine.',
  'unsaved-work': 'Here: `/swarm start` to look after it, or `/swarm delete --force`, which saves nothing.',
}
const failed = ({ kind, message, remedy }: Failure): Block[] => {
  const here = HERE[kind]
  return [
    { line: own('It failed:') },
    { listing: message },
    ...(remedy === null ? [] : [{ line: line`What helps: ${remedy}` }]),
    ...(here === undefined ? [] : [{ line: own(here) }]),
  ]
}

/** What an action is at, or waits for. */
const under = ({ action, state, progress }: ActionRow): Line => {
  if (state !== 'active') return line`${code(words(action))}, which waits too`
  return progress === null
    ? line`${code(words(action))}, which is under way`
    : line`${code(words(action))}, which is under way (${code(progress.phase)} since ${own(moment(progress.at))})`
}

const waiting = ({ command, row, ahead, pinned, anyRunner, now }: ReplyView, { at, soFar }: Clock): Line => {
  if (row === null) return own('It is no longer in the queue. Ask again if it is still wanted.')
  if (row.state === 'cancelled') return own('It was cancelled before it began.')
  if (row.state === 'active') {
    const phase = row.progress === null ? [] : line`: ${code(row.progress.phase)} since ${own(moment(row.progress.at))}`
    return line`It is under way${phase} (${own(at(now))}, ${own(soFar(command.at, now))} after it was heard).`
  }
  const asOf = line` (${own(at(now))})`
  const [next] = ahead
  if (next?.state !== 'active' && pinned !== null && !pinned.connected)
    return line`It waits for the runner on ${code(pinned.host)}, which has this machine and does not answer. It begins when that runner is back.${asOf}`
  if (next?.state !== 'active' && !anyRunner)
    return line`It waits: no runner is connected. It begins when one is (${code('agent-swarm runner')}).${asOf}`
  if (next !== undefined) {
    const more = ahead.length === 1 ? [] : line`, and ${ahead.length - 1} more of ${own(row.action.ticket)}`
    return line`It waits for ${under(next)}${more}.${asOf}`
  }
  if (row.notBefore > now)
    return line`It did not work yet (tried ${own(row.attempt === 1 ? 'once' : `${row.attempt} times`)}), and is tried again at ${own(moment(row.notBefore))}.${asOf}`
  return line`It is the next: a runner takes it as soon as it has room.${asOf}`
}

/** The commands of the place, as a table. */
const help = (place: 'github' | 'jira'): Block[] => [
  { line: own('Commands, each on a line of its own:') },
  {
    table: [
      ['Command', 'What it does', 'Example'].map(own),
      ...commandsFor(place).map(({ usage, summary, example }) => [
        [code(`/swarm ${usage}`)],
        own(summary),
        [code(example)],
      ]),
    ],
  },
]

const answer = (view: ReplyView, place: 'github' | 'jira', clock: Clock): Block[] => {
  const { action, outcome, said } = view.command
  if (said !== null) return said.text === '' ? [] : [{ line: own(said.text) }]
  if (action === null) return []
  const title: Block = { line: [code(`/swarm ${words(action)}`)] }
  const keeps = action.cancelsDelete === true && action.kind !== 'delete'
  const calledOff = keeps ? [{ line: own('The delete that was to follow the merge is called off.') }] : []
  if (outcome === null) {
    const { known } = view
    const lastKnown =
      action.kind === 'status' && known !== null
        ? [{ line: own('Until then, what was told last:') }, ...facts(action.about ?? 'all', known, view, clock)]
        : []
    // Jira has no reactions.
    const heard = place === 'jira' ? own('Heard. ') : []
    return [title, { line: [...heard, ...waiting(view, clock)] }, ...calledOff, ...lastKnown]
  }
  if (outcome.result === 'failed') return [title, ...failed(outcome.failure)]
  const came =
    outcome.result === 'done' ? done(view, action, outcome, clock) : [{ line: line`Nothing to do: ${outcome.reason}.` }]
  return [title, ...came, ...calledOff]
}

/** One comment that answers all the commands of another. */
export const replyTo = (comment: CommentRef, views: readonly ReplyView[]): Rendered => {
  const onGitHub = 'repo' in comment
  const place = onGitHub ? 'github' : 'jira'
  const helps = views.some(one => one.command.said?.help === true)
  return rendered(clock => {
    const answers = views.map(view => answer(view, place, clock)).filter(one => one.length > 0)
    // However many ask for it, or need it, the list is long enough once.
    const parts = helps ? [...answers, help(place)] : answers
    return [
      // On GitHub a hidden marker says so.
      ...(onGitHub ? [] : [{ line: own(answerTo(comment.commentId)) }]),
      ...parts.flatMap((part, n): Block[] => [...(n === 0 ? [] : [{ rule: true } as const]), ...part]),
    ]
  })
}

// ── Jira ──

/** First line of our answer in Jira, by which it is found again. */
export const answerTo = (commentId: string): string => `Answer to comment ${commentId}:`

/** What is told in Jira when a machine is ready. Lines that are indented are shown as code. */
export const readyText = (environment: Environment, host: string | null): string => {
  const { ticket, vmId } = environment
  const command = sshCommand(environment)
  return [
    `${ticket} has its machine: ${vmId} (${provider(environment.provider)}). On the runner's machine${host === null ? '' : ` (${host})`}:`,
    `    agent-swarm ssh ${ticket}`,
    ...(command === null ? [] : [`    ${command}`]),
  ].join('\n')
}
/** What is told in Jira when a machine was deleted that held work. */
export const keptText = (ticket: Ticket, kept: string): string =>
  [
    `The machine of ${ticket} is deleted. Where it ran, on its runner's machine:`,
    `    ${kept}`,
    BRING_BACK.replaceAll('`', ''),
  ].join('\n')
export const failedText = (action: Action, { message, remedy }: Failure): string =>
  [
    `${words(action)} of ${action.ticket} failed, and needs somebody to look at it:`,
    ...message.split(/\r\n|\r|\n/).map(one => `    ${one}`),
    ...(remedy === null ? [] : [`What helps: ${remedy}`]),
  ].join('\n')

/** A pull request as Jira shows it beside the ticket. */
export const remoteLink = ({ repo, number, branch, state }: PullRequestLink, webUrl: string) => ({
  // Jira keeps one link of an id, and changes it when it comes again.
  globalId: `agent-swarm:${webUrl}/${repo}/pull/${number}`.slice(0, 255),
  relationship: 'pull request',
  object: {
    url: `${webUrl}/${repo}/pull/${number}`,
    title: `${repo}#${number}`,
    summary: `${branch} (${state})`.slice(0, 250),
    status: { resolved: state !== 'open' },
  },
})
