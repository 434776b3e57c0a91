/** The commands that change an environment: what each makes of its words and options. */
import { attemptOf, ticketOf as baseTicketOf, MAX_FORKS } from '../../domain.ts'
import { fail } from '../../errors.ts'
import {
  checkpointArgument,
  machineArgument,
  machineArguments,
  repositoryArgument,
  ticketArgument,
} from '../arguments.ts'
import { notAnAttempt, promoteQuestion } from '../attempts.ts'
import { runChange, runChanges } from '../change.ts'
import type { ChangeCommand } from '../change-kinds.ts'
import { checkServes, namedProject, projectFor } from '../project-choice.ts'
import { mayAsk, requireConsent } from '../terminal/confirm.ts'
import type { Invocation, RunCommand } from '../terminal/output.ts'
import { withRunnerContext } from '../with-context.ts'

const ticketOf = ({ words: [word], terminal }: Invocation) => machineArgument(word, terminal)
const nameOf = ({ words: [, name] }: Invocation) => (name === undefined ? null : checkpointArgument(name))

/** A command on existing machines that takes nothing but their tickets. */
const onEach =
  (kind: 'start' | 'restart'): RunCommand =>
  async invocation => {
    const tickets = await machineArguments(invocation.words, invocation.terminal)
    return runChanges(
      invocation,
      tickets.map(ticket => ({ kind, ticket })),
      tickets.length > 1,
    )
  }

export const changes: Record<Exclude<ChangeCommand, 'delete'>, RunCommand> = {
  create: async invocation => {
    const tickets = [...new Set(invocation.words.map(ticketArgument))]
    const { serving, github } = await invocation.config()
    const repo = typeof invocation.flags.repo === 'string' ? repositoryArgument(invocation.flags.repo) : null
    if (repo !== null) for (const ticket of tickets) checkServes(ticket, repo, serving)
    return runChanges(
      invocation,
      tickets.map(ticket => ({
        ...{ kind: 'create', ticket },
        ...(repo === null ? (github === null ? {} : projectFor(ticket, serving)) : namedProject(repo)),
      })),
      tickets.length > 1,
    )
  },
  fork: async invocation => {
    const { count = '1', from } = invocation.flags
    if (!/^[1-9]$/.test(String(count)))
      throw fail('usage', `--count ${count}: use a number from 1 to ${MAX_FORKS}`, 'Without it: one attempt.')
    return runChange(invocation, {
      ...{ kind: 'fork', ticket: await ticketOf(invocation), count: Number(count) },
      from: typeof from === 'string' ? checkpointArgument(from) : null,
    })
  },
  promote: async invocation => {
    const key = await ticketOf(invocation)
    const attempt = attemptOf(key)
    if (attempt === null) return notAnAttempt(key, invocation.terminal)
    if (mayAsk(invocation)) {
      const question = await withRunnerContext(invocation, async context => promoteQuestion(context, key))
      if (question !== null) await requireConsent(question, 'promote', invocation)
    }
    return runChange(invocation, { kind: 'promote', ticket: baseTicketOf(key), attempt })
  },
  start: onEach('start'),
  stop: async invocation => {
    const tickets = await machineArguments(invocation.words, invocation.terminal)
    const save = invocation.flags.save === true ? ({ save: true } as const) : {}
    return runChanges(
      invocation,
      tickets.map(ticket => ({ kind: 'stop', ticket, ...save })),
      tickets.length > 1,
    )
  },
  restart: onEach('restart'),
  restore: async invocation =>
    runChange(invocation, {
      ...{ kind: 'restore', ticket: await ticketOf(invocation), name: nameOf(invocation) },
      ...(invocation.flags.cold === true ? { cold: true } : {}),
    }),
  checkpoint: async invocation => {
    const ticket = await ticketOf(invocation)
    const name = nameOf(invocation)
    if (invocation.flags.delete !== true)
      return runChange(invocation, { kind: 'checkpoint', ticket, name, why: 'command', commit: null })
    if (name === null)
      throw fail('usage', '--delete needs the name of a checkpoint', `List them: agent-swarm checkpoints ${ticket}`)
    return runChange(invocation, { kind: 'delete-checkpoint', ticket, name })
  },
}
