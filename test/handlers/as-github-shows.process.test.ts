/**
 * An independent reading of comments: cmark-gfm, from which GitHub's own renderer comes, makes HTML of them, and a line is a
 * command when it stands by itself in a paragraph at the top level of that.
 */
import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { commandLines } from '../../handlers/command-lines.ts'
import { samples } from '../support/samples.ts'

const EXTENSIONS = ['table', 'strikethrough', 'footnotes'].flatMap(name => ['-e', name])
const render = (body: string): string =>
  execFileSync('cmark-gfm', ['--unsafe', ...EXTENSIONS], { input: body, encoding: 'utf8' })

const hasCmark = (() => {
  try {
    return render('x') === '<p>x</p>\n'
  } catch {
    return false
  }
})()

const VOID = ['area', 'base', 'br', 'col', 'embed', 'hr', 'img', 'input', 'link', 'meta', 'source', 'track', 'wbr']
const decoded = (text: string) =>
  text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&quot;', '"').replaceAll('&amp;', '&')

const INLINE = ['p', 'em', 'strong', 'del', 'a', 'sup', 'code', 'b', 'span']

/** The command lines in paragraphs at the top level of HTML. */
const commandsInHtml = (html: string): string[] => {
  const commands: string[] = []
  const open: string[] = []
  let line: string | null = null
  const endLine = () => {
    const match =
      line === null
        ? null
        : decoded(line)
            .trim()
            .match(/^\/swarm(?:\s+(.*))?$/i)
    if (match !== null) commands.push((match[1] ?? '').split(/\s+/).join(' '))
  }
  for (const [piece, slash, name = ''] of html.matchAll(
    /<!--[\s\S]*?(?:-->|$)|<[!?][^>]*>|<(\/?)([a-z][a-z0-9]*)\b[^>]*>|\n|[^<\n]+|</gi,
  )) {
    const isInParagraph = open.length === 1 && open[0] === 'p'
    if (piece === '\n') {
      endLine()
      line = isInParagraph ? '' : null
    } else if (name === '') line = piece.startsWith('<') || !isInParagraph ? null : line === null ? null : line + piece
    else if (VOID.includes(name)) line = name === 'br' && piece === '<br />' ? line : null
    else if (slash === '') {
      open.push(name)
      line = name === 'p' && open.length === 1 ? '' : null
    } else {
      if (name === 'p' && isInParagraph) endLine()
      line = null
      // The end of a paragraph leaves what was opened in it open, as a browser does.
      const at = open.lastIndexOf(name)
      if (at >= 0) open.splice(at, INLINE.includes(name) ? 1 : open.length)
    }
  }
  return commands
}

const PREFIXES = [
  '',
  '',
  '',
  '',
  '',
  '',
  '',
  '> ',
  '- ',
  '1. ',
  '  ',
  '    ',
  '\t',
  '* ',
  '+ ',
  '2) ',
  '# ',
  '>',
  '>> ',
  '  - ',
]
const CONTENTS = [
  ...[
    '/swarm stop',
    '/swarm stop',
    '/swarm stop',
    '/swarm checkpoint a',
    '/swarm',
    '/swarm delete --force',
    '',
    '',
    '',
    '',
  ],
  ...[
    'text',
    'x /swarm stop',
    '/swarm stop `x`',
    '/swarm *a*',
    '/swarm stop | a',
    '/swarm stop <!-- x -->',
    '/swarm stop $5',
  ],
  ...['a | b', '--- | ---', '| a | b |', '|---|---|', '--|:-:', ':--', '|', 'a|b|c', '\\| a'],
  ...['```', '```', '~~~', '````', '``` sh', '`` `', '`a', 'b`', '``', '`a` b'],
  ...[
    '<details>',
    '</details>',
    '<summary>x</summary>',
    '<details><summary>x</summary>',
    '<div>',
    '</div>',
    '<pre>',
    '</pre>',
  ],
  ...[
    '<!-- a',
    '-->',
    '<!-- a -->',
    '<b>',
    '</b>',
    '<br>',
    'a <b>',
    'b</b> c',
    '<b>a</b>',
    '<a href="',
    '">',
    '<span',
    '>',
  ],
  ...[
    '*a',
    'b*',
    '**a',
    'b**',
    '_a',
    'b_',
    '*',
    '***',
    '**a*',
    'a*b',
    '__',
    '~~a',
    'b~~',
    '~a',
    'b~',
    '~~a~~',
    'a ~~ b',
    'a~b',
  ],
  ...[
    '[a',
    'b](c)',
    '[a](b)',
    '[x]: /y',
    '[x]',
    '[x]: /y "',
    '"',
    '[/swarm stop]',
    '![a',
    '](',
    '[a][x]',
    '][x]',
    '[]: ',
    '[y]:',
    '/z',
  ],
  ...['[^1]: note', 'see[^1]', '[^1]:', '[^2]', '===', '---', '***', '- - -', '==', '-', '1.', '+'],
  ...[
    '\\',
    'a\\',
    'a  ',
    '&amp;',
    '&#35;',
    '"q',
    '(a',
    'b)',
    'a\\*',
    '\\`a',
    'http://a.b',
    '<http://a.b>',
    '# h',
    '####### h',
  ],
]

const comment = (next: (below: number) => number): string => {
  const pick = (list: readonly string[]) => list[next(list.length)] ?? ''
  return Array.from({ length: 2 + next(9) }, () => `${pick(PREFIXES)}${pick(CONTENTS)}`).join('\n')
}

test.skipIf(!hasCmark)('cmark-gfm finds the same commands in generated comments', { timeout: 3_600_000 }, () => {
  for (const { seed, next } of samples({ all: 10_000, some: 300 })) {
    const body = comment(next)
    const html = render(body)
    const found = commandLines(body).map(({ words }) => words.join(' '))
    expect(found, `seed ${seed}: ${JSON.stringify(body)}\n${html}`).toEqual(commandsInHtml(html))
  }
})
