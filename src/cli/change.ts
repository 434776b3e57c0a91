/** What the commands that change an environment share: they run the action here, show its progress and print its outcome. */
import { userInfo } from 'node:os'
import type { Ticket } from '../domain.ts'
import { type RunnerContext, resolveTicket } from '../runner/context.ts'
import { effectiveKind, execute, WAITING_PHASE } from '../runner/executor.ts'
import type { Plan } from '../runner/plan.ts'
import { recoverAll } from '../runner/recovery.ts'
import type { Action, Requester } from '../schema/action.ts'
import type { Environment } from '../schema/environment.ts'
import type { Outcome } from '../schema/outcome.ts'
import type { Change, ChangeCommand } from './change-kinds.ts'
import { type Invocation, print, printFailure, printJson } from './terminal/output.ts'
import { openProgress, type ProgressView, UNDOING } from './terminal/progress.ts'
import { withRunnerContext } from './with-context.ts'

/** Who types the commands. */
export const cliUser = (): Requester => ({ via: 'cli', who: userName() })
const userName = (): string | null => {
  try {
    return userInfo().username
  } catch {
    // The user id has no name.
    return null
  }
}

const toAction = (change: Change) => ({ ...change, by: cliUser(), replyTo: null }) as Action

const commandOf = ({ kind }: Change): string => (kind === 'delete-checkpoint' ? 'checkpoint --delete' : kind)

const sentence = (text: string) => (/[.?]$/.test(text) ? text : `${text}.`)

/** A ticket without an environment may be mistyped. */
const withHint = async (env: Invocation['terminal']['env'], ticket: Ticket, outcome: Outcome): Promise<Outcome> => {
  if (outcome.result === 'done' || outcome.environment !== null) return outcome
  const { nearestTicket, withNearestTicket } = await import('./known.ts')
  if (outcome.result === 'failed') return { ...outcome, failure: await withNearestTicket(env, outcome.failure, ticket) }
  const near = await nearestTicket(env, ticket)
  return near === null ? outcome : { ...outcome, reason: `${outcome.reason}. Did you mean ${near}?` }
}

const sshLine = (environment: Environment | null): string[] =>
  environment?.status === 'running' ? [`Open a shell: agent-swarm ssh ${environment.ticket}`] : []

const AGAIN = 'Press Ctrl-C again to exit now; the next command or the runner recovers the operation.'
const interruptNotes: Readonly<Record<Change['kind'], string>> = {
  create: `undoing what was started. ${AGAIN}`,
  checkpoint: `undoing what was started. ${AGAIN}`,
  start: 'no longer waiting. The machine may still start.',
  stop: 'no longer waiting. The machine may still shut down.',
  restore: 'no longer waiting. The hypervisor may still finish it.',
  'delete-checkpoint': 'no longer waiting. The hypervisor may still finish it.',
  delete: 'stopping. Nothing is deleted.',
}

const interruptNote = ({ registry }: RunnerContext, { ticket, kind }: Change, phase: string | null): string => {
  const row = registry.environment(ticket)
  if (phase === WAITING_PHASE) return 'nothing was started.'
  if (row?.status === 'deleting') return `the delete has been decided and is being finished. ${AGAIN}`
  return interruptNotes[effectiveKind(kind, row)]
}

/** Runs the change under the ticket's lock, and shows its phases. */
export const perform = async (
  context: RunnerContext,
  { signal }: Invocation,
  change: Change,
  progress: ProgressView,
): Promise<Outcome> => {
  for (const { ticket, failure } of await recoverAll(context)) {
    // The command reports on its own ticket itself.
    if (ticket !== change.ticket)
      progress.note(
        `An interrupted ${ticket === null ? 'image build' : `operation on ${ticket}`} could not be recovered yet: ${sentence(failure.message)}`,
      )
  }
  let phase: string | null = null
  const onInterrupt = () => progress.note(`Interrupted: ${interruptNote(context, change, phase)}`)
  signal.addEventListener('abort', onInterrupt, { once: true })
  try {
    const outcome = await execute(context, toAction(change), {
      actionId: null,
      correlation: null,
      signal,
      onPhase: name => {
        phase = name
        progress.phase(name)
      },
    })
    progress.end(outcome.result !== 'failed' || (phase === UNDOING && outcome.environment === null))
    return outcome
  } finally {
    signal.removeEventListener('abort', onInterrupt)
  }
}

const printPlan = ({ json, quiet, terminal }: Invocation, change: Change, plan: Plan): void => {
  const { ticket } = change
  if ('skipped' in plan) {
    if (json) printJson<ChangeCommand>({ ticket, result: 'skipped', reason: plan.skipped }, terminal)
    else print(`Nothing to do: ${sentence(plan.skipped)}`, terminal)
  } else if (json) printJson<ChangeCommand>({ ticket, result: 'planned', would: plan.would }, terminal)
  else if (!quiet)
    print(
      [`Dry run: \`${commandOf(change)} ${ticket}\` would:`, ...plan.would.map(step => `  - ${step}`)].join('\n'),
      terminal,
    )
}

/** Plans first, so that a foreseeable failure and a change that does nothing are reported before anything runs in the background. */
const planOrDetach = (invocation: Invocation, typed: Change): Promise<number> =>
  withRunnerContext(invocation, async context => {
    const change = { ...typed, ticket: resolveTicket(context, typed.ticket) }
    const { planAction } = await import('../runner/plan.ts')
    const plan = await planAction(context, toAction(change))
    if (invocation.flags['dry-run'] === true || 'skipped' in plan) printPlan(invocation, change, plan)
    else await (await import('./detach.ts')).detach(invocation, context, change)
    return 0
  })

const printOutcome = ({ json, quiet, terminal }: Invocation, change: Change, outcome: Outcome): void => {
  if (json) printJson<ChangeCommand>({ ticket: change.ticket, ...outcome }, terminal)
  if (outcome.result === 'failed') printFailure(commandOf(change), outcome.failure, terminal)
  else if (!json && !quiet) {
    const text =
      outcome.result === 'done'
        ? `${outcome.summary} (${outcome.seconds < 0.1 ? 'less than 0.1' : outcome.seconds} s)`
        : outcome.reason
    const next = change.kind === 'create' || change.kind === 'start' ? sshLine(outcome.environment) : []
    print([sentence(text), ...next].join('\n'), terminal)
  }
}

export const runChange = async (invocation: Invocation, typed: Change): Promise<number> => {
  const { flags, terminal } = invocation
  if (flags['dry-run'] === true || flags.detach === true) return planOrDetach(invocation, typed)
  const progress = openProgress(invocation)
  return withRunnerContext(
    invocation,
    async context => {
      const change = { ...typed, ticket: resolveTicket(context, typed.ticket) }
      const performed = await perform(context, invocation, change, progress)
      const outcome = await withHint(terminal.env, change.ticket, performed)
      printOutcome(invocation, change, outcome)
      return outcome.result === 'failed' ? 1 : 0
    },
    progress.note,
  )
}
