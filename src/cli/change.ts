/** What the commands that change an environment share: they run the action here, show its progress and print its outcome. */
import { userInfo } from 'node:os'
import type { Config } from '../config/config.ts'
import type { Ticket } from '../domain.ts'
import { fail, failureOf } from '../errors.ts'
import { isRunnerRunning } from '../registry/lock.ts'
import { type RunnerContext, resolveTicket } from '../runner/context.ts'
import { effectiveKind, execute, WAITING_PHASE } from '../runner/executor.ts'
import { PROJECT_PHASES } from '../runner/project/phases.ts'
import { recoverAll } from '../runner/recovery.ts'
import type { Action, Requester } from '../schema/action.ts'
import type { Environment } from '../schema/environment.ts'
import type { Failure } from '../schema/failure.ts'
import type { MadeAttempt, Outcome } from '../schema/outcome.ts'
import { attemptsStay, stayingAttempts } from './attempts.ts'
import { type Change, keyOf } from './change-kinds.ts'
import type { Output } from './json.ts'
import { type Invocation, print, printFailure, printJson, printNote } from './terminal/output.ts'
import { openProgress, type ProgressView, UNDOING } from './terminal/progress.ts'
import { openElsewhere, whereabouts } from './whereabouts.ts'
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

const toAction = (change: Change, by: Requester = cliUser()) => ({ ...change, by, replyTo: null }) as Action

const commandOf = ({ kind }: Change): string => (kind === 'delete-checkpoint' ? 'checkpoint --delete' : kind)

const sentence = (text: string) => (/[.?]$/.test(text) ? text : `${text}.`)

/** A ticket without an environment may be mistyped, or have its machine on another host. */
const withHint = async (
  env: Invocation['terminal']['env'],
  config: Config,
  ticket: Ticket,
  outcome: Outcome,
): Promise<Outcome> => {
  if (outcome.result === 'done' || outcome.environment !== null) return outcome
  const { nearestTicket, withHints } = await import('./known.ts')
  if (outcome.result === 'failed') return { ...outcome, failure: await withHints(env, outcome.failure, ticket) }
  const { where } = await whereabouts(config, ticket)
  if (where !== null) return { ...outcome, reason: `${outcome.reason} here. ${where}` }
  const near = await nearestTicket(env, ticket)
  return near === null ? outcome : { ...outcome, reason: `${outcome.reason}. Did you mean ${near}?` }
}

const sshLine = (environment: Environment | null): string[] =>
  environment?.status === 'running' ? [`Open a shell: agent-swarm ssh ${environment.ticket}`] : []

/** After a fork: the branches, and what to do next. */
const attemptLines = (attempts: readonly MadeAttempt[]): string[] => {
  const [first] = attempts
  if (first === undefined) return []
  const branches = attempts.flatMap(({ ticket, branch }) => (branch === null ? [] : [`${ticket}: ${branch}`]))
  return [
    ...(branches.length === 0 ? [] : [`Branches: ${branches.join(', ')}`]),
    `Open a shell: agent-swarm ssh ${first.ticket}. Keep one: agent-swarm promote ${first.ticket}`,
  ]
}

/** The name is that of the folder in the line before. */
const bringBackLine = ({ rescued }: { rescued?: string | undefined }): string[] =>
  rescued === undefined ? [] : ['To bring it back: agent-swarm rescued restore NAME (agent-swarm rescued list)']

const AGAIN = 'Press Ctrl-C again to exit now; the next command or the runner recovers the operation.'
const interruptNotes: Readonly<Record<Change['kind'], string>> = {
  create: `undoing what was started. ${AGAIN}`,
  checkpoint: `undoing what was started. ${AGAIN}`,
  start: 'no longer waiting. The machine may still start.',
  stop: 'no longer waiting. The machine may still shut down.',
  restart: 'no longer waiting. The machine may be stopped.',
  restore: 'no longer waiting. The hypervisor may still finish it.',
  'delete-checkpoint': 'no longer waiting. The hypervisor may still finish it.',
  tell: 'stopping. See whether the agent got it: agent-swarm status',
  agent: 'stopping. See the state of the agent: agent-swarm status',
  delete: 'stopping. Nothing is deleted.',
  fork: `undoing what was started. ${AGAIN}`,
  promote: 'stopping. What is decided is finished by agent-swarm reconcile, or the runner.',
}

const interruptNote = ({ registry }: RunnerContext, { ticket, kind }: Change, phase: string | null): string => {
  const row = registry.environment(ticket)
  if (kind === 'create' && PROJECT_PHASES.includes(phase ?? ''))
    return `the machine stays. To go on with its project: agent-swarm create ${ticket}`
  if (phase === WAITING_PHASE) return 'nothing was started.'
  if (row?.status === 'deleting') return `the delete has been decided and is being finished. ${AGAIN}`
  return interruptNotes[effectiveKind(kind, row)]
}

/** `create --wait`. Null: there is room, as far as that can be told beforehand. */
const waitIfAsked = async (
  context: RunnerContext,
  { flags, quiet, signal }: Invocation,
  change: Change,
  progress: ProgressView,
): Promise<Outcome | null> => {
  if (flags.wait !== true || change.kind !== 'create') return null
  const { waitForRoom } = await import('./room-wait.ts')
  // In a line of its own: the live one is cut at the width of the terminal.
  const onWait = (why: string) => {
    if (!quiet) progress.note(`No room yet: ${why}`)
    progress.phase('waiting for room')
  }
  try {
    await waitForRoom(context, toAction(change), { signal, onWait })
    return null
  } catch (error) {
    return failed(failureOf(error, `create of ${change.ticket}`))
  }
}

const failed = (failure: Failure): Outcome => ({ result: 'failed', failure, environment: null })

type Performing = {
  /** Where it is not the person's own wish. */
  by?: Requester
  /** Asked just before it begins. Returns a failure where it must not. */
  refuse?: () => Promise<Failure | null>
}
/** Runs the change under the ticket's lock, and shows its phases. */
export const perform = async (
  context: RunnerContext,
  invocation: Invocation,
  change: Change,
  progress: ProgressView,
  { by, refuse = async () => null }: Performing = {},
): Promise<Outcome> => {
  const { signal, flags } = invocation
  const onFinished = (_: Ticket, summary: string) =>
    progress.note(`An interrupted operation is finished: ${sentence(summary)}`)
  for (const { ticket, failure } of await recoverAll(context, onFinished, change.ticket)) {
    progress.note(
      `An interrupted ${ticket === null ? 'image build, selftest or ready machine' : `operation on ${ticket}`} could not be recovered yet: ${sentence(failure.message)}`,
    )
  }
  let phase: string | null = null
  const onInterrupt = () => progress.note(`Interrupted: ${interruptNote(context, change, phase)}`)
  const attempt = async (): Promise<Outcome> => {
    const refusal = await refuse()
    if (refusal !== null) return failed(refusal)
    signal.addEventListener('abort', onInterrupt, { once: true })
    try {
      return await execute(context, toAction(change, by), {
        actionId: null,
        correlation: null,
        signal,
        onPhase: name => {
          phase = name
          progress.phase(name)
        },
      })
    } finally {
      signal.removeEventListener('abort', onInterrupt)
    }
  }
  while (true) {
    const outcome = (await waitIfAsked(context, invocation, change, progress)) ?? (await attempt())
    const isTaken = outcome.result === 'failed' && outcome.failure.needs !== undefined
    if (flags.wait !== true || !isTaken || signal.aborted) {
      progress.end(outcome.result !== 'failed' || (phase === UNDOING && outcome.environment === null))
      return outcome
    }
    // Another one took the room, or it is not free yet.
    progress.phase('waiting for room')
    await (await import('./room-wait.ts')).untilChange(context.registry, signal)
  }
}

/** What a command prints about one ticket with `--json`. */
type Shown = Output<'checkpoint'>

/** A delete says which attempts it leaves alone; `going`: all that the command deletes. */
const withAttempts = (context: RunnerContext, shown: Shown, going: readonly Ticket[]): Shown => {
  const staying = stayingAttempts(context.registry.attempts(shown.ticket), shown.ticket, going)
  if (staying.length === 0) return shown
  const text = attemptsStay('Its', staying)
  if (shown.result === 'done') return { ...shown, summary: `${shown.summary}. ${text}` }
  return shown.result === 'planned' ? { ...shown, would: [...shown.would, `change nothing else. ${text}`] } : shown
}

/** What it would do, or why nothing; with `--detach`, where it goes on. */
const planOrDetach = async (invocation: Invocation, context: RunnerContext, change: Change): Promise<Shown> => {
  const { ticket } = change
  // Planned first, so that a foreseeable failure and a change that does nothing are reported before anything runs in the background.
  const { planAction } = await import('../runner/plan.ts')
  const isWaiting = invocation.flags.wait === true
  const noRoom = isWaiting ? await (await import('./room-wait.ts')).missingRoom(context, toAction(change)) : null
  const plan =
    noRoom === null
      ? await planAction(context, toAction(change))
      : { would: [`wait for room (${noRoom})`, `create the machine of ${ticket}`] }
  if ('skipped' in plan) return { ticket, result: 'skipped', reason: plan.skipped }
  if (invocation.flags['dry-run'] === true) return { ticket, result: 'planned', would: plan.would }
  return (await import('./detach.ts')).detach(invocation, context, change)
}

/** A result for people. */
const textOf = (change: Change, shown: Exclude<Shown, { result: 'failed' }>): string => {
  const { ticket } = change
  switch (shown.result) {
    case 'planned':
      return [
        `Dry run: \`${commandOf(change)} ${keyOf(change)}\` would:`,
        ...shown.would.map(step => `  - ${step}`),
      ].join('\n')
    case 'detached':
      return `${shown.kind} of ${ticket} continues in the background (process ${shown.pid}). Progress: agent-swarm status ${ticket}`
    case 'skipped':
      // Only a plan has no environment at all.
      return sentence('environment' in shown ? shown.reason : `Nothing to do: ${shown.reason}`)
    case 'done': {
      const text = `${shown.summary} (${shown.seconds < 0.1 ? 'less than 0.1' : shown.seconds} s)`
      return [
        sentence(text),
        ...bringBackLine(shown),
        ...(STARTS.includes(change.kind) ? sshLine(shown.environment) : []),
        ...attemptLines(shown.attempts ?? []),
      ].join('\n')
    }
  }
}
const STARTS: readonly Change['kind'][] = ['create', 'start', 'restart']

const isForeground = ({ flags }: Invocation) => flags['dry-run'] !== true && flags.detach !== true

/** The change of one ticket. */
const changeOne = async (
  invocation: Invocation,
  context: RunnerContext,
  change: Change,
  progress: ProgressView | null,
  elsewhere: ReturnType<typeof openElsewhere>,
): Promise<Shown> => {
  const { kind, ticket } = change
  const refuse = async () =>
    kind === 'create' && context.registry.environment(ticket) === null ? elsewhere(ticket) : null
  if (progress === null) {
    const failure = await refuse()
    if (failure !== null) return { ticket, result: 'failed', failure, environment: null }
    return planOrDetach(invocation, context, change)
  }
  const outcome = await perform(context, invocation, change, progress, { refuse })
  const isForRunner = kind === 'tell' || kind === 'agent'
  if (isForRunner && outcome.result === 'done' && !isRunnerRunning(context.home))
    progress.note(
      'No runner runs with this home, and only it acts on this. Start it: agent-swarm up, or agent-swarm runner',
    )
  return { ticket, ...(await withHint(invocation.terminal.env, context.config, ticket, outcome)) }
}

/** Shows a result to people as soon as it is there. */
const show = ({ json, quiet, terminal }: Invocation, change: Change, shown: Shown): void => {
  if (shown.result === 'failed') printFailure(commandOf(change), shown.failure, terminal)
  // That a plan has no steps is data.
  else if (!json && (!quiet || (shown.result === 'skipped' && !('environment' in shown))))
    print(textOf(change, shown), terminal)
}

/** Runs the changes one after the other; all are tried. `isList`: `--json` prints an array. `whyNot`: a reason to skip one, when its turn comes. */
export const runChanges = async (
  invocation: Invocation,
  typed: readonly Change[],
  isList: boolean,
  whyNot: (context: RunnerContext, ticket: Ticket) => Promise<string | null> = async () => null,
): Promise<number> => {
  const { json, terminal } = invocation
  let progress: ProgressView | null = null
  const note = (text: string) => (progress === null ? printNote(text, terminal) : progress.note(text))
  return withRunnerContext(
    invocation,
    async context => {
      const all: Shown[] = []
      const elsewhere = openElsewhere(context.config, note)
      const going = typed.map(({ ticket }) => resolveTicket(context, ticket))
      for (const one of typed) {
        const change = { ...one, ticket: resolveTicket(context, one.ticket) }
        const { ticket } = change
        progress = isForeground(invocation) ? openProgress(invocation) : null
        if (isList && !invocation.quiet) progress?.note(`${ticket}:`)
        let shown: Shown
        try {
          // What runs in the background already goes on; nothing more is begun.
          if (invocation.signal.aborted && isList)
            throw fail('cancelled', `${one.kind} of ${ticket}: cancelled before it began`)
          const reason = await whyNot(context, ticket)
          shown =
            reason === null
              ? await changeOne(invocation, context, change, progress, elsewhere)
              : { ticket, result: 'skipped', reason }
          if (change.kind === 'delete') shown = withAttempts(context, shown, going)
        } catch (error) {
          progress?.end(false)
          if (!isList) throw error
          const { withHints } = await import('./known.ts')
          const failure = await withHints(terminal.env, failureOf(error, `${one.kind} of ${ticket}`), ticket)
          shown = { ticket, result: 'failed', failure, environment: null }
        }
        show(invocation, change, shown)
        all.push(shown)
      }
      const [first] = all
      if (json && isList) printJson<'create'>(all, terminal)
      else if (json && first !== undefined) printJson<'create'>(first, terminal)
      return all.some(({ result }) => result === 'failed') ? 1 : 0
    },
    note,
  )
}

/** A command on one ticket. */
export const runChange = (invocation: Invocation, typed: Change): Promise<number> =>
  runChanges(invocation, [typed], false)
