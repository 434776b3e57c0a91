import { setTimeout as delay } from 'node:timers/promises'
import { fail } from '../../errors.ts'
import { type DeliveryRow, isHeldId } from '../../store/port.ts'
import { counted } from '../../words.ts'
import { type Inbox, resultText, toJson, withInbox } from '../inbox.ts'
import { type Invocation, print, printJson, type RunCommand } from '../terminal/output.ts'

/** How long the command waits for the decision. Milliseconds. */
const DECIDED_WITHIN_MS = 15_000
const POLL_MS = 200
/** Deliveries that a shortened id is looked up in. */
const SEARCHED = 10_000

const find = async ({ ask }: Inbox, id: string): Promise<DeliveryRow | undefined> =>
  (await ask({ ask: 'deliveries', words: [id], limit: 1 }))[0]

/** The delivery after its decision or a failed attempt. */
const decided = async (inbox: Inbox, id: string): Promise<DeliveryRow | undefined> => {
  const end = performance.now() + DECIDED_WITHIN_MS
  while (true) {
    const row = await find(inbox, id)
    if (row?.verdict !== 'waiting' || row.attempt > 0 || performance.now() > end) return row
    await delay(POLL_MS)
  }
}

/** The id that `typed` is, or is the only beginning of. */
const wholeId = async (inbox: Inbox, typed: string): Promise<string> => {
  if ((await find(inbox, typed)) !== undefined) return typed
  const rows = await inbox.ask({ ask: 'deliveries', words: [], limit: SEARCHED })
  const [id, ...others] = [...new Set(rows.map(row => row.id))].filter(id => id.startsWith(typed))
  if (others.length > 0)
    throw fail('usage', `"${typed}" matches ${counted(others.length + 1, 'delivery id')}.`, 'Type more of it.')
  return id ?? typed
}

/** What a restored backup had queued. */
const replayHeld = async (inbox: Inbox, id: string, { json, terminal }: Invocation): Promise<number> => {
  const replayed = await inbox.ask({ ask: 'replay', id })
  if (replayed !== 'again' && replayed !== 'had-effect')
    throw fail('refused', `nothing is held as ${id}`, 'See: agent-swarm bot held')
  if (json) printJson<'bot replay'>({ replayed, delivery: null }, terminal)
  else if (replayed === 'had-effect') print(`${id} is queued already; nothing is repeated.`, terminal)
  else print(inbox.runs ? `${id} is queued again.` : `${id} will be carried out when the bot runs.`, terminal)
  return 0
}

export const run: RunCommand = invocation =>
  withInbox(invocation, async inbox => {
    const { json, terminal } = invocation
    const [typed = ''] = invocation.words
    if (inbox === null) throw fail('refused', `no delivery has the id ${typed}`)
    if (isHeldId(typed)) return replayHeld(inbox, typed, invocation)
    const id = await wholeId(inbox, typed)
    const replayed = await inbox.ask({ ask: 'replay', id })
    if (replayed === 'unknown') throw fail('refused', `no delivery has the id ${id}`, 'See: agent-swarm bot inbox')
    if (replayed === 'no-payload')
      throw fail(
        'refused',
        `${id} cannot be decided again: its payload is no longer kept`,
        'Run the command that it would have led to: in a comment, or with agent-swarm.',
      )
    const isDecidedNow = inbox.runs && replayed !== 'had-effect'
    const row = isDecidedNow ? await decided(inbox, id) : await find(inbox, id)
    const result = row === undefined ? '' : ` ${row.verdict}: ${resultText(row, Date.now())}`
    if (json) printJson<'bot replay'>({ replayed, delivery: row === undefined ? null : toJson(row) }, terminal)
    else if (replayed === 'had-effect') print(`${id} already had its effect; nothing is repeated.${result}`, terminal)
    else if (!inbox.runs) print(`${id} will be decided again when the bot starts.`, terminal)
    else if (replayed === 'in-progress') print(`${id} is already being decided.${result}`, terminal)
    else print(`${id} was decided again.${result}`, terminal)
    return 0
  })
