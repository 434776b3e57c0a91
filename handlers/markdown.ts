/**
 * The text of a comment as GitHub shows it: GitHub Flavored Markdown (https://github.github.com/gfm/), with footnotes, math and
 * HTML. Only its paragraphs at the top level matter here.
 */
import MarkdownIt, { type Env, type StateInline, type Token } from 'markdown-it'
import { openComment, openTags } from './html-tags.ts'
import { mathIn } from './math.ts'
import { type BlockRule, firstOf, table, textOf } from './table.ts'

/**
 * A line of a paragraph. `plain`: it is text alone, outside of HTML, math and markup. `number`: its index among the lines of the
 * source.
 */
export type ShownLine = { text: string; plain: boolean; number: number }

/** Deeper lists and quotes are not read. The parser's time grows with the depth. */
const MAX_NESTING = 20
const NEWLINE = 0x0a
const BACKSLASH = 0x5c

/** A break of a line, which records where it is. Markdown's own rules do not. */
const lineBreak = (state: StateInline, silent: boolean): boolean => {
  const { src, pos } = state
  const at = src.charCodeAt(pos) === BACKSLASH ? pos + 1 : pos
  if (src.charCodeAt(at) !== NEWLINE) return false
  if (!silent) state.push('softbreak', 'br', 0).meta = { end: at + 1 }
  state.pos = at + 1
  return true
}

const TILDE = 0x7e
/** GitHub strikes through what stands between one or two tildes; the parser's own rule knows only two. */
const tildes = (state: StateInline, silent: boolean): boolean => {
  const { src, pos } = state
  if (silent || src[pos] !== '~') return false
  const { length, can_open, can_close } = state.scanDelims(pos, true)
  const end = pos + length
  state.push('text', '', 0).content = src.slice(pos, end)
  // Two of them on a line of their own strike nothing for GitHub, but whoever writes them means it.
  const isAlone = length === 2 && (pos === 0 || src[pos - 1] === '\n') && (end === src.length || src[end] === '\n')
  if (length <= 2 && (can_open || can_close || isAlone))
    state.delimiters.push({
      ...{ marker: TILDE, length, token: state.tokens.length - 1, end: -1 },
      ...{ open: can_open || isAlone, close: can_close || isAlone },
    })
  state.pos = end
  return true
}

/** Tildes that belong together become the begin and the end of markup, when there are equally many. As in cmark-gfm. */
const strikeThrough = ({ tokens, tokens_meta, delimiters }: StateInline): boolean => {
  for (const list of [delimiters, ...tokens_meta.map(meta => meta?.delimiters ?? [])])
    for (const { marker, length, token, end } of list) {
      const close = list[end]
      if (marker !== TILDE || close === undefined || close.length !== length) continue
      Object.assign(tokens[token] ?? {}, { type: 's_open', nesting: 1 })
      Object.assign(tokens[close.token] ?? {}, { type: 's_close', nesting: -1 })
    }
  return true
}

/** The labels of a comment's footnotes. */
const labelsIn = (env: Env): Set<string> => {
  const known = env.footnotes instanceof Set ? env.footnotes : new Set<string>()
  env.footnotes = known
  return known
}
const FOOTNOTE = /^\[\^([^\]\s]{1,200})\]:[ \t]*/
/** A footnote holds the lines that are indented below it, and a paragraph goes on in it. */
const footnoteBlock: BlockRule = (state, startLine, endLine, silent) => {
  const { bMarks, tShift, sCount, blkIndent, parentType } = state
  const from = (bMarks[startLine] ?? 0) + (tShift[startLine] ?? 0)
  if (firstOf(state, startLine) !== '[' || (sCount[startLine] ?? 0) - blkIndent >= 4) return false
  const [mark, label] = state.src.slice(from, state.eMarks[startLine]).match(FOOTNOTE) ?? []
  if (mark === undefined || label === undefined) return false
  if (silent) return true
  labelsIn(state.env).add(label.toLowerCase())
  state.push('footnote_open', '', 1).map = [startLine, startLine]
  const before = { bMark: bMarks[startLine] ?? 0, shift: tShift[startLine] ?? 0, count: sCount[startLine] ?? 0 }
  bMarks[startLine] = from + mark.length
  tShift[startLine] = 0
  state.blkIndent += 4
  sCount[startLine] = state.blkIndent
  state.parentType = 'footnote' as typeof parentType
  state.md.block.tokenize(state, startLine, endLine)
  state.parentType = parentType
  state.blkIndent -= 4
  bMarks[startLine] = before.bMark
  tShift[startLine] = before.shift
  sCount[startLine] = before.count
  state.push('footnote_close', '', -1)
  return true
}

const REFERENCE = /\[\^([^\]\s]{1,200})\]/y
/** A reference to a footnote that exists. */
const footnoteReference = (state: StateInline, silent: boolean): boolean => {
  const labels = labelsIn(state.env)
  if (labels.size === 0 || state.src[state.pos + 1] !== '^') return false
  REFERENCE.lastIndex = state.pos
  const [mark, label] = REFERENCE.exec(state.src) ?? []
  if (mark === undefined || label === undefined || !labels.has(label.toLowerCase())) return false
  if (!silent) state.push('footnote_ref', '', 0)
  state.pos += mark.length
  return true
}

/** A tag that is alone on its line. https://github.github.com/gfm/#html-blocks, the seventh kind */
const TAG_LINE =
  /^<(?:[a-z][a-z0-9-]*(?:\s+[a-z_:][\w.:-]*(?:\s*=\s*(?:[^"'=<>`\s]+|'[^']*'|"[^"]*"))?)*\s*\/?|\/[a-z][a-z0-9-]*\s*)>\s*$/i

/** Where GitHub differs from the parser's own rules about a paragraph that goes on without the marks of its quote or list. */
const asOnGitHub: Readonly<Record<string, (rule: BlockRule) => BlockRule>> = {
  // In a quote or a list, a definition is kept and read as a paragraph: the next line may go on with it. What is indented below
  // one at the top level is text.
  reference: rule => (state, startLine, endLine, silent) => {
    const isOne = rule(state, startLine, endLine, silent)
    if (!isOne || silent) return isOne
    state.env.definitionEnd = state.line
    if (state.level === 0) return true
    state.line = startLine
    return false
  },
  code: rule => (state, startLine, endLine, silent) =>
    state.env.definitionEnd !== startLine && rule(state, startLine, endLine, silent),
  html_block: rule => (state, startLine, endLine, silent) => {
    if (rule(state, startLine, endLine, silent)) return true
    const indent = state.sCount[startLine] ?? 0
    const isBelow = state.parentType === 'blockquote' || indent < state.blkIndent
    return (
      silent && isBelow && indent < 4 && firstOf(state, startLine) === '<' && TAG_LINE.test(textOf(state, startLine))
    )
  },
}
/** Rules that are tried on one text: quotes in quotes read the lines below them again and again. */
const MAX_TRIES = 100_000
const TOO_MUCH = new RangeError('the text needs more work than anybody means it to')

/** -1 marks a line that an outer quote found to go on with its paragraph. Nothing ends it. */
const bounded =
  (rule: BlockRule): BlockRule =>
  (state, startLine, endLine, silent) => {
    const tries = Number(state.env.tries) + 1
    if (tries > MAX_TRIES) throw TOO_MUCH
    state.env.tries = tries
    return !(silent && (state.sCount[startLine] ?? 0) < 0) && rule(state, startLine, endLine, silent)
  }

const openParser = () => {
  const parser = new MarkdownIt({ html: true, maxNesting: MAX_NESTING })
  parser.inline.ruler.before('newline', 'line break', lineBreak)
  parser.inline.ruler.at('strikethrough', tildes)
  parser.inline.ruler2.at('strikethrough', strikeThrough)
  parser.inline.ruler.before('link', 'footnote', footnoteReference)
  const { ruler } = parser.block
  ruler.before('reference', 'footnote', footnoteBlock, { alt: ['paragraph', 'reference', 'blockquote', 'list'] })
  ruler.before('lheading', 'table as on GitHub', table, { alt: ['paragraph', 'reference'] })
  for (const row of ruler.__rules__) row.fn = bounded(asOnGitHub[row.name]?.(row.fn) ?? row.fn)
  // The text of a paragraph is read only where a command may be in it. An escaped character must stay apart. An image is a link
  // here: it is markup all the same.
  return parser.disable(['inline', 'table', 'linkify', 'replacements', 'smartquotes', 'text_join', 'image'])
}
const parser = openParser()

const MAY_BE_MARKUP = /[\\`*_~[\]<>&$!]/

/** The lines of a paragraph, and the HTML tags that are open after it. `line`: the number of the first one. */
const readParagraph = (content: string, line: number, env: Env, before: readonly string[]) => {
  // Most paragraphs have no markup: each of their lines is text.
  if (!MAY_BE_MARKUP.test(content)) {
    const written = content.split('\n')
    return { lines: written.map((text, at) => ({ text, plain: before.length === 0, number: line + at })), open: before }
  }
  const tokens: Token[] = []
  parser.inline.parse(content, parser, env, tokens)
  const math = mathIn(tokens)
  const lines: ShownLine[] = []
  let open = before
  let depth = 0
  let at = 0
  let current: ShownLine = { text: '', plain: true, number: line }
  for (const [index, { type, nesting, content: text, meta }] of tokens.entries()) {
    depth += nesting
    if (type === 'softbreak') {
      lines.push(current)
      const end = Number(meta?.end)
      const number = current.number + content.slice(at, end).split('\n').length - 1
      at = end
      current = { text: '', plain: true, number }
      continue
    }
    current.plain &&=
      (type === 'text' || type === 'text_special') && depth === 0 && open.length === 0 && !math.has(index)
    // A line written as `\/swarm` or `&#47;swarm` only looks like a command.
    if (type === 'text_special' && current.text.trim().length < '/swarm'.length) current.plain = false
    current.text += text
    if (type === 'html_inline') open = openTags(text, open)
  }
  lines.push(current)
  // `&#10;` is no new line, but may look like one.
  const isOneEach = tokens.every(({ type, content: text }) => type !== 'text_special' || !/[\n\r]/.test(text))
  return { lines: isOneEach ? lines : [], open }
}

/** None when they need more work than anybody's text. */
const blocksOf = (text: string, env: Env): Token[] => {
  try {
    return parser.parse(text, env)
  } catch (error) {
    if (error === TOO_MUCH) return []
    throw error
  }
}

/**
 * The lines of its paragraphs at the top level, in order. `isCut`: it goes on after `text`, so that its last block is unknown.
 * `isWanted`: whether a paragraph's lines are needed.
 */
export const shownLines = (text: string, isCut: boolean, isWanted: (paragraph: string) => boolean): ShownLine[] => {
  const env: Env = { tries: 0 }
  const blocks = blocksOf(text, env)
  const lastBlock = isCut ? blocks.findLastIndex(({ level, nesting }) => level === 0 && nesting >= 0) : blocks.length
  const lines: ShownLine[] = []
  let open: readonly string[] = []
  for (const [index, { type, level, content, map }] of blocks.slice(0, lastBlock).entries()) {
    // Of the tags in a quote or a list, only a comment goes on after it.
    if (type === 'html_block') open = level === 0 ? openTags(content, open) : openComment(content, open)
    if (level !== 1 || type !== 'inline' || blocks[index - 1]?.type !== 'paragraph_open') continue
    if (!content.includes('<') && (open.length > 0 || !isWanted(content))) continue
    const paragraph = readParagraph(content, map?.[0] ?? 0, env, open)
    open = paragraph.open
    lines.push(...paragraph.lines)
  }
  return lines
}
