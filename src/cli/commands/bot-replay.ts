import { setTimeout as delay } from 'node:timers/promises'
import { fail } from '../../errors.ts'
import type { DeliveryRow } from '../../store/port.ts'
import { asJson, type Inbox, noBot, openInbox, told } from '../inbox.ts'
import { print, printJson, type RunCommand } from '../terminal/output.ts'

/** How long a decision is waited for. Milliseconds. */
const PATIENCE_MS = 15_000
const LOOK_MS = 200

/** The delivery, once it is decided or could not be. */
const decided = async ({ ask }: Inbox, id: string): Promise<DeliveryRow | undefined> => {
  const end = performance.now() + PATIENCE_MS
  while (true) {
    const [row] = await ask({ ask: 'deliveries', words: [id], limit: 1 })
    if (row === undefined || row.verdict !== 'waiting' || row.attempt > 0 || performance.now() > end) return row
    await delay(LOOK_MS)
  }
}

export const run: RunCommand = async invocation => {
  const [id = ''] = invocation.words
  const config = await invocation.config()
  const inbox = await openInbox(config)
  if (inbox === null) throw fail('refused', noBot(config))
  try {
    const replayed = await inbox.ask({ ask: 'replay', id })
    if (replayed === 'unknown') throw fail('refused', `no delivery has the id ${id}`, 'See: agent-swarm bot inbox')
    if (replayed === 'forgotten')
      throw fail(
        'refused',
        `${id} cannot be decided again: its payload is no longer kept`,
        'Ask for what it would have done: by a command on the pull request, or with agent-swarm.',
      )
    const waits = inbox.runs && replayed !== 'took effect'
    const row = waits ? await decided(inbox, id) : (await inbox.ask({ ask: 'deliveries', words: [id], limit: 1 }))[0]
    const became = row === undefined ? '' : `${row.verdict}: ${told(row, Date.now())}`
    if (invocation.json) printJson<'bot replay'>({ replayed, delivery: row === undefined ? null : asJson(row) })
    else if (replayed === 'took effect') print(`${id} took effect when it came, and nothing is done again. ${became}`)
    else if (!inbox.runs) print(`${id} is decided again when the bot starts.`)
    else if (replayed === 'in hand') print(`${id} was being decided already. ${became}`)
    else print(`${id} is decided again. ${became}`)
    return 0
  } finally {
    inbox.close()
  }
}
