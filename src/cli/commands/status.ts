import type { Ticket } from '../../domain.ts'
import { type RunnerContext, resolveTicket } from '../../runner/context.ts'
import { machineArgument } from '../arguments.ts'
import type { Reading } from '../status/processors.ts'
import { ticketPage, ticketStatus } from '../status/ticket.ts'
import { type Invocation, printJson, printNote, type RunCommand } from '../terminal/output.ts'
import { draw } from '../terminal/redraw.ts'
import { withRunnerContext } from '../with-context.ts'

const showHost = async (context: RunnerContext, invocation: Invocation): Promise<void> => {
  const { flags, json, terminal } = invocation
  const { hostPage, hostStatus } = await import('../status/host.ts')
  if (json && flags.watch !== true) {
    printJson<'status'>((await hostStatus(context, null)).status, terminal)
    return
  }
  let before: Reading | null = null
  await draw(invocation, async () => {
    const { reading, status } = await hostStatus(context, before)
    before = reading
    return hostPage(status, context.home, { now: context.clock(), terminal })
  })
}

const showTicket = async (context: RunnerContext, invocation: Invocation, ticket: Ticket): Promise<void> => {
  const { flags, json, terminal } = invocation
  if (json && flags.watch !== true) {
    printJson<'status'>((await ticketStatus(context, ticket)).status, terminal)
    return
  }
  await draw(invocation, async () => {
    const { unread, status } = await ticketStatus(context, ticket)
    const notes = unread.map(message => `${message}\nThe rest of this page shows the last known state.\n`)
    return [...notes, ticketPage(status, context.home, { now: context.clock(), terminal })].join('\n')
  })
}

/** The bot is asked where the machine is that this home has none of. */
const showElsewhere = async ({ config }: RunnerContext, { terminal }: Invocation, ticket: Ticket): Promise<void> => {
  const { where, wayOn } = await (await import('../whereabouts.ts')).whereabouts(config, ticket)
  const lines = [where === null ? null : `${where}.`, wayOn].filter(line => line !== null)
  if (lines.length > 0) printNote(lines.join('\n'), terminal)
}

export const run: RunCommand = async invocation => {
  const [word] = invocation.words
  const typed = word === undefined ? null : await machineArgument(word, invocation.terminal)
  return withRunnerContext(invocation, async context => {
    if (typed === null) {
      await showHost(context, invocation)
      return 0
    }
    const ticket = resolveTicket(context, typed)
    await showTicket(context, invocation, ticket)
    if (context.registry.environment(ticket) === null) await showElsewhere(context, invocation, ticket)
    return 0
  })
}
