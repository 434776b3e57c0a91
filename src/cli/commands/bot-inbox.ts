import { aboutOf } from '../../bot/inbox/lanes.ts'
import { asJson, eventOf, limitOf, noBot, openInbox, told } from '../inbox.ts'
import { age, columns, print, printJson, printNote, type RunCommand, stripControls } from '../terminal/output.ts'

export const run: RunCommand = async invocation => {
  const limit = limitOf(invocation)
  const config = await invocation.config()
  const inbox = await openInbox(config)
  if (inbox === null) {
    printNote(noBot(config))
    if (invocation.json) printJson<'bot inbox'>([])
    return 0
  }
  try {
    const rows = await inbox.ask({ ask: 'deliveries', words: invocation.words, limit })
    if (invocation.json) printJson<'bot inbox'>(rows.map(asJson))
    else if (rows.length === 0)
      printNote(invocation.words.length === 0 ? 'Nothing was delivered yet.' : 'No delivery is like that.')
    else {
      const now = new Date()
      print(
        columns([
          ['AGE', 'VERDICT', 'ID', 'EVENT', 'ABOUT', 'WHAT CAME OF IT'],
          ...rows.map(row => [
            age(new Date(row.receivedAt).toISOString(), now),
            row.verdict,
            row.id,
            eventOf(row),
            stripControls(aboutOf(row.lane) ?? '-'),
            told(row, now.getTime()),
          ]),
        ]),
      )
    }
    return 0
  } finally {
    inbox.close()
  }
}
