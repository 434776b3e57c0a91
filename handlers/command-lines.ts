/** The command lines of a comment: lines that begin with `/swarm`, in paragraphs at the top level. */
import { shownLines } from './markdown.ts'
import { quotedMailAt } from './quoted-mail.ts'

/** `words`: those after `/swarm`. */
export type CommandLine = { words: string[] }

/** More commands than anybody needs in one comment. */
export const MAX_COMMANDS = 10
/** What is read of a comment. */
const MAX_CHARACTERS = 10_000

/** A login or a team, `@octocat` or `@acme/leads`, with the white space after it. */
const MENTION = /(?<![\w@/.-])@[a-z\d](?:-?[a-z\d]){0,38}(?:\/[\w-]{1,100})?(?![\w@/-])[\t\p{Zs}]*/giu
const LINE = /^\/[sS][wW][aA][rR][mM](?:[\t\p{Zs}](.*))?$/u

/** The command of a line of text; null when it is none. A mention is left out. */
export const commandOf = (line: string): CommandLine | null => {
  const match = line.replaceAll(MENTION, '').trim().match(LINE)
  return match === null ? null : { words: (match[1] ?? '').split(/\s+/).filter(word => word !== '') }
}

const linesOf = (text: string) => text.split(/\r\n|\r|\n/)

/**
 * The lines at its beginning that could be commands, as they are written. Costs next to nothing: most comments hold none, and
 * anybody may write one. Whether they are commands only `commandLines` knows.
 */
export const possibleCommands = (body: string): CommandLine[] => {
  const text = body.slice(0, MAX_CHARACTERS)
  if (!/\/swarm/i.test(text)) return []
  return linesOf(text).flatMap(line => (/\/swarm/i.test(line) ? (commandOf(line) ?? []) : []))
}

/** No person writes more markup in that much text. It bounds the work, which grows with it. */
const MARKUP = /[[\]*_`<>!&\\~#|+$^=-]|\d[.)]/g
const MAX_MARKUP = 1_000

/**
 * The command lines in the first 10,000 characters of a comment in GitHub's Markdown, in order; none when these hold more
 * markup than anybody writes. The caller applies MAX_COMMANDS.
 */
export const commandLines = (body: string): CommandLine[] => {
  if (possibleCommands(body).length === 0) return []
  const text = body.slice(0, MAX_CHARACTERS)
  if ((text.match(MARKUP)?.length ?? 0) > MAX_MARKUP) return []
  const end = quotedMailAt(linesOf(text))
  return shownLines(text, text.length < body.length, paragraph => /\/swarm/i.test(paragraph))
    .filter(({ text: line, plain, number }) => plain && number < end && /\/swarm/i.test(line))
    .flatMap(({ text: line }) => commandOf(line) ?? [])
}
