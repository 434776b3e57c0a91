/** Stored JSON of earlier versions, in today's words. */
import type { DatabaseSync } from 'node:sqlite'
import type { Ticket } from '../../domain.ts'
import type { CommentRef } from '../../schema/action.ts'
import { replyMessage } from '../messages.ts'
import type { Message } from '../port.ts'

/**
 * Members of outcomes, actions, environments and failures that have another name since, as JSON.stringify writes them. A quote
 * inside a text is escaped, so none of these occurs in one.
 */
const RENAMED = {
  '"said":': '"summary":',
  '"because":': '"reason":',
  '"kept":': '"rescued":',
  '"workAtRisk":': '"unsavedWork":',
  '"callsOff":': '"cancelsDelete":',
  '"kind":"work-at-risk"': '"kind":"unsaved-work"',
}

/** JSON of an outcome, an action or an environment. */
export const translate = (text: string): string =>
  Object.entries(RENAMED).reduce((rest, [before, now]) => rest.replaceAll(before, now), text)

/** The bodies of messages whose shape is another one since. */
type FormerBody =
  | { kind: 'reply'; repo: string; number: number; commentId: number }
  | { kind: 'jira-reply'; ticket: Ticket; commentId: string }
  | { kind: 'jira'; ticket: Ticket; about: string; text: string }
  | { kind: 'jira-link'; ticket: Ticket; repo: string; number: number }
  | { kind: 'action' }

/** Null for a message of a kind that no longer exists. */
const translateMessage = (key: string, body: FormerBody | Message['body']): Message | null => {
  if (body.kind === 'action') return null
  if (body.kind === 'jira-reply') return replyMessage({ ticket: body.ticket, commentId: body.commentId })
  if (body.kind === 'reply') return 'comment' in body ? { key, body } : replyMessage(body satisfies CommentRef)
  if (body.kind === 'jira') {
    const { ticket, about, text } = body
    return { key, body: { kind: 'jira-note', ticket, about, note: { kind: 'text', text } } }
  }
  if (body.kind === 'jira-link' && 'repo' in body) {
    const { ticket, repo, number } = body
    return { key, body: { kind: 'jira-link', ticket, pullRequest: { repo, number } } }
  }
  return { key, body }
}

/** The tables that `bot.db` had before it held everything. */
export const translateQueue = (db: DatabaseSync): void => {
  const setAction = db.prepare('update action set payload = ?, outcome = ? where seq = ?')
  for (const { seq, payload, outcome } of db.prepare('select seq, payload, outcome from action').all()) {
    setAction.run(translate(String(payload)), outcome === null ? null : translate(String(outcome)), Number(seq))
  }
  const drop = db.prepare('delete from outbox where seq = ?')
  const setMessage = db.prepare('update outbox set key = ?, body = ? where seq = ?')
  for (const { seq, key, body } of db.prepare('select seq, key, body from outbox').all()) {
    const message = translateMessage(String(key), JSON.parse(String(body)))
    if (message === null) drop.run(Number(seq))
    else setMessage.run(message.key, JSON.stringify(message.body), Number(seq))
  }
}
