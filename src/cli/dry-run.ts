/** A dry run as a person reads it. */
import type { Show, Shown } from '../bot/dry-run.ts'
import { type Invocation, plain, print } from './command.ts'
import type { Output } from './output.ts'

const said = (body: unknown): string =>
  typeof body === 'object' && body !== null && 'body' in body && typeof body.body === 'string'
    ? body.body
    : JSON.stringify(body)
const indented = (text: string) =>
  text
    .split('\n')
    .map(line => `    ${plain(line)}`)
    .join('\n')

const asText = (shown: Shown): string => {
  if (shown.what === 'request') {
    const { to, method, path, body } = shown
    return `would send ${to}: ${method} ${path}${body === null ? '' : `\n${indented(said(body))}`}`
  }
  const { source, event, id, verdict, reason, actions } = shown
  return [
    plain(`${source} ${event} ${id}: ${verdict}${reason === null ? '' : `: ${reason}`}`),
    ...actions.map(one => `  would queue: ${plain(JSON.stringify(one.action))}`),
  ].join('\n')
}

/** Where `--dry-run` shows what would be done; null without it. */
export const dryRun = ({ flags, json }: Invocation): Show | null =>
  flags['dry-run'] !== true
    ? null
    : shown => print(json ? JSON.stringify(shown satisfies Output<'bot' | 'up'>) : asText(shown))

export const DRY_RUN_SAYS =
  'This is a dry run: everything is decided and nothing is done. What is delivered is kept, and the next start without --dry-run acts on it.'
