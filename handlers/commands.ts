/** Turns the command lines of one comment into a decision, in order: the same on a pull request and on a Jira ticket. */

import { isBranchOfBot, isBranchServed } from '../src/branches.ts'
import type { Ticket } from '../src/domain.ts'
import type { Action, ActionKind, ReplyTo, Requester } from '../src/schema/action.ts'
import { type CommandLine, MAX_COMMANDS } from './command-lines.ts'
import {
  act,
  type Decision,
  type Judgement,
  type NewMachine,
  type RefusedDecision,
  type Reply,
  type Rules,
  type SinceCommand,
  STATE_CHANGING_ACTIONS,
} from './handler.ts'
import { createAction, refusedRepository } from './new-machine.ts'
import { readCommand } from './slash-commands.ts'
import { type Commander, mayCommand, mayRun } from './who-may.ts'

type CommandContext = {
  who: Commander
  /** Their name for the records. */
  by: Requester
  replyTo: (line: number) => ReplyTo
  /** Null when the pull request names no ticket, or its branch is not served. */
  ticket: Ticket | null
  /** Of the pull request; null on a ticket. */
  branch: string | null
  /** Set for a pull request from a fork: its head, and the commit that somebody allowed. */
  fork: { head: string; allowed: string | null } | null
  since: SinceCommand
  newMachine?: NewMachine | undefined
  rules: Rules
}

/** The command lines as they were written, for the records: one line of at most 300 characters. */
const asWritten = (lines: readonly CommandLine[]) =>
  lines
    .map(({ words }) => ['/swarm', ...words].join(' '))
    .join('; ')
    .slice(0, 300)

/** Records the commands as refused, without an answer: otherwise anybody could make the bot write comments. */
export const refuseAll = (lines: readonly CommandLine[], by: Requester, reason: string): RefusedDecision => ({
  verdict: 'refused',
  reason,
  refusals: [{ by, line: null, what: asWritten(lines), reason, ticket: null }],
})

const MAKES_RUNNING: readonly ActionKind[] = ['create', 'start', 'restart', 'restore', 'promote']

/** Which later event wins over a command that arrives late; null when none does. */
const laterEvent = (kind: ActionKind, { personRequest, lastRequest, moves }: SinceCommand): string | null => {
  if (!STATE_CHANGING_ACTIONS.includes(kind)) return null
  if (personRequest !== null) return `\`${personRequest.kind}\` was requested`
  const makesRunning = MAKES_RUNNING.includes(kind)
  // A stop does not contradict a delete, nor the other way round.
  if (lastRequest !== null && makesRunning !== MAKES_RUNNING.includes(lastRequest.kind))
    return `\`${lastRequest.kind}\` was requested`
  const lastMove = moves.at(-1)
  if (makesRunning) return lastMove === 'new' ? 'the ticket was moved back to the backlog' : null
  // A ticket whose machine was deleted gets another one only by way of the backlog.
  const restarted = lastMove === 'indeterminate' && (kind === 'stop' || moves.includes('new'))
  return restarted ? 'the ticket was moved in progress' : null
}

const RULES_FILE = '`.github/agent-swarm.yml` on the default branch'
const whyNoTicket = (branch: string | null, rules: Rules): string => {
  if (branch !== null && !isBranchServed(branch, rules))
    return `This branch is not served here: ${RULES_FILE} lists the served ones under \`branches\`.`
  if (branch !== null && isBranchOfBot(branch))
    return 'Pull requests of bots, of dependencies or of a revert, are about no ticket.'
  if (rules.projects.length === 0)
    return `This repository serves no project: \`JIRA_PROJECTS\` of the bot names it for none, or ${RULES_FILE} lists none of these under \`projects\`.`
  const keys = rules.projects.map(key => `\`${key}-123\``).join(' or ')
  return `This pull request names no ticket. Put its key (${keys}) into the branch name or the title.`
}

/** What one command line leads to. `refused` and `granted` are the reasons for the records. */
type Verdict =
  | { action: Action; granted: string }
  | { answer: string; ok?: boolean; help?: boolean; refused?: string; granted?: string; allow?: string }

const HELP: Verdict = { answer: '', ok: true, help: true }
const short = (commit: string) => `\`${commit.slice(0, 10)}\``

const allowCommit = (commit: string, { fork }: CommandContext, granted: string): Verdict => {
  if (fork === null) return { answer: 'This pull request is not from a fork: commands need no `/swarm allow`.' }
  if (commit !== fork.head)
    return {
      answer: `Not allowed: ${short(commit)} is not the current head of this pull request.`,
      refused: 'not the current head',
    }
  return {
    answer: `Commands may act on this pull request while its head is ${short(commit)}.`,
    ok: true,
    granted,
    allow: commit,
  }
}

const forkNotAllowed = (allowed: string | null): Verdict => ({
  answer:
    allowed === null
      ? 'This pull request is from a fork. Commands act on it only after somebody with write access has reviewed its head commit and allowed it: `/swarm allow <commit>`.'
      : `This pull request is from a fork, and its head is no longer ${short(allowed)}, which was allowed. Review the new commits, then allow the new head: \`/swarm allow <commit>\`.`,
  refused: 'from a fork whose head is not allowed',
})

const judge = (words: readonly string[], line: number, allowed: string | null, context: CommandContext): Verdict => {
  const { who, by, ticket, branch, fork, since, rules } = context
  const command = readCommand(words, who.via)
  if ('answer' in command) return command
  if (command.name === 'help') return HELP
  const permission = mayRun(command.name, who, rules)
  if (!permission.may) return { answer: `Not allowed: ${permission.reason}.`, refused: permission.reason }
  if (ticket === null) return { answer: whyNoTicket(branch, rules) }
  const onlyAt = fork === null ? {} : { onlyAt: fork.head }
  const meaning = command.meaning({ ticket, by, replyTo: context.replyTo(line), ...onlyAt })
  if ('help' in meaning) return HELP
  if ('answer' in meaning) return meaning
  if ('allow' in meaning) return allowCommit(meaning.allow, context, permission.reason)
  if (fork !== null && allowed !== fork.head) return forkNotAllowed(allowed)
  const { action } = meaning
  const later = laterEvent(action.kind, since)
  if (later !== null) return { answer: `Skipped: ${later} after this command.` }
  if (action.kind !== 'create') return { action, granted: permission.reason }
  const { newMachine } = context
  const { repo = null } = meaning
  const refused = repo === null || newMachine === undefined ? null : refusedRepository(ticket, repo, newMachine)
  if (refused !== null) return { answer: `Not allowed: ${refused}`, refused }
  const create = createAction({ ...action, machine: rules.machine }, newMachine, rules, repo)
  return { action: create, granted: permission.reason }
}

export const runCommands = (lines: readonly CommandLine[], context: CommandContext): Decision => {
  const { by, ticket, replyTo } = context
  const permission = mayCommand(context.who, context.rules)
  if (!permission.may) return refuseAll(lines, by, permission.reason)

  const actions: Action[] = []
  const replies: Reply[] = []
  const granted: Judgement[] = []
  const refusals: Judgement[] = []
  let allow: string | null = null
  for (const [line, command] of lines.slice(0, MAX_COMMANDS).entries()) {
    const verdict = judge(command.words, line, allow ?? context.fork?.allowed ?? null, context)
    const what = asWritten([command])
    const judgement = (reason: string): Judgement => ({ by, line, what, reason, ticket })
    if (verdict.granted !== undefined) granted.push(judgement(verdict.granted))
    if ('action' in verdict) {
      actions.push(verdict.action)
      continue
    }
    const { answer, ok = false, help = false, refused } = verdict
    replies.push({ to: replyTo(line), what, text: answer, help, ok })
    if (refused !== undefined) refusals.push(judgement(refused))
    if (verdict.allow !== undefined) allow = verdict.allow
  }
  const skipped = lines.length - MAX_COMMANDS
  if (skipped > 0) {
    const text = `One comment can give at most ${MAX_COMMANDS} commands; the last ${skipped} were skipped.`
    replies.push({
      to: replyTo(MAX_COMMANDS),
      what: asWritten(lines.slice(MAX_COMMANDS)),
      text,
      help: false,
      ok: false,
    })
  }
  return act(actions, { replies, granted, refusals, allow })
}
