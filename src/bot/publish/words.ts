/** Phrases that status comments, replies and Jira notes share. Pure. */
import { createHash } from 'node:crypto'
import { isIP } from 'node:net'
import { type Ticket, ticketOf } from '../../domain.ts'
import type { Action, Requester } from '../../schema/action.ts'
import type { Checkpoint, Environment, IdleReport, Interruption, UnsavedWork } from '../../schema/environment.ts'
import { type Block, code, type Line, line, link, own } from './text.ts'

// ── Rendering ──

/** Texts that change with time alone. They are left out of the fingerprint. */
export type TimeTexts = {
  at: (time: number | string) => string
  /** From `from` until `now`, epoch ms. In the fingerprint it changes once a minute. */
  elapsed: (from: number, now: number) => string
  /** What grows all the time. It is news for nobody. */
  growing: (text: string) => string
}
/** `fingerprint` stays the same as long as a reader learns nothing new. */
export type Rendered = { blocks: Block[]; fingerprint: string }

export const fingerprintOf = (value: unknown): string =>
  createHash('sha256').update(JSON.stringify(value)).digest('hex')
export const rendered = (build: (times: TimeTexts) => Block[]): Rendered => ({
  blocks: build({
    at: moment,
    elapsed: (from, now) => duration(Math.max(0, Math.round((now - from) / 1000))),
    growing: text => text,
  }),
  fingerprint: fingerprintOf(
    build({
      at: () => '',
      elapsed: (from, now) => String(Math.floor(Math.max(0, now - from) / 60_000)),
      growing: () => '',
    }),
  ),
})

// ── Times and sizes ──

/** `2026-11-24 09:45:10 UTC`. A runner may send a time that is none. */
export const moment = (at: number | string): string => {
  const date = new Date(at)
  return Number.isNaN(date.getTime()) ? 'an unknown time' : `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`
}
export const duration = (seconds: number): string => {
  if (seconds < 0.1) return 'less than 0.1 s'
  if (seconds < 90) return `${Math.round(seconds * 10) / 10} s`
  const whole = Math.round(seconds)
  return whole < 90 * 60
    ? `${Math.floor(whole / 60)} min ${whole % 60} s`
    : `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
}
const byteSize = (bytes: number): string => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10))
  return `${Math.round((bytes / 1024 ** power) * 10) / 10} ${units[power]}`
}

// ── Actions and requesters ──

/** An action, written as its command without `/swarm`. */
export const commandOf = (action: Action): string => {
  if (action.kind === 'status') return action.about ?? 'status'
  if (action.kind === 'agent') return `agent ${action.what}`
  if (action.kind === 'promote') return `promote ${action.attempt}`
  if (action.kind === 'fork')
    return [
      ...['fork', ...(action.count === 1 ? [] : [action.count])],
      ...(action.from === null ? [] : ['from', action.from]),
    ].join(' ')
  if (action.kind === 'delete') return action.force ? 'delete --force' : 'delete'
  return 'name' in action && action.name !== null ? `${action.kind} ${action.name}` : action.kind
}
const origins = {
  github: 'on GitHub',
  jira: 'in Jira',
  cli: 'with the CLI',
  clock: 'by schedule',
  machine: 'from inside the machine',
} satisfies Record<Requester['via'], string>
/** A display name, else a login or an account, which notify nobody. Null when nobody is known. */
export const personOf = ({ who, name = '' }: Requester): Line | null => {
  if (name !== '') return line`${name}`
  return who === null ? null : [code(who)]
}
/** What made it happen, and who: `push by octocat`, `ticket moved to In Progress by Dana Example`, `requested by ada with the CLI`. */
export const requestedBy = (by: Requester): Line => {
  const person = personOf(by)
  if (by.cause !== undefined) {
    const to = by.movedTo === undefined ? [] : line` to ${by.movedTo}`
    return person === null ? line`${own(by.cause)}${to}` : line`${own(by.cause)}${to} by ${person}`
  }
  const origin = own(origins[by.via])
  return person === null ? line`requested ${origin}` : line`requested by ${person} ${origin}`
}

/**
 * A command line that a comment can replace: the command, the ticket or `<TICKET>` in its place, and what follows. A question that
 * names no ticket is about this one.
 */
const CLI_COMMAND =
  /agent-swarm (?:(create|start|stop|delete|restart|restore|checkpoints|checkpoint|status|ssh) ([A-Z][A-Z0-9_]+-\d+|<TICKET>)((?: (?:--force|\[name\]|<NAME>))*)|(checkpoints|status)(?=[.,;)]|$))/
/** Outside text loses the spaces at its ends, which a text in several pieces needs. */
const spaced = (text: string): Line => {
  const [before, after] = [/^\s/.test(text) ? ' ' : '', /\s$/.test(text) ? ' ' : '']
  return line`${own(before)}${text}${own(after)}`
}
/**
 * A remedy, which is written for the runner's host: where a command in a comment does the same for this ticket, that command stands
 * there. As code it can be copied, and is no command of our comment.
 */
export const remedyLine = (remedy: string, ticket: Ticket): Line => {
  const match = remedy.match(CLI_COMMAND)
  if (match === null) return spaced(remedy)
  const [whole, named, about = ticket, more = '', question] = match
  const command = named ?? question
  const after = remedy.slice((match.index ?? 0) + whole.length)
  const shown = [ticket, '<TICKET>'].includes(about) && command !== 'ssh' ? `/swarm ${command}${more}` : whole
  return [...spaced(remedy.slice(0, match.index)), code(shown), ...(after === '' ? [] : remedyLine(after, ticket))]
}

// ── Addresses ──

/** Pages of the ticket and of its commits; null where there is none to link to. */
export type Links = { ticket: (ticket: Ticket) => string | null; commit: (commit: string) => string | null }
/**
 * `jiraUrl`: of the site, when it is known. `repo`: the only repository of the ticket's pull requests: a commit does not say which
 * one it is in.
 */
export const linksTo = (
  { webUrl, jiraUrl }: { webUrl: string; jiraUrl: string | null },
  repo: string | null,
): Links => ({
  ticket: ticket => (jiraUrl === null ? null : new URL(`/browse/${ticketOf(ticket)}`, jiraUrl).href),
  commit: commit => (repo === null ? null : new URL(`/${repo}/commit/${commit}`, webUrl).href),
})

// ── Machines ──

export const providerName = (name: Environment['provider']): string =>
  name === 'synthetic' ? 'synthetic: no real machine' : name

/** A comment has a maximum length: further repositories are only counted. */
const MAX_REPOSITORIES = 10
const separated = (parts: readonly Line[], separator: string): Line =>
  parts.flatMap((part, n) => (n === 0 ? part : [{ own: separator }, ...part]))

/** `none`, or the repositories with what each has. */
export const unsavedWorkLine = (work: UnsavedWork): Line => {
  if (!work.known) return line`unknown: ${work.reason}`
  if (work.repositories.length === 0) return own('none')
  const named = work.repositories.slice(0, MAX_REPOSITORIES).map(({ path, ...repository }) => {
    const counts = [
      [repository.uncommitted, 'uncommitted'],
      [repository.untracked, 'untracked'],
      [repository.stashes, 'stashed'],
      [repository.unpushed, 'unpushed'],
      [repository.reflog ?? 0, 'in the reflog alone'],
    ] as const
    return line`${code(path)}: ${own(counts.flatMap(([n, what]) => (n === 0 ? [] : [`${n} ${what}`])).join(', '))}`
  })
  const more = work.repositories.length - MAX_REPOSITORIES
  const rest = more > 0 ? [line`${more} more ${own(more === 1 ? 'repository' : 'repositories')}`] : []
  return separated([...named, ...rest], '; ')
}

/**
 * A command to paste on the runner's host. It verifies the machine's own key, as agent-swarm does; both keys lie in the
 * runner's home, here the default one. Null when the address is not safe to paste.
 */
export const sshCommand = ({ vmId, ssh }: Pick<Environment, 'vmId' | 'ssh'>): string | null => {
  if (ssh === null || (isIP(ssh.host) === 0 && ssh.host !== 'localhost') || !/^[a-z_][a-z0-9_-]*$/.test(ssh.user))
    return null
  const keys = '~/.agent-swarm/ssh'
  const hostKey = `-o HostKeyAlias=${vmId} -o UserKnownHostsFile=${keys}/${vmId}.known_hosts -o StrictHostKeyChecking=yes`
  const port = ssh.port === 22 ? '' : `-p ${ssh.port} `
  return `ssh -i ${keys}/login/key -o IdentitiesOnly=yes ${hostKey} ${port}${ssh.user}@${ssh.host}`
}

/** `host`: the runner's, when it is known. */
export const runnersHost = (host: string | null): Line =>
  host === null ? own("on the runner's host") : line`on the runner's host (${code(host)})`

/** How to log in to a running machine. */
export const loginLine = (environment: Environment, host: string | null): Line => {
  const command = sshCommand(environment)
  const alternative = command === null ? [] : line`, or ${code(command)} from there`
  return line`${code(`agent-swarm ssh ${environment.ticket}`)} ${runnersHost(host)}${alternative}`
}

type Warned = Extract<IdleReport, { state: 'warned' }>
/** That nobody uses the machine, and what becomes of it. */
export const idleWarning = (ticket: Ticket, { since, becomes, at, reason }: Warned): Line => {
  const idle = line`Nobody has used the machine of ${own(ticket)} since ${own(moment(since))}.`
  if (becomes === 'left running') return line`${idle} It runs on: ${reason ?? ''}. ${code('/swarm stop')} stops it.`
  const fate = becomes === 'saved' ? 'Its memory will be saved, and the machine turned off,' : 'It will be stopped'
  return line`${idle} ${own(fate)} ${own(at === null ? 'soon' : `at about ${moment(at)}`)}, unless somebody uses it: a login or any work in it is enough.`
}
const WAKES = '`/swarm start`, `agent-swarm ssh` or `ssh` by its ticket'
export const idleSleep = (state: 'saved' | 'stopped'): Line =>
  own(
    state === 'saved'
      ? `its memory is saved, and it goes on where it was. ${WAKES} wakes it, and so does every command that needs it.`
      : `it was stopped, since nobody used it. ${WAKES} starts it, and so does every command that needs it.`,
  )

/** One or two sentences: what the hypervisor does with the machine by itself, and the way on. */
export const interruptionLine = (ticket: Ticket, { state, by, cause, next }: Interruption): Line =>
  state === 'announced'
    ? line`${by} stops the machine of ${own(ticket)} within minutes: ${cause}. ${code('/swarm checkpoint')} keeps its disk as it is now; what is in its memory alone is lost. ${next}.`
    : line`${by} stopped the machine of ${own(ticket)}: ${cause}. Its disk and its checkpoints stay. ${next}.`

/** `scheduledAt` (epoch ms): when a merge's delete is due; null when none is scheduled. */
export const graceBlocks = (scheduledAt: number | null): Block[] =>
  scheduledAt === null
    ? []
    : [
        {
          line: line`The pull request is merged. The machine will be deleted at ${own(moment(scheduledAt))}. ${code('/swarm start')} keeps it.`,
        },
      ]

/** Why a machine outlives a merge. `open`: names of pull requests; empty: nothing. */
export const staysLine = (open: readonly string[]): Line =>
  open.length === 0 ? [] : line` It stays: ${open.join(', ')} ${own(open.length === 1 ? 'is' : 'are')} open.`

/** How to restore the work that a delete saved. */
export const RESTORE_RESCUED =
  '`agent-swarm rescued list` there shows it, and `agent-swarm rescued restore` brings it back.'
/** The same after a summary, which does not say where. */
export const RESCUED_THERE = `Rescued work is on the runner's host. ${RESTORE_RESCUED}`

// ── Checkpoints ──

const MAX_CHECKPOINTS = 20

const checkpointRow = (
  { name, why, commit, createdAt, withMemory, sizeBytes }: Checkpoint,
  links: Pick<Links, 'commit'>,
): Line[] => [
  [code(name)],
  line`${own(why)}${commit === null ? '' : line` of ${link(commit.slice(0, 7), links.commit(commit))}`}${own(withMemory ? ', with memory' : '')}`,
  own(moment(createdAt)),
  own(sizeBytes === null || sizeBytes === undefined ? '' : byteSize(sizeBytes)),
]

/** Newest first. */
export const checkpointBlocks = (
  { checkpoints, observedAt }: Environment,
  { at }: TimeTexts,
  links: Pick<Links, 'commit'>,
): Block[] => {
  if (checkpoints.length === 0) return [{ line: own('No checkpoints yet. `/swarm checkpoint [name]` makes one.') }]
  const newest = checkpoints.toReversed().slice(0, MAX_CHECKPOINTS)
  const more = checkpoints.length - newest.length
  return [
    { line: line`Checkpoints as of ${own(at(observedAt))}:` },
    {
      table: [
        ['checkpoint', 'reason', 'created', 'size'].map(own),
        ...newest.map(checkpoint => checkpointRow(checkpoint, links)),
      ],
    },
    ...(more > 0
      ? [{ line: line`${more} older ${own(more === 1 ? 'checkpoint is' : 'checkpoints are')} not shown.` }]
      : []),
  ]
}
