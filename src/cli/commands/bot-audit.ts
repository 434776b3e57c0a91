import { ticketArgument } from '../arguments.ts'
import { iso, limitOf, withInbox } from '../inbox.ts'
import { print, printJson, printNote, type RunCommand, stripControls } from '../terminal/output.ts'
import { table } from '../terminal/table.ts'
import { personName, when } from '../terminal/text.ts'

export const run: RunCommand = async invocation => {
  const { flags, json, terminal } = invocation
  const limit = limitOf(invocation)
  const ticket = typeof flags.ticket === 'string' ? ticketArgument(flags.ticket) : null
  return withInbox(invocation, async inbox => {
    const rows = (await inbox?.ask({ ask: 'audit', ticket, limit })) ?? []
    if (json)
      printJson<'bot audit'>(
        rows.map(row => ({ ...row, at: iso(row.at) })),
        terminal,
      )
    else if (rows.length > 0) {
      const now = new Date()
      print(
        table(
          ['TIME', 'VERDICT', 'WHO', 'WHERE', 'TICKET', 'COMMAND', 'WHY'],
          rows.map(({ at, verdict, who, name, place, ticket, what, reason }) => [
            when(iso(at), now, terminal),
            verdict,
            personName({ who, name }) ?? '-',
            place,
            ticket ?? '-',
            stripControls(what),
            stripControls(reason),
          ]),
          terminal,
        ),
        terminal,
      )
    } else if (inbox !== null) printNote(ticket === null ? 'No commands yet.' : `No commands for ${ticket}.`, terminal)
    return 0
  })
}
