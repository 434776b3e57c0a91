/** The command lines in a comment: lines of its own paragraphs that begin with `/swarm`. What is code, quoted or HTML is talk about commands. */
import { fromMarkdown } from 'mdast-util-from-markdown'

/** One line's words after `/swarm`. */
export type CommandLine = { words: string[] }

const LINE = /^\/swarm(?:[ \t]+(.*))?$/i
/** More than anybody needs; a comment of a thousand commands is no comment. */
export const MOST_COMMANDS = 10

/** In order, all of them: the caller caps. */
export const commandLines = (body: string): CommandLine[] => {
  const lines: CommandLine[] = []
  // Most comments are talk, and need no parsing.
  if (!/\/swarm/i.test(body)) return lines
  // Paragraphs at the top alone: those in quotes, lists and tables are somebody's telling.
  for (const block of fromMarkdown(body).children) {
    if (block.type !== 'paragraph') continue
    let line = ''
    let plain = true
    const end = () => {
      const found = plain ? line.trim().match(LINE) : null
      if (found !== null) lines.push({ words: (found[1] ?? '').split(/\s+/).filter(word => word !== '') })
      line = ''
      plain = true
    }
    for (const part of block.children) {
      if (part.type === 'break') end()
      else if (part.type === 'text') {
        for (const [at, text] of part.value.split(/\r\n|\r|\n/).entries()) {
          if (at > 0) end()
          line += text
        }
      } else {
        // A line with code, a link, emphasis or HTML in it is no command line, and it may go on over more than one.
        plain = false
      }
    }
    end()
  }
  return lines
}
