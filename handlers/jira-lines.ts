/**
 * The command lines in a comment in Jira. Its document (ADF) says which text is code and which is quoted; the wiki text that
 * webhooks bring says it less surely, since what stands in a code block may itself look like the end of one.
 */
import { type CommandLine, commandsInParagraph, mentionsSwarm, type Piece } from './command-lines.ts'

// ── The document ──

type Node = { type?: unknown; text?: unknown; marks?: unknown; content?: unknown }
const nodesIn = ({ content }: Node): Node[] =>
  Array.isArray(content) ? content.filter(one => typeof one === 'object' && one !== null) : []

const pieceOf = ({ type, text, marks }: Node): Piece => {
  if (type === 'hardBreak') return 'end'
  const plain = !Array.isArray(marks) || marks.length === 0
  return type === 'text' && typeof text === 'string' && plain ? { text } : 'other'
}

/** Paragraphs at the top alone: those in quotes, panels, expands, lists and tables are somebody's telling. */
const inDocument = (document: Node): CommandLine[] =>
  document.type === 'doc'
    ? nodesIn(document).flatMap(block =>
        block.type === 'paragraph' ? commandsInParagraph(nodesIn(block).map(pieceOf)) : [],
      )
    : []

// ── Wiki text ──

/** What has a beginning and an end, and a body that is code, quoted or set apart. */
const MACRO = /(?<!\\)\{(code|noformat|quote|panel|color|expand|info|tip|note|warning|html)(?::[^}\n]*)?\}/gi
/** In these, nothing but their own end means anything. */
const VERBATIM = ['code', 'noformat', 'html']
/** A quote, a list or a table: what follows is part of it until an empty line. */
const TOLD = /^\s*(?:bq\.|>|\||[*#-]+\s)/
/** Code and links: no line with these is a command line. */
const MARKED = /(?<!\\)(?:\{\{|\[)/
/** The editor puts a backslash before what could be read as markup; two are the end of a line. */
const unescaped = (line: string) => line.replaceAll(/\\(?=[^\p{L}\p{N}\s])/gu, '')

const inWiki = (text: string): CommandLine[] => {
  const lines: CommandLine[] = []
  const open: string[] = []
  let told = false
  for (const line of text.split(/\r\n|\r|\n|\\\\/)) {
    const outside = open.length === 0
    let marked = MARKED.test(line)
    for (const [, found = ''] of line.matchAll(MACRO)) {
      marked = true
      const name = found.toLowerCase()
      const inner = open.at(-1)
      if (inner === name) open.pop()
      else if (inner === undefined || !VERBATIM.includes(inner)) open.push(name)
    }
    told = line.trim() !== '' && (told || TOLD.test(line))
    if (outside && !marked && !told && line.trim().startsWith('/'))
      lines.push(...commandsInParagraph([{ text: unescaped(line) }]))
  }
  return lines
}

/** `body` is a document or wiki text; anything else holds none. In order, all of them: the caller caps. */
export const jiraCommandLines = (body: unknown): CommandLine[] => {
  if (typeof body === 'string') return mentionsSwarm(body) ? inWiki(body) : []
  return typeof body === 'object' && body !== null ? inDocument(body) : []
}
