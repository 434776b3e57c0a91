/**
 * What people read: replies and the status comment in GitHub's Markdown, and Jira's document format. Pure. Text that came
 * from outside (a message of a hypervisor, a path in a guest) is shown, never interpreted: no mention, link, HTML or marker
 * can come out of it.
 */
import { createHash } from 'node:crypto'
import type { Action, Checkpoint, Environment, Failure, Outcome, Requester, Ticket, WorkAtRisk } from '../domain.ts'
import type { ActionRow } from '../queue/queue.ts'
import type { HeardCommand, KnownRunner, Mirrored, Operation } from './memory.ts'

/** Longest outside text that is shown. GitHub's limit for a comment is 65,536 characters, Jira's 32,767. */
const LONGEST = 2_000
const CHECKPOINTS_SHOWN = 20

// ── Outside text ──

// Control characters, and those that turn the direction of text around.
const UNSEEN = /[\p{Cc}\p{Cf}]/gu
const shortened = (text: string, most = LONGEST) => (text.length > most ? `${text.slice(0, most)} …` : text)

/** Outside text inside a sentence. */
export const escaped = (text: string): string =>
  shortened(text.replaceAll(/\s+/g, ' ').replaceAll(UNSEEN, '').trim())
    .replaceAll(/[\\`*_{}[\]()<>#|~&$]/g, '\\$&')
    // Bare addresses become links.
    .replaceAll('://', ':\\//')
    .replaceAll(/(www)\./gi, '$1\\.')
    // GitHub looks for mentions in what is shown, so that no backslash helps.
    .replaceAll(/[@#]/g, '$&\u200b')

const fence = (text: string, least: number) => {
  const longest = Math.max(0, ...[...text.matchAll(/`+/g)].map(([run]) => run.length))
  return '`'.repeat(Math.max(least, longest + 1))
}
/** Outside text on one line, as code. A table splits its cells before it sees the code, hence the pipe. */
export const code = (text: string): string => {
  const line = shortened(text.replaceAll(/\s+/g, ' ').replaceAll(UNSEEN, '').trim(), 300).replaceAll('|', '¦')
  if (line === '') return '(empty)'
  const ticks = fence(line, 1)
  const pad = line.startsWith('`') || line.endsWith('`') ? ' ' : ''
  return `${ticks}${pad}${line}${pad}${ticks}`
}
/** Outside text on several lines, as a code block. */
const block = (text: string): string => {
  const clean = shortened(
    text
      .split(/\r\n|\r|\n/)
      .map(line => line.replaceAll(UNSEEN, ''))
      .join('\n')
      .trim(),
  )
  const ticks = fence(clean, 3)
  return `${ticks}text\n${clean}\n${ticks}`
}

// ── Words ──

/** `2026-11-24 09:45:10 UTC` */
const moment = (at: number | string): string => `${new Date(at).toISOString().slice(0, 19).replace('T', ' ')} UTC`
const duration = (seconds: number): string =>
  seconds < 0.1
    ? 'less than 0.1 s'
    : seconds < 90
      ? `${seconds} s`
      : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`

const words = (action: Action): string => {
  if (action.kind === 'checkpoint' || action.kind === 'restore')
    return action.name === null ? action.kind : `${action.kind} ${action.name}`
  return action.kind === 'delete' && action.force ? 'delete --force' : action.kind
}
const places = { github: 'on GitHub', jira: 'in Jira', cli: 'by the CLI', clock: 'by the clock' } satisfies Record<
  Requester['via'],
  string
>
const askedBy = ({ via, who }: Requester) => (who === null ? places[via] : `${places[via]} by ${code(who)}`)

const provider = (name: Environment['provider']) => (name === 'synthetic' ? 'synthetic (no real machine)' : name)

const riskOf = (work: WorkAtRisk): string => {
  if (!work.known) return `not known: ${escaped(work.because)}`
  const found = work.repositories.map(one => {
    const counts = [
      [one.uncommitted, 'uncommitted'],
      [one.untracked, 'untracked'],
      [one.stashes, 'stashed'],
      [one.unpushed, 'unpushed'],
    ] as const
    return `${code(one.path)}: ${counts.flatMap(([n, what]) => (n === 0 ? [] : [`${n} ${what}`])).join(', ')}`
  })
  return found.join('; ')
}

/** The key that may log in lies in the runner's home: here as its default has it. */
const sshCommand = ({ host, port, user }: { host: string; port: number; user: string }) =>
  `ssh -i ~/.agent-swarm/ssh/login/key ${port === 22 ? '' : `-p ${port} `}${user}@${host}`

const failed = ({ message, remedy }: Failure): string =>
  [`It failed:\n\n${block(message)}`, ...(remedy === null ? [] : [`What helps: ${escaped(remedy)}`])].join('\n\n')

// ── Status comment ──

/** Each comment of ours begins so. */
const MARK = '<!-- agent-swarm:'
export const isMarked = (body: string): boolean => body.startsWith(MARK)
export const statusMarker = (ticket: Ticket): string => `${MARK}status:${ticket} -->`
export const replyMarker = (commentId: number): string => `${MARK}reply:${commentId} -->`

export type Rendered = {
  body: string
  /** The same as long as a reader learns nothing new: what was looked at again, with the same result, does not count. */
  fingerprint: string
}
const rendered = (marker: string, text: (at: (time: number | string) => string) => string): Rendered => ({
  body: `${marker}\n${text(moment)}\n`,
  fingerprint: createHash('sha256')
    .update(text(() => ''))
    .digest('hex'),
})

const checkpointRow = ({ name, why, commit, createdAt, withMemory }: Checkpoint) =>
  `| ${code(name)} | ${why}${commit === null ? '' : ` of ${code(commit.slice(0, 7))}`}${withMemory ? ', with memory' : ''} | ${moment(createdAt)} |`

const checkpointTable = (checkpoints: Checkpoint[]): string[] => {
  if (checkpoints.length === 0) return ['No checkpoints yet: `/swarm checkpoint [name]` makes one.']
  const newest = checkpoints.toReversed().slice(0, CHECKPOINTS_SHOWN)
  const more = checkpoints.length - newest.length
  return [
    ['| checkpoint | why | made |', '| --- | --- | --- |', ...newest.map(checkpointRow)].join('\n'),
    ...(more > 0 ? [`${more} older ones are not shown.`] : []),
  ]
}

const lastOperation = ({ action, outcome, at }: Operation): string => {
  const result = {
    done: outcome.result === 'done' ? `done in ${duration(outcome.seconds)}` : '',
    skipped: outcome.result === 'skipped' ? `nothing to do: ${escaped(outcome.because)}` : '',
    failed: outcome.result === 'failed' ? `failed: ${code(outcome.failure.message)}` : '',
  }[outcome.result]
  return `${code(words(action))}, asked for ${askedBy(action.by)}: ${result} (${moment(at)})`
}

export type StatusView = {
  ticket: Ticket
  mirrored: Mirrored
  /** The runner that has it; null when it was not heard yet. */
  runner: KnownRunner | null
  last: Operation | null
}

export const statusComment = ({ ticket, mirrored, runner, last }: StatusView): Rendered => {
  const { environment, goneAt } = mirrored
  const rows = (at: (time: number | string) => string): [string, string][] => [
    ['State', `**${environment.status}**, as seen ${at(environment.observedAt)}`],
    ...(environment.status === 'running'
      ? [
          [
            'Log in',
            `\`agent-swarm ssh ${ticket}\` on the runner's machine${runner === null ? '' : ` (${code(runner.host)})`}` +
              (environment.ssh === null ? '' : `, or ${code(sshCommand(environment.ssh))} from there`),
          ] as [string, string],
        ]
      : []),
    ['Provider', provider(environment.provider)],
    ['Machine', `${code(environment.vmId)}, made ${moment(environment.createdAt)} from ${code(environment.baseImage)}`],
    ...(environment.workAtRisk === null
      ? []
      : [['Work only there', riskOf(environment.workAtRisk)] as [string, string]]),
    ...(last === null ? [] : [['Last action', lastOperation(last)] as [string, string]]),
  ]
  return rendered(statusMarker(ticket), at =>
    goneAt === null
      ? [
          `### ${ticket}: ${environment.status}`,
          ['| | |', '| --- | --- |', ...rows(at).map(([name, value]) => `| ${name} | ${value} |`)].join('\n'),
          ...(runner === null || runner.connected
            ? []
            : [`The runner on ${code(runner.host)} does not answer; it was last heard ${at(runner.seenAt)}.`]),
          ...checkpointTable(environment.checkpoints),
          '<sub>Kept up to date by agent-swarm. `/swarm help` lists the commands.</sub>',
        ].join('\n\n')
      : [
          `### ${ticket}: deleted`,
          `The machine ${code(environment.vmId)} (${provider(environment.provider)}) is gone since ${moment(goneAt)}, with its disk and its checkpoints.`,
          ...(last?.outcome.result === 'done' && last.outcome.kept !== undefined
            ? [
                `On its runner's machine${runner === null ? '' : ` (${code(runner.host)})`}: ${escaped(last.outcome.kept)}.`,
              ]
            : []),
          ...(last === null ? [] : [`Last action: ${lastOperation(last)}`]),
        ].join('\n\n'),
  )
}

// ── Reply to commands ──

export type ReplyView = {
  command: HeardCommand
  /** Its action in the queue, when it is still known there. */
  row: ActionRow | null
  /** How many actions of the ticket come before it. */
  ahead: number
  /** The runner that its ticket is pinned to, or null when any may take it. */
  pinned: KnownRunner | null
  anyRunner: boolean
  /** Epoch ms: what is said of something that goes on says when. */
  now: number
}

const readyLines = (environment: Environment): string => {
  const { ticket, status, ssh } = environment
  if (status !== 'running') return `It is ${status}.`
  return `Log in with \`agent-swarm ssh ${ticket}\` on the runner's machine${ssh === null ? '' : ` (${code(sshCommand(ssh))})`}.`
}

const done = (action: Action, outcome: Extract<Outcome, { result: 'done' }>): string => {
  const { environment, said, seconds } = outcome
  const more = {
    create: environment === null ? [] : [readyLines(environment)],
    start: environment === null ? [] : [readyLines(environment)],
    stop: ['`/swarm start` goes on from there.'],
    checkpoint:
      action.kind === 'checkpoint' && action.name !== null ? [`\`/swarm restore ${action.name}\` brings it back.`] : [],
    restore: environment === null ? [] : [readyLines(environment)],
    'delete-checkpoint': [],
    delete: ['That cannot be taken back.'],
    status:
      environment === null
        ? []
        : [
            `${readyLines(environment)} That was ${moment(environment.observedAt)}.`,
            ...checkpointTable(environment.checkpoints),
          ],
  } satisfies Record<Action['kind'], string[]>
  return [`${escaped(said)}. It took ${duration(seconds)}.`, ...more[action.kind]].join('\n\n')
}

const waiting = ({ row, ahead, pinned, anyRunner }: ReplyView): string => {
  if (row === null) return 'It is no longer in the queue. Ask again if it is still wanted.'
  if (row.state === 'cancelled') return 'It was cancelled before it began.'
  if (row.state === 'active')
    return `It is under way${row.progress === null ? '' : `: ${escaped(row.progress.phase)}`}.`
  if (pinned !== null && !pinned.connected)
    return `It waits for the runner on ${code(pinned.host)}, which has this machine and does not answer. It begins when that runner is back.`
  if (!anyRunner) return 'It waits: no runner is connected. It begins when one is (`agent-swarm runner`).'
  if (ahead > 0)
    return `It waits for ${ahead === 1 ? 'an earlier action' : `${ahead} earlier actions`} of ${row.action.ticket}.`
  if (row.attempt > 0) return `It did not work yet, and is tried again (attempt ${row.attempt + 1}).`
  return 'It begins at once.'
}

const answer = (view: ReplyView, at: (time: number) => string): string => {
  const { action, outcome, said } = view.command
  // Help and refusals are our own Markdown.
  if (said !== null) return said
  if (action === null) return ''
  const text =
    outcome === null
      ? `${waiting(view)} (${at(view.now)})`
      : {
          done: () => (outcome.result === 'done' ? done(action, outcome) : ''),
          skipped: () => (outcome.result === 'skipped' ? `Nothing to do: ${escaped(outcome.because)}.` : ''),
          failed: () => (outcome.result === 'failed' ? failed(outcome.failure) : ''),
        }[outcome.result]()
  return `**\`/swarm ${words(action)}\`**\n\n${text}`
}

/** One comment that answers all the commands of another. */
export const replyComment = (commentId: number, views: readonly ReplyView[]): Rendered =>
  rendered(replyMarker(commentId), at => views.map(view => answer(view, at)).join('\n\n---\n\n'))

// ── Jira ──

/** What is told in Jira when a machine is ready. Lines that are indented are shown as code. */
export const readyText = (environment: Environment, host: string | null): string => {
  const { ticket, vmId, ssh } = environment
  return [
    `${ticket} has its machine: ${vmId} (${provider(environment.provider)}). On the runner's machine${host === null ? '' : ` (${host})`}:`,
    `    agent-swarm ssh ${ticket}`,
    ...(ssh === null ? [] : [`    ${sshCommand(ssh)}`]),
  ].join('\n')
}
/** What is told in Jira when a machine was deleted that held work. */
export const keptText = (ticket: Ticket, kept: string): string =>
  [`The machine of ${ticket} is deleted. Where it ran, on its runner's machine:`, `    ${kept}`].join('\n')
export const failedText = (action: Action, { message, remedy }: Failure): string =>
  [
    `${words(action)} of ${action.ticket} failed, and needs somebody to look at it:`,
    ...message.split(/\r\n|\r|\n/).map(line => `    ${line}`),
    ...(remedy === null ? [] : [`What helps: ${remedy}`]),
  ].join('\n')

type Text = { type: 'text'; text: string }
export type Adf = {
  type: 'doc'
  version: 1
  content: { type: 'paragraph' | 'codeBlock'; content: Text[] }[]
}

/** Plain text as an Atlassian document: every line a paragraph, indented ones together a code block. */
export const adf = (text: string): Adf => {
  const content: Adf['content'] = []
  for (const raw of shortened(text, 8_000).split('\n')) {
    const line = raw.replaceAll(UNSEEN, '')
    const type = line.startsWith('    ') ? 'codeBlock' : 'paragraph'
    const shown = line.trim()
    if (shown === '') continue
    const last = content.at(-1)
    const before = last?.content[0]
    if (type === 'codeBlock' && last?.type === 'codeBlock' && before !== undefined) before.text += `\n${shown}`
    else content.push({ type, content: [{ type: 'text', text: shown }] })
  }
  return { type: 'doc', version: 1, content }
}
