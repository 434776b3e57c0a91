import { age, columns, plain, print, printJson, type RunCommand, tell, ticketArgument } from './command.ts'
import { iso, limitOf, noBot, openInbox } from './inbox.ts'

export const run: RunCommand = async invocation => {
  const limit = limitOf(invocation)
  const { ticket: named } = invocation.flags
  const ticket = typeof named === 'string' ? ticketArgument(named) : null
  const config = await invocation.config()
  const inbox = await openInbox(config)
  if (inbox === null) {
    tell(noBot(config))
    if (invocation.json) printJson<'bot audit'>([])
    return 0
  }
  try {
    const lines = await inbox.ask({ ask: 'audit', ticket, limit })
    if (invocation.json) printJson<'bot audit'>(lines.map(one => ({ ...one, at: iso(one.at) })))
    else if (lines.length === 0)
      tell(ticket === null ? 'Nobody gave a command yet.' : `Nobody gave a command for ${ticket}.`)
    else {
      const now = new Date()
      print(
        columns([
          ['AGE', 'VERDICT', 'WHO', 'WHERE', 'TICKET', 'COMMAND', 'WHY'],
          ...lines.map(one => [
            age(iso(one.at), now),
            one.verdict,
            plain(one.who),
            one.place,
            one.ticket ?? '-',
            plain(one.what),
            plain(one.reason),
          ]),
        ]),
      )
    }
    return 0
  } finally {
    inbox.close()
  }
}
