/**
 * Formatted text, written as GitHub Markdown and as Jira's document format (ADF). Outside text (a hypervisor's message, a path
 * in a guest, a name) has a type of its own: it is shown and never interpreted. No mention, link, HTML or marker can come out
 * of it.
 */
import type { Adf, AdfNode } from '../jira/adf.ts'

/** Longest outside text that is shown, in characters. */
const MAX_OUTSIDE = 2_000
/**
 * In characters; a longer comment is refused as a whole. GitHub takes 65,536 including our marker. Jira takes 32,767 and does
 * not say whether it counts the document or its text.
 */
const MAX_LENGTH = { markdown: 65_000, adf: 32_000 }

/** A piece of a line. */
type Piece =
  | { own: string }
  | { outside: string }
  | { code: string }
  | { strong: string }
  /** `url` is ours: it is made of names that were checked. */
  | { link: string; url: string }
export type Line = readonly Piece[]
export type Block =
  | { line: Line }
  | { heading: Line }
  | { listing: string }
  /** Of a long text, the last lines. */
  | { log: string }
  /** Somebody's words. */
  | { quote: Line }
  /** Somebody's words in several paragraphs: outside text. */
  | { words: string }
  | { list: readonly Line[] }
  | { table: readonly (readonly Line[])[] }
  | { small: Line }
  | { rule: true }

// ── Building ──

export const code = (text: string): Piece => ({ code: text })
export const strong = (text: string): Piece => ({ strong: text })
/** Plain code when there is no address. */
export const link = (text: string, url: string | null): Piece => (url === null ? { code: text } : { link: text, url })

type Value = string | number | Piece | Line
const pieces = (value: Value): Line => {
  if (typeof value === 'number') return [{ own: String(value) }]
  if (typeof value === 'string') return [{ outside: value }]
  return 'length' in value ? value : [value]
}
/** The template's text is our own; strings that are put in are outside text. */
export const line = (texts: TemplateStringsArray, ...values: Value[]): Line =>
  texts.flatMap((text, n) => [
    ...(text === '' ? [] : [{ own: text }]),
    ...(n < values.length ? pieces(values[n] as Value) : []),
  ])
/** Our own text, with code in backticks. */
export const own = (text: string): Line =>
  text.split(/`([^`]+)`/).flatMap((part, n) => (part === '' ? [] : [n % 2 === 1 ? code(part) : { own: part }]))

/** Drops blocks from the end until the written text fits, and says so. */
const fitting = <T>(
  blocks: readonly Block[],
  write: (blocks: readonly Block[]) => T,
  maxLength: number,
  lengthOf: (written: T) => number,
): T => {
  let written = write(blocks)
  for (let count = blocks.length - 1; count >= 0 && lengthOf(written) > maxLength; count -= 1)
    written = write([...blocks.slice(0, count), { line: own('The rest is too long for one comment.') }])
  return written
}

// ── Outside text ──

// Control characters, and those that reverse the direction of text.
const INVISIBLE = /[\p{Cc}\p{Cf}]/gu
const shortened = (text: string, maxLength = MAX_OUTSIDE) =>
  text.length > maxLength ? `${text.slice(0, maxLength)} …` : text
const oneLine = (text: string, maxLength = MAX_OUTSIDE) =>
  shortened(text.replaceAll(/\s+/g, ' ').replaceAll(INVISIBLE, '').trim(), maxLength)
/** Breaks commands: when the bot reads its own comment, it finds none. */
const withoutCommands = (text: string) => text.replaceAll(/\/(swarm)/gi, '/\u200b$1')
const lines = (text: string) =>
  shortened(
    text
      .split(/\r\n|\r|\n/)
      .map(row => row.replaceAll(INVISIBLE, ''))
      .join('\n')
      .trim(),
  )

/** Paragraphs of somebody's words that are shown. */
const MAX_PARAGRAPHS = 30
/** Its lines that are not empty, at least one. */
const paragraphs = (text: string): string[] => {
  const rows = lines(text)
    .split('\n')
    .filter(row => row.trim() !== '')
  return rows.length === 0 ? ['(empty)'] : rows.slice(0, MAX_PARAGRAPHS)
}

/** Longest log that is shown, in characters. */
const MAX_LOG = 8_000
/** Its last lines, whole ones; they keep their spaces. */
const lastLines = (text: string) => {
  const rows = text.split(/\r\n|\r|\n/).map(row => row.replaceAll('\t', '  ').replaceAll(INVISIBLE, ''))
  const all = rows.join('\n').replace(/^\n+|\s+$/g, '')
  if (all.length <= MAX_LOG) return all
  const end = all.slice(-MAX_LOG)
  return `… ${end.includes('\n') ? end.slice(end.indexOf('\n')) : end}`
}

// ── Markdown ──

/** Outside text inside a sentence. */
export const escaped = (text: string): string =>
  withoutCommands(oneLine(text))
    .replaceAll(/[\\`*_{}[\]()<>#|~&$]/g, '\\$&')
    // GitHub links bare addresses.
    .replaceAll('://', ':\\//')
    .replaceAll(/(www)\./gi, '$1\\.')
    // It links `GH-12` to an issue, which then shows our comment.
    .replaceAll(/\b(gh)-(?=\d)/gi, '$1-\u200b')
    // GitHub looks for mentions in the rendered text, where a backslash no longer helps.
    .replaceAll(/[@#]/g, '$&\u200b')

const fence = (text: string, minLength: number) => {
  const longest = Math.max(0, ...[...text.matchAll(/`+/g)].map(([run]) => run.length))
  return '`'.repeat(Math.max(minLength, longest + 1))
}
/** Outside text on one line, as code. GitHub splits a table's cells before it looks for code, hence the other pipe. */
export const inlineCode = (text: string): string => {
  const shown = oneLine(text, 300).replaceAll('|', '¦')
  if (shown === '') return '(empty)'
  const ticks = fence(shown, 1)
  const pad = shown.startsWith('`') || shown.endsWith('`') ? ' ' : ''
  return `${ticks}${pad}${shown}${pad}${ticks}`
}

const markdownLine = (text: Line): string =>
  text
    .map(piece => {
      if ('own' in piece) return piece.own
      if ('outside' in piece) return escaped(piece.outside)
      if ('link' in piece) return `[${escaped(piece.link)}](${piece.url})`
      return 'code' in piece ? inlineCode(piece.code) : `**${escaped(piece.strong)}**`
    })
    .join('')

const markdownBlock = (block: Block): string => {
  if ('line' in block) return markdownLine(block.line)
  if ('heading' in block) return `### ${markdownLine(block.heading)}`
  if ('quote' in block) return `> ${markdownLine(block.quote)}`
  if ('words' in block)
    return paragraphs(block.words)
      .map(row => `> ${escaped(row)}`)
      .join('\n>\n')
  if ('small' in block) return `<sub>${markdownLine(block.small)}</sub>`
  if ('rule' in block) return '---'
  if ('list' in block) return block.list.map(item => `- ${markdownLine(item)}`).join('\n')
  if ('listing' in block || 'log' in block) {
    const clean = 'log' in block ? lastLines(block.log) : lines(block.listing)
    const ticks = fence(clean, 3)
    return `${ticks}text\n${clean}\n${ticks}`
  }
  const [head = [], ...rows] = block.table.map(row => `| ${row.map(markdownLine).join(' | ')} |`)
  const columns = block.table[0]?.length ?? 0
  return [head, `|${' --- |'.repeat(columns)}`, ...rows].join('\n')
}

export const markdown = (blocks: readonly Block[]): string =>
  fitting(
    blocks,
    all => all.map(markdownBlock).join('\n\n'),
    MAX_LENGTH.markdown,
    written => written.length,
  )

// ── Jira's document format ──

/** Jira refuses an empty text node. */
const textNode = (text: string, ...marks: NonNullable<AdfNode['marks']>): AdfNode[] =>
  text === '' ? [] : [{ type: 'text', text, ...(marks.length === 0 ? {} : { marks }) }]
const adfLine = (text: Line): AdfNode[] =>
  text.flatMap(piece => {
    if ('own' in piece) return textNode(piece.own)
    if ('outside' in piece) return textNode(withoutCommands(oneLine(piece.outside)))
    if ('link' in piece) return textNode(oneLine(piece.link), { type: 'link', attrs: { href: piece.url } })
    return 'code' in piece
      ? textNode(oneLine(piece.code, 300), { type: 'code' })
      : textNode(withoutCommands(oneLine(piece.strong)), { type: 'strong' })
  })
const paragraph = (text: Line): AdfNode => ({ type: 'paragraph', content: adfLine(text) })

const adfBlock = (block: Block): AdfNode => {
  if ('line' in block) return paragraph(block.line)
  if ('small' in block) return paragraph(block.small)
  if ('heading' in block) return { type: 'heading', attrs: { level: 3 }, content: adfLine(block.heading) }
  if ('rule' in block) return { type: 'rule' }
  if ('words' in block)
    return { type: 'blockquote', content: paragraphs(block.words).map(row => paragraph([{ outside: row }])) }
  if ('quote' in block) return { type: 'blockquote', content: [paragraph(block.quote)] }
  if ('log' in block) return { type: 'codeBlock', content: textNode(lastLines(block.log)) }
  if ('listing' in block) return { type: 'codeBlock', content: textNode(lines(block.listing)) }
  if ('list' in block)
    return {
      type: 'bulletList',
      content: block.list.map(item => ({ type: 'listItem', content: [paragraph(item)] })),
    }
  return {
    type: 'table',
    content: block.table.map((row, n) => ({
      type: 'tableRow',
      content: row.map(cell => ({ type: n === 0 ? 'tableHeader' : 'tableCell', content: [paragraph(cell)] })),
    })),
  }
}

export const adf = (blocks: readonly Block[]): Adf =>
  fitting(
    blocks,
    (all): Adf => ({ type: 'doc', version: 1, content: all.map(adfBlock) }),
    MAX_LENGTH.adf,
    written => JSON.stringify(written).length,
  )

/** Plain text: every line a paragraph, consecutive indented ones a listing. */
export const plainBlocks = (text: string): Block[] => {
  const blocks: Block[] = []
  for (const raw of shortened(text, 8_000).split('\n')) {
    const shown = raw.trim()
    if (shown === '') continue
    const last = blocks.at(-1)
    if (!raw.startsWith('    ')) blocks.push({ line: [{ outside: shown }] })
    else if (last !== undefined && 'listing' in last) last.listing += `\n${shown}`
    else blocks.push({ listing: shown })
  }
  return blocks
}
