/** A dry run as a person reads it. */
import type { Show, Shown } from '../bot/dry-run.ts'
import type { AdfNode } from '../bot/publish/text.ts'
import type { Output } from './json.ts'
import { type Invocation, print, stripControls } from './terminal/output.ts'

/** What a document of Jira's says, a paragraph, a row or a line of a listing on a line of its own. */
const textOf = ({ type, text = '', content = [] }: AdfNode): string => {
  if (type === 'tableRow') return `| ${content.map(cell => textOf(cell).trim()).join(' | ')} |\n`
  const within = text + content.map(textOf).join('')
  if (type === 'rule') return '---\n'
  return ['paragraph', 'heading', 'codeBlock'].includes(type) ? `${within}\n` : within
}
const isDocument = (body: object): body is AdfNode => 'type' in body && body.type === 'doc'
const said = (whole: unknown): string => {
  const body = typeof whole === 'object' && whole !== null && 'body' in whole ? whole.body : null
  if (typeof body === 'string') return body
  return typeof body === 'object' && body !== null && isDocument(body) ? textOf(body).trimEnd() : JSON.stringify(whole)
}
const indented = (text: string) =>
  text
    .split('\n')
    .map(line => `    ${stripControls(line)}`)
    .join('\n')

const asText = (shown: Shown): string => {
  if (shown.what === 'request') {
    const { to, method, path, body } = shown
    return `would send ${to}: ${method} ${path}${body === null ? '' : `\n${indented(said(body))}`}`
  }
  const { source, event, id, verdict, reason, actions } = shown
  return [
    stripControls(`${source} ${event} ${id}: ${verdict}${reason === null ? '' : `: ${reason}`}`),
    ...actions.map(one => `  would queue: ${stripControls(JSON.stringify(one.action))}`),
  ].join('\n')
}

/** Where `--dry-run` shows what would be done; null without it. */
export const dryRun = ({ flags, json }: Invocation): Show | null =>
  flags['dry-run'] !== true
    ? null
    : shown => print(json ? JSON.stringify(shown satisfies Output<'bot' | 'up'>) : asText(shown))

export const DRY_RUN_SAYS =
  'This is a dry run: everything is decided and nothing is done. What is delivered is kept, and the next start without --dry-run acts on it.'
