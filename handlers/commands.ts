/** What the command lines of one comment come to, in their order: the same on a pull request and on a Jira ticket. */
import type { Ticket } from '../src/domain.ts'
import type { Action, ActionKind, ReplyTo, Requester } from '../src/schema/action.ts'
import { isBranchServed } from './branches.ts'
import { type CommandLine, MAX_COMMANDS } from './command-lines.ts'
import {
  act,
  type Decision,
  type Judgement,
  type Reply,
  type Rules,
  type SinceCommand,
  STATE_CHANGING_ACTIONS,
} from './handler.ts'
import { readCommand } from './slash-commands.ts'
import { type Commander, mayCommand, mayRun } from './who-may.ts'

export type CommandContext = {
  who: Commander
  /** Their name as it is recorded. */
  by: Requester
  replyTo: (line: number) => ReplyTo
  /** Null: nothing says which ticket it is about, or the branch does not count. */
  ticket: Ticket | null
  /** Of a pull request. */
  branch: string | null
  /** Of a pull request from a fork: its head, and the commit that somebody allowed. */
  fork: { head: string; allowed: string | null } | null
  since: SinceCommand
  rules: Rules
}

/** What somebody wrote, for the record: one line, not too long. */
const written = (lines: readonly CommandLine[]) =>
  lines
    .map(({ words }) => ['/swarm', ...words].join(' '))
    .join('; ')
    .slice(0, 300)

/** Nobody is answered who may not ask, not even on the status comment: that would be a way to make us talk. */
export const refuseAll = (lines: readonly CommandLine[], by: Requester, reason: string): Decision => ({
  verdict: 'refused',
  reason,
  refusals: [{ by, what: written(lines), reason, ticket: null }],
})

const STARTS: readonly ActionKind[] = ['create', 'start', 'restore']

/** Why a command that comes late is not followed any more: what came after it is what holds. Null when nothing did. */
const overtaken = (kind: ActionKind, { personRequest, lastRequest, moves }: SinceCommand): string | null => {
  if (!STATE_CHANGING_ACTIONS.includes(kind)) return null
  if (personRequest !== null) return `\`${personRequest.kind}\` was asked for`
  const starts = STARTS.includes(kind)
  // A stop does not go against a delete, nor the other way round.
  if (lastRequest !== null && starts !== STARTS.includes(lastRequest.kind))
    return `\`${lastRequest.kind}\` was asked for`
  const last = moves.at(-1)
  if (starts) return last === 'new' ? 'the ticket was moved back' : null
  // What was deleted is made anew only after a way back.
  const begun = last === 'indeterminate' && (kind === 'stop' || moves.includes('new'))
  return begun ? 'the ticket was moved in progress' : null
}

const RULES = '`.github/agent-swarm.yml` on the default branch'
/** Why a pull request is about no ticket here, and what helps. */
const noTicket = (branch: string | null, rules: Rules): string => {
  if (branch !== null && !isBranchServed(branch, rules))
    return `The branch of this pull request is none of those that count here: ${RULES} names these under \`branches\`.`
  if (rules.projects.length === 0)
    return `No project counts here: ${RULES} names none under \`projects\` that this bot serves.`
  const keys = rules.projects.map(key => `\`${key}-123\``).join(' or ')
  return `This pull request names no ticket. Put its key (${keys}) into the branch name, the title or the description.`
}

export const runCommands = (
  lines: readonly CommandLine[],
  { who, by, replyTo, ticket, branch, fork, since, rules }: CommandContext,
): Decision => {
  const may = mayCommand(who, rules)
  if (!may.may) return refuseAll(lines, by, may.because)

  const actions: Action[] = []
  const replies: Reply[] = []
  const granted: Judgement[] = []
  const refusals: Judgement[] = []
  let allowed = fork?.allowed ?? null
  let allow: string | null = null
  const answer = (line: number, text: string, { ok = false, help = false } = {}) =>
    replies.push({ to: replyTo(line), text, help, ok })
  const judged = (line: number, reason: string): Judgement => ({
    by,
    what: written(lines.slice(line, line + 1)),
    reason,
    ticket,
  })
  const refuse = (line: number, text: string, because: string) => {
    answer(line, text)
    refusals.push(judged(line, because))
  }

  for (const [line, { words }] of lines.slice(0, MAX_COMMANDS).entries()) {
    const read = readCommand(words, who.via)
    if ('answer' in read) {
      answer(line, read.answer, { help: read.help })
      continue
    }
    if (read.name === 'help') {
      answer(line, '', { ok: true, help: true })
      continue
    }
    const mayThis = mayRun(read.name, who, rules)
    if (!mayThis.may) {
      refuse(line, `Not done: ${mayThis.because}.`, mayThis.because)
      continue
    }
    if (ticket === null) {
      answer(line, noTicket(branch, rules))
      continue
    }
    const meaning = read.meaning({
      ticket,
      by,
      replyTo: replyTo(line),
      ...(fork === null ? {} : { onlyAt: fork.head }),
    })
    if ('answer' in meaning) answer(line, meaning.answer)
    else if ('help' in meaning) answer(line, '', { ok: true, help: true })
    else if ('allow' in meaning) {
      if (fork === null) answer(line, 'This pull request comes from no fork: commands act on it as it is.')
      else if (meaning.allow !== fork.head)
        refuse(
          line,
          `Not allowed: \`${meaning.allow.slice(0, 10)}\` is not the head of this pull request now.`,
          'not the head',
        )
      else {
        allow = meaning.allow
        allowed = meaning.allow
        granted.push(judged(line, mayThis.because))
        answer(line, `Commands act on this pull request as long as \`${allow.slice(0, 10)}\` is its head.`, {
          ok: true,
        })
      }
    } else if (fork !== null && allowed !== fork.head)
      refuse(
        line,
        allowed === null
          ? 'This pull request comes from a fork, and those do nothing here until somebody with write access has looked at its commit and allows it: `/swarm allow <commit>`.'
          : `This pull request comes from a fork, and its head is no longer \`${allowed.slice(0, 10)}\`, which was allowed. Look at the new commits, then: \`/swarm allow <commit>\`.`,
        'from a fork, and its head is not allowed',
      )
    else if (overtaken(meaning.action.kind, since) !== null)
      answer(line, `Not done: ${overtaken(meaning.action.kind, since)} after that.`)
    else {
      granted.push(judged(line, mayThis.because))
      actions.push(meaning.action.kind === 'create' ? { ...meaning.action, machine: rules.machine } : meaning.action)
    }
  }
  if (lines.length > MAX_COMMANDS)
    answer(
      MAX_COMMANDS,
      `One comment gives at most ${MAX_COMMANDS} commands; the ${lines.length - MAX_COMMANDS} after that were left out.`,
    )
  return act(actions, { replies, granted, refusals, allow })
}
