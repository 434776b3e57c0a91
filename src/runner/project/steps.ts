/** Setup and start of a project in a machine: put there, begun, waited for, and how they ended. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Ticket } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import type { Project, ProjectStep } from '../../schema/environment.ts'
import { answered, askGuest, type Guest, readScript } from './guest.ts'
import type { Plan, Step } from './workspace.ts'

/** How long setup may take, by the clock of the machine. */
const SETUP_MINUTES = 30
/** The same by the clock of the host, restarts of the machine included: a machine may never say that setup has ended. */
const SETUP_LIMIT_MINUTES = SETUP_MINUTES + 5
/** How long one look waits in the machine. */
const WAIT_SECONDS = 40
/** Before the next look, since a machine may answer without waiting. */
const PAUSE_MS = 1_000
/** A start that fails does so soon. */
const START_SECONDS = 3
/** How long a start may take until its ports listen. One of them may be a port that only people open. */
const PORTS_MINUTES = 5
/** How long a start without ports is watched: most run for as long as the machine does. */
const WATCH_MINUTES = 1
/** Setup may restart the network or the machine. */
const LOST_CONNECTIONS = 5

const STATE = /^(?:(ended) (\d{1,3})|(running|gone) -) (\d{1,11}) (?:\d{1,11}|-)$/

/** What the machine says of a step. Anything unforeseen counts as a failure without an exit status. */
export const parseStep = (text: string, source: string, now: Date): ProjectStep => {
  const [, ended, exit, other, began] = text.match(STATE) ?? []
  const startedAt = began === undefined ? now.toISOString() : new Date(Number(began) * 1000).toISOString()
  if (other === 'running') return { state: 'running', source, exit: null, startedAt, seconds: null }
  if (ended === undefined || Number(exit) > 255)
    return { state: 'failed', source, exit: null, startedAt, seconds: null }
  const seconds = Math.max(0, Number(text.slice(text.lastIndexOf(' ') + 1)) - Number(began))
  return { state: exit === '0' ? 'done' : 'failed', source, exit: Number(exit), startedAt, seconds }
}

/** Shell lines that set the variables. Names and values are checked by the form. */
const exportLines = (env: Plan['env']): string =>
  Object.entries(env)
    .map(([name, value]) => `export ${name}='${value.replaceAll("'", "'\\''")}'\n`)
    .join('')

/** `again`: what has run here for another commit, or by another plan, counts as not begun. */
export const installSteps = async (
  guest: Guest,
  plan: Plan,
  signal: AbortSignal,
  { again }: { again: boolean },
): Promise<void> => {
  const { path, env, setup, start } = plan
  const variables = {
    ...{
      again: again ? '1' : '',
      path,
      env: exportLines(env),
      setup: setup?.commands ?? '',
      start: start?.commands ?? '',
    },
    ...{ minutes: String(SETUP_MINUTES), runner: readScript('step.sh'), shell: readScript('profile.sh') },
  }
  await askGuest(guest, 'install.sh', { variables }, { signal })
}

type Name = 'setup' | 'start'
/** `branch` null: none is checked out. A step that is not there, or did not begin, is null. */
export type Reached = { branch: string | null; isListening: boolean } & Record<Name, string | null>

/** Begins a step unless it began, and waits until one has ended, or until its ports listen. */
export const lookAtSteps = async (
  guest: Guest,
  path: string,
  {
    begin = '',
    wait = '',
    ports = [],
    seconds = 0,
  }: { begin?: Name | ''; wait?: Name | ''; ports?: readonly number[]; seconds?: number },
  signal: AbortSignal,
): Promise<Reached> => {
  const variables = { path, begin, wait, ports: ports.join(' '), seconds: String(seconds) }
  const answer = await askGuest(guest, 'state.sh', { variables }, { signal })
  const text = (word: string) => answered(answer, word) || null
  const isListening = text('listening') !== null
  return { branch: text('branch'), isListening, setup: text('setup'), start: text('start') }
}

const neverBegan = (name: Name) => fail('unknown', `${name} did not begin`)

type SetupOptions = {
  signal: AbortSignal
  clock: () => Date
  onLost: () => Promise<void>
  limitMinutes?: number
}

/**
 * Runs setup to its end. What an interrupted attempt began is waited for, or done again when the machine was restarted. Throws
 * `timeout` when the machine still says that it is running after the limit: the caller stops it.
 */
export const runSetup = async (
  guest: Guest,
  path: string,
  { source }: Step,
  { signal, clock, onLost, limitMinutes = SETUP_LIMIT_MINUTES }: SetupOptions,
): Promise<ProjectStep> => {
  const until = performance.now() + limitMinutes * 60_000
  let lost = 0
  while (true) {
    try {
      const { setup } = await lookAtSteps(guest, path, { begin: 'setup', wait: 'setup', seconds: WAIT_SECONDS }, signal)
      if (setup === null) throw neverBegan('setup')
      const step = parseStep(setup, source, clock())
      if (step.state !== 'running') return step
    } catch (error) {
      lost += 1
      if (failureOf(error, '').kind !== 'guest-unreachable' || lost > LOST_CONNECTIONS) throw error
      await onLost()
    }
    if (performance.now() > until) throw fail('timeout', `setup did not end within ${limitMinutes} minutes`)
    await delay(PAUSE_MS, undefined, { signal })
  }
}

/** Begins start, and waits a moment, so that what cannot start is noticed. */
export const beginStart = async (
  guest: Guest,
  path: string,
  { source }: Step,
  { signal, clock }: { signal: AbortSignal; clock: () => Date },
): Promise<ProjectStep> => {
  const { start } = await lookAtSteps(guest, path, { begin: 'start', wait: 'start', seconds: START_SECONDS }, signal)
  if (start === null) throw neverBegan('start')
  return parseStep(start, source, clock())
}

/**
 * Waits until a start that began is where it stays: its ports listen, or it has failed. One without ports has ended, or ran for a
 * while. Where the limit is reached first, that is how it is.
 */
export const waitForStart = async (
  guest: Guest,
  { path, ports }: Pick<Plan, 'path' | 'ports'>,
  { source }: Step,
  { signal, clock, limitMinutes = ports.length === 0 ? WATCH_MINUTES : PORTS_MINUTES }: Omit<SetupOptions, 'onLost'>,
): Promise<ProjectStep> => {
  const until = performance.now() + limitMinutes * 60_000
  while (true) {
    const seconds = Math.min(WAIT_SECONDS, Math.ceil(Math.max(0, until - performance.now()) / 1_000))
    const { start, isListening } = await lookAtSteps(guest, path, { wait: 'start', ports, seconds }, signal)
    if (start === null) throw neverBegan('start')
    const step = parseStep(start, source, clock())
    const isSettled = step.state === 'failed' || isListening || (step.state === 'done' && ports.length === 0)
    if (isSettled || performance.now() > until) return step
    await delay(PAUSE_MS, undefined, { signal })
  }
}

const titles = { setup: 'Setup', start: 'Start' } as const

/** `Setup (config.yaml) failed with exit status 1 after 12 s`, and where its log is. */
export const describeStep = (ticket: Ticket, name: Name, step: Project['setup']): string | null => {
  if (step === null) return null
  const what = `${titles[name]} (${step.source})`
  if (step.state === 'running') return `${what} is running`
  if (step.state === 'done') return `${what} ended after ${step.seconds} s`
  const how =
    step.exit === null ? 'did not end by itself' : `failed with exit status ${step.exit} after ${step.seconds} s`
  return `${what} ${how}: agent-swarm logs ${ticket} --${name}`
}
