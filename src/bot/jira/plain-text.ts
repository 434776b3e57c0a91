/**
 * The text of a document of Jira (ADF), for a reader without Jira: an agent. Foreign and bounded. Pure.
 * https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/
 */
import { list, member, text } from './answers.ts'

const MAX_NODES = 20_000
const MAX_DEPTH = 40
const MAX_CHARACTERS = 30_000

/** A heading, a bold line or a plain one that says nothing else. */
const ACCEPTANCE = /^(?:#{1,6} |h[1-6]\. )?\**acceptance criteria\**:?\**$/i
const HEADING = /^(?:#{1,6} |h[1-6]\. )/

/** Without what a terminal or a file has no use for. */
const clean = (written: string): string =>
  written
    .slice(0, MAX_CHARACTERS * 2)
    .replaceAll(/\r\n?/g, '\n')
    .replaceAll(/[^\P{C}\n\t]/gu, '')

/** What stands in a line: text, a mention, a link to a page, an emoji, a date. */
const inlineText = (node: unknown): string => {
  const type = member(node, 'type')
  if (type === 'text') return text(member(node, 'text')) ?? ''
  if (type === 'hardBreak') return '\n'
  const attrs = member(node, 'attrs')
  return text(member(attrs, 'text')) ?? text(member(attrs, 'url')) ?? text(member(attrs, 'shortName')) ?? ''
}
const INLINE: readonly unknown[] = ['text', 'hardBreak', 'mention', 'emoji', 'inlineCard', 'status', 'date']
const indented = (block: string, mark: string): string => mark + block.replaceAll('\n', `\n${' '.repeat(mark.length)}`)

/** The text of an ADF document, or text as it is; an empty one for anything else. At most 30,000 characters. */
export const plainText = (value: unknown): string => {
  let nodes = 0
  const blockText = (node: unknown, depth: number): string => {
    nodes += 1
    if (nodes > MAX_NODES || depth > MAX_DEPTH) return ''
    const type = member(node, 'type')
    if (INLINE.includes(type)) return inlineText(node)
    const children = list(member(node, 'content'))
    const isLine =
      type === 'paragraph' || (children.length > 0 && children.every(child => INLINE.includes(member(child, 'type'))))
    const parts = children.map(child => blockText(child, depth + 1))
    const level = Number(member(node, 'attrs', 'level'))
    if (type === 'heading') return `${'#'.repeat(level >= 1 && level <= 6 ? level : 1)} ${parts.join('')}`
    if (type === 'codeBlock') return `\`\`\`\n${parts.join('')}\n\`\`\``
    if (isLine) return parts.join('')
    if (type === 'bulletList') return parts.map(part => indented(part, '- ')).join('\n')
    if (type === 'orderedList') return parts.map((part, n) => indented(part, `${n + 1}. `)).join('\n')
    if (type === 'taskList') return parts.map(part => indented(part, '- [ ] ')).join('\n')
    if (type === 'tableRow') return parts.map(part => part.replaceAll('\n', ' ')).join(' | ')
    if (type === 'table' || type === 'listItem') return parts.join('\n')
    if (type === 'blockquote') return indented(parts.join('\n\n'), '> ')
    if (type === 'rule') return '---'
    const other = inlineText(node)
    return parts.length === 0 ? other : parts.filter(part => part !== '').join('\n\n')
  }
  const written = typeof value === 'string' ? value : blockText(value, 0)
  return clean(written).trim().slice(0, MAX_CHARACTERS)
}

/** The section "Acceptance criteria" of a text, up to its next heading; empty when there is none. */
export const acceptanceSection = (description: string): string => {
  const lines = description.split('\n')
  const start = lines.findIndex(line => ACCEPTANCE.test(line.trim()))
  if (start < 0) return ''
  const rest = lines.slice(start + 1)
  const end = rest.findIndex(line => HEADING.test(line))
  return (end < 0 ? rest : rest.slice(0, end)).join('\n').trim()
}

/** The name of a field for acceptance criteria, in any case. */
export const isAcceptanceField = (name: string): boolean => /^\s*acceptance criteria\s*$/i.test(name)
