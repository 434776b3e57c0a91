/**
 * The command lines of a comment in Markdown: lines that begin with `/swarm`, in paragraphs at the top level. Code, quotes and
 * HTML only talk about commands.
 */
import { fromMarkdown } from 'mdast-util-from-markdown'

/** `words`: those after `/swarm`. */
export type CommandLine = { words: string[] }

const LINE = /^\/[sS][wW][aA][rR][mM](?:[\t\p{Zs}](.*))?$/u
/** More commands than anybody needs in one comment. */
export const MAX_COMMANDS = 10

/** A quick look: most comments hold no command and need no parsing. */
export const mentionsSwarm = (text: string): boolean => /\/swarm/i.test(text)

/** A piece of a paragraph: plain text, the end of a line, or anything else. */
export type Piece = { text: string } | 'end' | 'other'

/** The commands of a paragraph. A line that holds code, a link, emphasis or HTML is not a command line. */
export const commandsInParagraph = (paragraph: Iterable<Piece>): CommandLine[] => {
  const lines: CommandLine[] = []
  let line = ''
  let plain = true
  const endLine = () => {
    const match = plain ? line.trim().match(LINE) : null
    if (match !== null) lines.push({ words: (match[1] ?? '').split(/\s+/).filter(word => word !== '') })
    line = ''
    plain = true
  }
  for (const piece of paragraph) {
    if (piece === 'end') endLine()
    else if (piece === 'other') plain = false
    else line += piece.text
  }
  endLine()
  return lines
}

type Inline = Extract<ReturnType<typeof fromMarkdown>['children'][number], { type: 'paragraph' }>['children'][number]

const linesOf = (text: string) => text.split(/\r\n|\r|\n/)
const beginsWithSwarm = (line: string) => /^\/swarm/i.test(line.trim())

/** `source` is the Markdown of the whole comment: a line written as `\/swarm` or `&#10;/swarm` only looks like a command. */
const piecesOf = (inline: Inline, source: string): Piece[] => {
  if (inline.type === 'break') return ['end']
  // It may span several lines; none of them is a command line.
  if (inline.type !== 'text') return ['other']
  const written = linesOf(source.slice(inline.position?.start.offset, inline.position?.end.offset))
  const lines = linesOf(inline.value)
  if (written.length !== lines.length) return ['other']
  return lines.flatMap((text, index): Piece[] => [
    ...(index === 0 ? [] : ['end' as const]),
    beginsWithSwarm(text) && !beginsWithSwarm(written[index] ?? '') ? 'other' : { text },
  ])
}

// The parser's time grows with the square of the nested or unclosed markup, and anybody may comment.
const MARKUP = /[[\]*_`<>!&\\~#|+-]|\d[.)]/g
const MAX_MARKUP = 1_000
const MAX_CHARACTERS = 10_000

/**
 * The command lines in the first 10,000 characters of a comment, in order; none when these hold more markup than anybody writes.
 * The caller applies MAX_COMMANDS.
 */
export const commandLines = (body: string): CommandLine[] => {
  if (!mentionsSwarm(body)) return []
  const text = body.slice(0, MAX_CHARACTERS)
  if ((text.match(MARKUP)?.length ?? 0) > MAX_MARKUP) return []
  const blocks = fromMarkdown(text).children
  // The rest of the comment could turn the last block of a cut text into something else.
  const complete = text.length < body.length ? blocks.slice(0, -1) : blocks
  // Only paragraphs at the top level: those in quotes, lists and tables repeat what others wrote.
  return complete.flatMap(block =>
    block.type === 'paragraph' ? commandsInParagraph(block.children.flatMap(inline => piecesOf(inline, text))) : [],
  )
}
