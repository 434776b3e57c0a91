import type { MessageBody } from '../../store/port.ts'
import { iso, limitOf, withInbox } from '../inbox.ts'
import { print, printJson, printNote, type RunCommand, stripControls } from '../terminal/output.ts'
import { table } from '../terminal/table.ts'
import { when } from '../terminal/text.ts'

/** The ticket or pull request that a message is for. */
const placeOf = (body: MessageBody): string => {
  const about = body.kind === 'reply' ? body.comment : 'pullRequest' in body ? body.pullRequest : body
  if ('repo' in about && 'number' in about) return `${about.repo}#${about.number}`
  if ('ticket' in about) return about.ticket
  return 'repo' in about ? about.repo : '-'
}

export const run: RunCommand = async invocation => {
  const { json, terminal } = invocation
  const limit = limitOf(invocation)
  return withInbox(invocation, async inbox => {
    const rows = ((await inbox?.ask({ ask: 'held', limit })) ?? []).map(({ id, createdAt, action, message }) => ({
      ...{ id, createdAt: createdAt === null ? null : iso(createdAt) },
      kind: action === null ? ('message' as const) : ('action' as const),
      about: action === null ? placeOf(message) : action.ticket,
      what: action === null ? message.kind : action.kind,
    }))
    if (json) printJson<'bot held'>(rows, terminal)
    else if (rows.length > 0) {
      const now = new Date()
      print(
        table(
          ['QUEUED', { title: 'ID', whole: true }, 'KIND', 'ABOUT', 'WHAT'],
          rows.map(({ id, createdAt, kind, about, what }) => [
            createdAt === null ? '-' : when(createdAt, now, terminal),
            ...[id, kind, stripControls(about), what],
          ]),
          terminal,
        ),
        terminal,
      )
    } else if (inbox !== null) printNote('Nothing is held.', terminal)
    return 0
  })
}
