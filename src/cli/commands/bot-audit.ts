import { iso, limitOf, noBot, openInbox } from '../inbox.ts'
import {
  age,
  columns,
  print,
  printJson,
  printNote,
  type RunCommand,
  stripControls,
  ticketArgument,
} from '../terminal/output.ts'

export const run: RunCommand = async invocation => {
  const limit = limitOf(invocation)
  const { ticket: named } = invocation.flags
  const ticket = typeof named === 'string' ? ticketArgument(named) : null
  const config = await invocation.config()
  const inbox = await openInbox(config)
  if (inbox === null) {
    printNote(noBot(config))
    if (invocation.json) printJson<'bot audit'>([])
    return 0
  }
  try {
    const lines = await inbox.ask({ ask: 'audit', ticket, limit })
    if (invocation.json) printJson<'bot audit'>(lines.map(one => ({ ...one, at: iso(one.at) })))
    else if (lines.length === 0)
      printNote(ticket === null ? 'Nobody gave a command yet.' : `Nobody gave a command for ${ticket}.`)
    else {
      const now = new Date()
      print(
        columns([
          ['AGE', 'VERDICT', 'WHO', 'WHERE', 'TICKET', 'COMMAND', 'WHY'],
          ...lines.map(one => [
            age(iso(one.at), now),
            one.verdict,
            stripControls(one.who),
            one.place,
            one.ticket ?? '-',
            stripControls(one.what),
            stripControls(one.reason),
          ]),
        ]),
      )
    }
    return 0
  } finally {
    inbox.close()
  }
}
