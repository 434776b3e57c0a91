/** `bot --dry-run` and `up --dry-run`: what the bot would do, as text or JSON. */
import type { Show, Shown } from '../bot/dry-run.ts'
import type { AdfNode } from '../bot/jira/adf.ts'
import { visibleJson } from '../visible-json.ts'
import type { Output } from './json.ts'
import { type Invocation, print, stripControls } from './terminal/output.ts'

/** The text of a Jira document: one line for each paragraph, table row and line of code. */
const textOf = ({ type, text = '', content = [] }: AdfNode): string => {
  if (type === 'tableRow') return `| ${content.map(cell => textOf(cell).trim()).join(' | ')} |\n`
  const inner = text + content.map(textOf).join('')
  if (type === 'rule') return '---\n'
  return ['paragraph', 'heading', 'codeBlock'].includes(type) ? `${inner}\n` : inner
}
const isDocument = (body: object): body is AdfNode => 'type' in body && body.type === 'doc'
/** The text that a request would write; its JSON when it has none. */
const writtenText = (request: unknown): string => {
  const body = typeof request === 'object' && request !== null && 'body' in request ? request.body : null
  if (typeof body === 'string') return body
  return typeof body === 'object' && body !== null && isDocument(body)
    ? textOf(body).trimEnd()
    : JSON.stringify(request)
}
const indent = (text: string) =>
  text
    .split('\n')
    .map(line => `    ${stripControls(line)}`)
    .join('\n')

const toText = (shown: Shown): string => {
  if (shown.what === 'request') {
    const { to, method, path, body } = shown
    return `would send to ${to}: ${method} ${path}${body === null ? '' : `\n${indent(writtenText(body))}`}`
  }
  const { source, event, id, verdict, reason, actions } = shown
  return [
    stripControls(`${source} ${event} ${id}: ${verdict}${reason === null ? '' : `: ${reason}`}`),
    ...actions.map(({ action }) => `  would queue: ${stripControls(JSON.stringify(action))}`),
  ].join('\n')
}

/** Prints what the bot would do; null without `--dry-run`. */
export const dryRunShow = ({ flags, json, terminal }: Pick<Invocation, 'flags' | 'json' | 'terminal'>): Show | null =>
  flags['dry-run'] !== true
    ? null
    : shown => print(json ? visibleJson(JSON.stringify(shown satisfies Output<'bot' | 'up'>)) : toText(shown), terminal)

export const DRY_RUN_NOTE =
  'Dry run: everything is decided and nothing is done. Deliveries are kept, and the next start without --dry-run acts on them.'
