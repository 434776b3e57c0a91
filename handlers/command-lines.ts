/** The command lines in a comment: lines of its own paragraphs that begin with `/swarm`. What is code, quoted or HTML is talk about commands. */
import { fromMarkdown } from 'mdast-util-from-markdown'

/** One line's words after `/swarm`. */
export type CommandLine = { words: string[] }

const LINE = /^\/[sS][wW][aA][rR][mM](?:[\t\p{Zs}](.*))?$/u
/** More than anybody needs; a comment of a thousand commands is no comment. */
export const MAX_COMMANDS = 10

/** Most comments are talk, and need no parsing. */
export const mentionsSwarm = (text: string): boolean => /\/swarm/i.test(text)

/** A piece of a paragraph: plain text, the end of a line, or anything else. */
export type Piece = { text: string } | 'end' | 'other'

/** A line with code, a link, emphasis or HTML in it is no command line. */
export const commandsInParagraph = (paragraph: Iterable<Piece>): CommandLine[] => {
  const lines: CommandLine[] = []
  let line = ''
  let plain = true
  const end = () => {
    const found = plain ? line.trim().match(LINE) : null
    if (found !== null) lines.push({ words: (found[1] ?? '').split(/\s+/).filter(word => word !== '') })
    line = ''
    plain = true
  }
  for (const piece of paragraph) {
    if (piece === 'end') end()
    else if (piece === 'other') plain = false
    else line += piece.text
  }
  end()
  return lines
}

type Inline = Extract<ReturnType<typeof fromMarkdown>['children'][number], { type: 'paragraph' }>['children'][number]

const linesOf = (text: string) => text.split(/\r\n|\r|\n/)
const isBegun = (line: string) => /^\/swarm/i.test(line.trim())

/** `body` is what the part was read from: what is written as `\/swarm` or `&#10;` only looks like a command. */
const piecesOf = (part: Inline, body: string): Piece[] => {
  if (part.type === 'break') return ['end']
  // It may go on over more than one line: all of them are none.
  if (part.type !== 'text') return ['other']
  const written = linesOf(body.slice(part.position?.start.offset, part.position?.end.offset))
  const lines = linesOf(part.value)
  if (written.length !== lines.length) return ['other']
  return lines.flatMap((text, at): Piece[] => [
    ...(at === 0 ? [] : ['end' as const]),
    isBegun(text) && !isBegun(written[at] ?? '') ? 'other' : { text },
  ])
}

// The parser's time grows with the square of what is nested or left open, and anybody may comment.
const MARKUP = /[[\]*_`<>!&\\~#|+-]|\d[.)]/g
const MOST_MARKUP = 1_000
/** In characters: what stands behind them is not looked through. */
const LOOKED_THROUGH = 10_000

/**
 * Of a comment in Markdown: of its first ten thousand characters, and none of one with more markup in them than anybody
 * writes. In order, all of them: the caller caps.
 */
export const commandLines = (body: string): CommandLine[] => {
  if (!mentionsSwarm(body)) return []
  const text = body.slice(0, LOOKED_THROUGH)
  if ((text.match(MARKUP)?.length ?? 0) > MOST_MARKUP) return []
  const blocks = fromMarkdown(text).children
  // The last block of a part may go on, and be something else.
  return (
    (text.length < body.length ? blocks.slice(0, -1) : blocks)
      // Paragraphs at the top alone: those in quotes, lists and tables are somebody's telling.
      .flatMap(block =>
        block.type === 'paragraph' ? commandsInParagraph(block.children.flatMap(part => piecesOf(part, text))) : [],
      )
  )
}
