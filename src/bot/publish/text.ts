/**
 * Text with its form, as GitHub's Markdown and as Jira's document format (ADF). What came from outside (a message of a
 * hypervisor, a path in a guest, somebody's name) is told apart by its type from our own words: it is shown, never
 * interpreted. No mention, link, HTML or marker can come out of it.
 */

/** Longest outside text that is shown. */
const LONGEST = 2_000
/**
 * In characters; a longer comment is refused as a whole. GitHub takes 65,536, and a marker of ours stands before. Jira takes
 * 32,767; whether it counts the document or its text it does not say.
 */
const MOST = { markdown: 65_000, adf: 32_000 }

/** A piece of a line. */
type Piece = { ours: string } | { outside: string } | { code: string } | { strong: string }
export type Line = readonly Piece[]
export type Block =
  | { line: Line }
  | { heading: Line }
  | { listing: string }
  | { list: readonly Line[] }
  | { table: readonly (readonly Line[])[] }
  | { small: Line }
  | { rule: true }

// ── Building ──

export const code = (text: string): Piece => ({ code: text })
export const strong = (text: string): Piece => ({ strong: text })

type Value = string | number | Piece | Line
const pieces = (value: Value): Line => {
  if (typeof value === 'number') return [{ ours: String(value) }]
  if (typeof value === 'string') return [{ outside: value }]
  return 'length' in value ? value : [value]
}
/** What is written in the template is ours; strings that are put in are from outside. */
export const line = (words: TemplateStringsArray, ...values: Value[]): Line =>
  words.flatMap((word, n) => [
    ...(word === '' ? [] : [{ ours: word }]),
    ...(n < values.length ? pieces(values[n] as Value) : []),
  ])
/** Our own words, with code in backticks. */
export const own = (text: string): Line =>
  text.split(/`([^`]+)`/).flatMap((part, n) => (part === '' ? [] : [n % 2 === 1 ? code(part) : { ours: part }]))

/** Blocks from the first on, as many as there is room for; that there are more is said. */
const fitting = <T>(
  blocks: readonly Block[],
  write: (blocks: readonly Block[]) => T,
  most: number,
  lengthOf: (written: T) => number,
): T => {
  let written = write(blocks)
  for (let kept = blocks.length - 1; kept >= 0 && lengthOf(written) > most; kept -= 1)
    written = write([...blocks.slice(0, kept), { line: own('The rest is too long for one comment.') }])
  return written
}

// ── Outside text ──

// Control characters, and those that turn the direction of text around.
const UNSEEN = /[\p{Cc}\p{Cf}]/gu
const shortened = (text: string, most = LONGEST) => (text.length > most ? `${text.slice(0, most)} …` : text)
const oneLine = (text: string, most = LONGEST) =>
  shortened(text.replaceAll(/\s+/g, ' ').replaceAll(UNSEEN, '').trim(), most)
/** Broken where it says a command: our own comment, read again, gives none. */
const noCommand = (text: string) => text.replaceAll(/\/(swarm)/gi, '/\u200b$1')
const lines = (text: string) =>
  shortened(
    text
      .split(/\r\n|\r|\n/)
      .map(one => one.replaceAll(UNSEEN, ''))
      .join('\n')
      .trim(),
  )

// ── Markdown ──

/** Outside text inside a sentence. */
export const escaped = (text: string): string =>
  noCommand(oneLine(text))
    .replaceAll(/[\\`*_{}[\]()<>#|~&$]/g, '\\$&')
    // Bare addresses become links.
    .replaceAll('://', ':\\//')
    .replaceAll(/(www)\./gi, '$1\\.')
    // GitHub looks for mentions in what is shown, so that no backslash helps.
    .replaceAll(/[@#]/g, '$&\u200b')

const fence = (text: string, least: number) => {
  const longest = Math.max(0, ...[...text.matchAll(/`+/g)].map(([run]) => run.length))
  return '`'.repeat(Math.max(least, longest + 1))
}
/** Outside text on one line, as code. A table splits its cells before it sees the code, hence the pipe. */
export const inlineCode = (text: string): string => {
  const shown = oneLine(text, 300).replaceAll('|', '¦')
  if (shown === '') return '(empty)'
  const ticks = fence(shown, 1)
  const pad = shown.startsWith('`') || shown.endsWith('`') ? ' ' : ''
  return `${ticks}${pad}${shown}${pad}${ticks}`
}

const markdownOf = (text: Line): string =>
  text
    .map(piece => {
      if ('ours' in piece) return piece.ours
      if ('outside' in piece) return escaped(piece.outside)
      return 'code' in piece ? inlineCode(piece.code) : `**${escaped(piece.strong)}**`
    })
    .join('')

const wholeMarkdown = (blocks: readonly Block[]): string =>
  blocks
    .map(block => {
      if ('line' in block) return markdownOf(block.line)
      if ('heading' in block) return `### ${markdownOf(block.heading)}`
      if ('small' in block) return `<sub>${markdownOf(block.small)}</sub>`
      if ('rule' in block) return '---'
      if ('list' in block) return block.list.map(item => `- ${markdownOf(item)}`).join('\n')
      if ('listing' in block) {
        const clean = lines(block.listing)
        const ticks = fence(clean, 3)
        return `${ticks}text\n${clean}\n${ticks}`
      }
      const [head = [], ...rows] = block.table.map(row => `| ${row.map(markdownOf).join(' | ')} |`)
      const columns = block.table[0]?.length ?? 0
      return [head, `|${' --- |'.repeat(columns)}`, ...rows].join('\n')
    })
    .join('\n\n')

export const markdown = (blocks: readonly Block[]): string =>
  fitting(blocks, wholeMarkdown, MOST.markdown, written => written.length)

// ── Jira's document format ──

type Mark = { type: 'code' | 'strong' }
export type AdfNode = {
  type: string
  text?: string
  marks?: Mark[]
  attrs?: Record<string, unknown>
  content?: AdfNode[]
}
export type Adf = { type: 'doc'; version: 1; content: AdfNode[] }

/** A document's text nodes must not be empty. */
const textNode = (text: string, mark?: Mark['type']): AdfNode[] =>
  text === '' ? [] : [{ type: 'text', text, ...(mark === undefined ? {} : { marks: [{ type: mark }] }) }]
const adfOf = (text: Line): AdfNode[] =>
  text.flatMap(piece => {
    if ('ours' in piece) return textNode(piece.ours)
    if ('outside' in piece) return textNode(noCommand(oneLine(piece.outside)))
    return 'code' in piece
      ? textNode(oneLine(piece.code, 300), 'code')
      : textNode(noCommand(oneLine(piece.strong)), 'strong')
  })
const paragraph = (text: Line): AdfNode => ({ type: 'paragraph', content: adfOf(text) })

const wholeAdf = (blocks: readonly Block[]): Adf => ({
  type: 'doc',
  version: 1,
  content: blocks.map((block): AdfNode => {
    if ('line' in block) return paragraph(block.line)
    if ('small' in block) return paragraph(block.small)
    if ('heading' in block) return { type: 'heading', attrs: { level: 3 }, content: adfOf(block.heading) }
    if ('rule' in block) return { type: 'rule' }
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
  }),
})

/** See https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/ */
export const adf = (blocks: readonly Block[]): Adf =>
  fitting(blocks, wholeAdf, MOST.adf, written => JSON.stringify(written).length)

/** Plain text: every line a paragraph, indented ones together a listing. */
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
