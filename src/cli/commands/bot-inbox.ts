import { aboutOf } from '../../bot/inbox/lanes.ts'
import { eventText, iso, limitOf, resultText, toJson, withInbox } from '../inbox.ts'
import { print, printJson, printNote, type RunCommand, stripControls } from '../terminal/output.ts'
import { table } from '../terminal/table.ts'
import { shortIds, when } from '../terminal/text.ts'

export const run: RunCommand = async invocation => {
  const { json, terminal, words } = invocation
  const limit = limitOf(invocation)
  return withInbox(invocation, async inbox => {
    const rows = (await inbox?.ask({ ask: 'deliveries', words, limit })) ?? []
    if (json) printJson<'bot inbox'>(rows.map(toJson), terminal)
    else if (rows.length > 0) {
      const now = new Date()
      const shortId = shortIds(
        rows.map(row => row.id),
        terminal,
      )
      print(
        table(
          ['RECEIVED', 'VERDICT', { title: 'ID', whole: true }, 'EVENT', 'ABOUT', 'RESULT'],
          rows.map(row => [
            when(iso(row.receivedAt), now, terminal),
            row.verdict,
            shortId(row.id),
            eventText(row),
            stripControls(aboutOf(row.lane) ?? '-'),
            resultText(row, now.getTime()),
          ]),
          terminal,
        ),
        terminal,
      )
    } else if (inbox !== null) printNote(words.length === 0 ? 'No deliveries yet.' : 'No deliveries match.', terminal)
    return 0
  })
}
