/** The command lines in a comment: lines of its own paragraphs that begin with `/swarm`. What is code, quoted or HTML is talk about commands. */
import { fromMarkdown } from 'mdast-util-from-markdown'

/** One line's words after `/swarm`. */
export type CommandLine = { words: string[] }

const LINE = /^\/[sS][wW][aA][rR][mM](?:[\t\p{Zs}]+(.*))?$/u
/** More than anybody needs; a comment of a thousand commands is no comment. */
export const MOST_COMMANDS = 10

/** Most comments are talk, and need no parsing. */
export const mentionsUs = (text: string): boolean => /\/swarm/i.test(text)

/** A piece of a paragraph: plain text, the end of a line, or anything else. */
export type Piece = { text: string } | 'end' | 'other'

/** A line with code, a link, emphasis or HTML in it is no command line. */
export const commandsIn = (paragraph: Iterable<Piece>): CommandLine[] => {
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

const piecesOf = (part: Inline): Piece[] => {
  if (part.type === 'break') return ['end']
  // It may go on over more than one line: all of them are none.
  if (part.type !== 'text') return ['other']
  return part.value.split(/\r\n|\r|\n/).flatMap((text, at): Piece[] => (at === 0 ? [{ text }] : ['end', { text }]))
}

/** Of a comment in Markdown. In order, all of them: the caller caps. */
export const commandLines = (body: string): CommandLine[] =>
  mentionsUs(body)
    ? // Paragraphs at the top alone: those in quotes, lists and tables are somebody's telling.
      fromMarkdown(body).children.flatMap(block =>
        block.type === 'paragraph' ? commandsIn(block.children.flatMap(piecesOf)) : [],
      )
    : []
