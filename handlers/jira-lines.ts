/**
 * The command lines of a comment in Jira. The document (ADF) says reliably what is code and what is quoted. The wiki text that
 * webhooks send says it less reliably: a code block may contain text that looks like its own end.
 */
import { type CommandLine, commandOf } from './command-lines.ts'
import { quotedMailAt } from './quoted-mail.ts'

/** Jira allows 32,767 characters. Nobody gives commands behind the first 10,000, or in a document of more parts. */
const MAX_CHARACTERS = 10_000
const MAX_NODES = 2_000

/** `plain`: text alone, without code, a link or emphasis. */
type Line = { text: string; plain: boolean }

const commandsOf = (lines: readonly Line[]): CommandLine[] =>
  lines
    .slice(0, quotedMailAt(lines.map(({ text }) => text)))
    .flatMap(({ text, plain }) => (plain ? (commandOf(text) ?? []) : []))

// ── The document ──

type Node = { type?: unknown; text?: unknown; marks?: unknown; content?: unknown }
const nodesIn = ({ content }: Node): Node[] =>
  Array.isArray(content) ? content.slice(0, MAX_NODES).filter(node => typeof node === 'object' && node !== null) : []

/**
 * Marks that say how text looks and not what it is: the editor and pasted text bring them along.
 * https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/#marks
 */
const HARMLESS_MARKS: readonly unknown[] = ['textColor', 'backgroundColor', 'annotation', 'fontSize']
const isPlain = ({ marks }: Node): boolean =>
  !Array.isArray(marks) || marks.every(mark => HARMLESS_MARKS.includes(mark?.type))

/** The lines of a paragraph. A line feed within its text is a space, and a mention is left out of its line. */
const linesOf = (paragraph: Node): Line[] => {
  const lines: Line[] = [{ text: '', plain: true }]
  for (const node of nodesIn(paragraph)) {
    const line = lines.at(-1) ?? { text: '', plain: true }
    if (node.type === 'hardBreak') lines.push({ text: '', plain: true })
    else if (node.type === 'text' && typeof node.text === 'string') {
      line.text += node.text
      line.plain &&= isPlain(node)
    } else if (node.type !== 'mention') line.plain = false
  }
  return lines
}

/** Only paragraphs at the top level: those in quotes, panels, expands, lists and tables repeat what others wrote. */
const commandsInDocument = (document: Node): CommandLine[] => {
  if (document.type !== 'doc') return []
  const lines: Line[] = []
  let nodes = 0
  for (const block of nodesIn(document)) {
    nodes += 1 + nodesIn(block).length
    if (nodes > MAX_NODES) break
    lines.push(...(block.type === 'paragraph' ? linesOf(block) : [{ text: '', plain: false }]))
  }
  return commandsOf(lines)
}

// ── Wiki text ──

/** Macros with a begin and an end, whose body is code, quoted or set apart. */
const MACRO = /(?<!\\)\{(code|noformat|quote|panel|expand|info|tip|note|warning|html)(?::[^}\n]{0,300})?\}/gi
/** Inside these, only their own end has a meaning. */
const VERBATIM = ['code', 'noformat', 'html']
/** The first line of a quote, a list or a table, which goes on until an empty line. */
const QUOTE_LIST_TABLE = /^\s*(?:bq\.|>|\||[*#-]+\s)/
/** Code and links: a line with these is not a command line. */
const CODE_OR_LINK = /(?<!\\)(?:\{\{|\[)/
/** A colour says nothing about the text, and a mention is left out of its line. */
const COLOR_OR_MENTION = /(?<!\\)(?:\{color(?::[^}\n]{0,100})?\}|\[~[^\]\n]{1,200}\])/gi
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
  const lines: Line[] = []
  let open: readonly string[] = []
  let inBlock = false
  for (const written of text.slice(0, MAX_CHARACTERS).split(/\r\n|\r|\n|\\\\/)) {
    const line = written.replaceAll(COLOR_OR_MENTION, '')
    inBlock = line.trim() !== '' && (inBlock || QUOTE_LIST_TABLE.test(line))
    const hasMacro = line.search(MACRO) >= 0
    const plain = open.length === 0 && !inBlock && !hasMacro && !CODE_OR_LINK.test(line)
    // A line that begins with an escaped slash, or in bold, only talks.
    lines.push({ text: unescaped(line), plain: plain && line.trim().startsWith('/') })
    if (hasMacro) open = openMacros(line, open)
  }
  return commandsOf(lines)
}

/**
 * The command lines in order; `body` is a document or wiki text, and anything else holds none. The caller applies MAX_COMMANDS.
 */
export const jiraCommandLines = (body: unknown): CommandLine[] => {
  if (typeof body === 'string') return /\/swarm/i.test(body.slice(0, MAX_CHARACTERS)) ? commandsInWiki(body) : []
  return typeof body === 'object' && body !== null ? commandsInDocument(body) : []
}
