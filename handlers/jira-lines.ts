/**
 * The command lines of a comment in Jira. The document (ADF) says reliably what is code and what is quoted. The wiki text that
 * webhooks send says it less reliably: a code block may contain text that looks like its own end.
 */
import { type CommandLine, commandsInParagraph, mentionsSwarm, type Piece } from './command-lines.ts'

// ── The document ──

type Node = { type?: unknown; text?: unknown; marks?: unknown; content?: unknown }
const nodesIn = ({ content }: Node): Node[] =>
  Array.isArray(content) ? content.filter(node => typeof node === 'object' && node !== null) : []

const pieceOf = ({ type, text, marks }: Node): Piece => {
  if (type === 'hardBreak') return 'end'
  const plain = !Array.isArray(marks) || marks.length === 0
  return type === 'text' && typeof text === 'string' && plain ? { text } : 'other'
}

/** Only paragraphs at the top level: those in quotes, panels, expands, lists and tables repeat what others wrote. */
const commandsInDocument = (document: Node): CommandLine[] =>
  document.type === 'doc'
    ? nodesIn(document).flatMap(block =>
        block.type === 'paragraph' ? commandsInParagraph(nodesIn(block).map(pieceOf)) : [],
      )
    : []

// ── Wiki text ──

/** Macros with a begin and an end, whose body is code, quoted or set apart. */
const MACRO = /(?<!\\)\{(code|noformat|quote|panel|color|expand|info|tip|note|warning|html)(?::[^}\n]*)?\}/gi
/** Inside these, only their own end has a meaning. */
const VERBATIM = ['code', 'noformat', 'html']
/** The first line of a quote, a list or a table, which goes on until an empty line. */
const QUOTE_LIST_TABLE = /^\s*(?:bq\.|>|\||[*#-]+\s)/
/** Code and links: a line with these is not a command line. */
const CODE_OR_LINK = /(?<!\\)(?:\{\{|\[)/
/** The editor puts a backslash before what could be read as markup; two of them end a line. */
const unescaped = (line: string) => line.replaceAll(/\\(?=[^\p{L}\p{N}\s])/gu, '')

/** The macros that are open after this line. */
const openMacros = (line: string, before: readonly string[]): string[] => {
  const open = [...before]
  for (const [, match = ''] of line.matchAll(MACRO)) {
    const name = match.toLowerCase()
    const inner = open.at(-1)
    if (inner === name) open.pop()
    else if (inner === undefined || !VERBATIM.includes(inner)) open.push(name)
  }
  return open
}

const commandsInWiki = (text: string): CommandLine[] => {
  const lines: CommandLine[] = []
  let open: string[] = []
  let inBlock = false
  for (const line of text.split(/\r\n|\r|\n|\\\\/)) {
    inBlock = line.trim() !== '' && (inBlock || QUOTE_LIST_TABLE.test(line))
    const plain = open.length === 0 && !inBlock && line.search(MACRO) < 0 && !CODE_OR_LINK.test(line)
    if (plain && line.trim().startsWith('/')) lines.push(...commandsInParagraph([{ text: unescaped(line) }]))
    open = openMacros(line, open)
  }
  return lines
}

/**
 * The command lines in order; `body` is a document or wiki text, and anything else holds none. The caller applies MAX_COMMANDS.
 */
export const jiraCommandLines = (body: unknown): CommandLine[] => {
  if (typeof body === 'string') return mentionsSwarm(body) ? commandsInWiki(body) : []
  return typeof body === 'object' && body !== null ? commandsInDocument(body) : []
}
