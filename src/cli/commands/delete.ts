/** Deletes machines: of the tickets that are named, or all stopped ones. */
import type { Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { listEnvironments, type RunnerContext } from '../../runner/context.ts'
import { observe } from '../../runner/machine.ts'
import { counted } from '../../words.ts'
import { machineArguments } from '../arguments.ts'
import { attemptsStay, stayingAttempts } from '../attempts.ts'
import { runChanges } from '../change.ts'
import { canAsk, requireConsent } from '../terminal/confirm.ts'
import { type Invocation, printJson, printNote, type RunCommand } from '../terminal/output.ts'
import { withRunnerContext } from '../with-context.ts'

const USAGE = 'Usage: agent-swarm delete <TICKET>... | --stopped [--older-than AGE]'
const HOUR_MS = 60 * 60_000
const UNITS: Readonly<Record<string, number>> = { h: HOUR_MS, d: 24 * HOUR_MS, w: 7 * 24 * HOUR_MS }

/** `7d` in milliseconds. */
const ageArgument = (text: string): number => {
  const [, count = '', unit = ''] = text.match(/^([1-9]\d{0,4})([hdw])$/) ?? []
  const ms = Number(count) * (UNITS[unit] ?? 0)
  if (ms > 0) return ms
  throw fail('usage', `"${text}" is not an age. Use hours, days or weeks, for example 12h, 7d or 2w.`, USAGE)
}

/** Nobody starts a machine without one of these; the last four wake one that sleeps. */
const STARTS = ['create', 'start', 'restart', 'restore', 'checkpoint', 'fork', 'tell', 'agent']
/** Operations of one ticket that are looked through. */
const HISTORY = 200

/** When the machine was stopped, epoch ms; null when agent-swarm did not stop it, no longer knows, or noted a time to come. */
const stoppedAt = ({ registry, clock }: RunnerContext, ticket: Ticket): number | null => {
  for (const { kind, result, endedAt } of registry.operations(ticket, HISTORY)) {
    if (STARTS.includes(kind)) return null
    if (kind !== 'stop' || result !== 'done' || endedAt === null) continue
    const at = Date.parse(endedAt)
    return at <= clock().getTime() ? at : null
  }
  return null
}

/** The tickets of the stopped machines, of those that stopped at least `age` ms ago. */
const stoppedTickets = (invocation: Invocation, age: number | null): Promise<Ticket[]> =>
  withRunnerContext(invocation, async context => {
    const { terminal } = invocation
    const { environments, unread } = await listEnvironments(context, { usage: false })
    for (const { message } of unread) printNote(`${message}\nIts machines are left out.`, terminal)
    const unreadable = new Set(unread.map(({ provider }) => provider))
    const stopped = environments
      .filter(({ status, provider }) => status === 'stopped' && !unreadable.has(provider))
      .map(({ ticket }) => ticket)
    if (age === null) return stopped
    const times = stopped.map(ticket => ({ ticket, at: stoppedAt(context, ticket) }))
    const unknown = times.filter(({ at }) => at === null).map(({ ticket }) => ticket)
    if (unknown.length > 0)
      printNote(`Left out, because it is not known when they were stopped: ${unknown.join(', ')}`, terminal)
    const before = context.clock().getTime() - age
    return times.flatMap(({ ticket, at }) => (at !== null && at <= before ? [ticket] : []))
  })

const choose = async (invocation: Invocation): Promise<Ticket[]> => {
  const { words, flags, terminal } = invocation
  const olderThan = flags['older-than']
  if (flags.stopped !== true) {
    if (olderThan !== undefined) throw fail('usage', '--older-than needs --stopped', USAGE)
    if (words.length === 0) throw fail('usage', 'Missing argument <TICKET>.', USAGE)
    return machineArguments(words, terminal)
  }
  if (words.length > 0) throw fail('usage', '--stopped deletes every stopped machine: name no ticket with it', USAGE)
  const age = typeof olderThan === 'string' ? ageArgument(olderThan) : null
  if (flags.yes !== true && flags['dry-run'] !== true && !canAsk(terminal))
    throw fail('usage', 'delete --stopped needs --yes where nobody can be asked', USAGE)
  return stoppedTickets(invocation, age)
}

const askFirst = async (tickets: readonly Ticket[], invocation: Invocation): Promise<void> => {
  const { flags, terminal } = invocation
  const what =
    tickets.length === 1
      ? `the machine of ${tickets[0]} with its checkpoints`
      : `${counted(tickets.length, 'machine')} with their checkpoints: ${tickets.join(', ')}`
  const { knownEnvironments } = await import('../known.ts')
  const known = (await knownEnvironments(terminal.env)).map(({ ticket }) => ticket)
  const staying = tickets.flatMap(ticket => stayingAttempts(known, ticket, tickets))
  const stay = staying.length === 0 ? '' : ` ${attemptsStay(tickets.length === 1 ? 'Its' : 'Their', staying)}`
  const work = flags.force === true ? ' Unsaved work is lost.' : ''
  await requireConsent(`Delete ${what}?${stay}${work}`, 'delete', invocation)
}

/** Since the list was made, somebody may have started it. */
const whyNotStopped = async (context: RunnerContext, ticket: Ticket): Promise<string | null> => {
  const row = context.registry.environment(ticket)
  if (row === null || (await observe(await context.provider(row.provider), row)) === 'stopped') return null
  return `${ticket} is not stopped any more`
}

export const run: RunCommand = async invocation => {
  const { flags, json, quiet, terminal } = invocation
  const tickets = await choose(invocation)
  const isList = flags.stopped === true || tickets.length > 1
  if (tickets.length === 0) {
    if (json) printJson<'delete'>([], terminal)
    else if (!quiet) printNote('No stopped machine matches; nothing to delete.', terminal)
    return 0
  }
  await askFirst(tickets, invocation)
  const force = flags.force === true
  return runChanges(
    invocation,
    tickets.map(ticket => ({ kind: 'delete', ticket, force })),
    isList,
    flags.stopped === true ? whyNotStopped : undefined,
  )
}
