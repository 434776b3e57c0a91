/**
 * Nobody makes the bot work by what they write: every text from outside costs at most 20 times the processor time of plain text
 * of the same length, measured in the same run.
 */
import { describe, expect, test } from 'vitest'
import { commandLines, possibleCommands } from '../handlers/command-lines.ts'
import { jiraCommandLines } from '../handlers/jira-lines.ts'
import { ticketOfPullRequest } from '../src/branches.ts'
import { readYaml } from '../src/schema/yaml.ts'
import { rules } from './handlers/fixtures.ts'
import { isLong } from './support/samples.ts'

const LENGTH = 10_000
const MOST = 20
const PLAIN = 'The quick brown fox jumps over the lazy dog,\nand nobody knows why it does that.\n'
const COMMAND = '/swarm status\n\n'

const fill = (piece: string, length = LENGTH) => piece.repeat(Math.ceil(length / piece.length)).slice(0, length)
/** Microseconds of this process; the least of a few runs, so that neither a compiler nor a collector counts. */
const cost = async (work: () => unknown, runs: number): Promise<number> => {
  let least = Number.POSITIVE_INFINITY
  for (let run = 0; run < runs; run += 1) {
    const before = process.cpuUsage()
    await work()
    const { user, system } = process.cpuUsage(before)
    least = Math.min(least, user + system)
  }
  return least
}
/** Those of `texts` that cost too much. A suspect is measured again after all others, when the code is compiled. */
const tooExpensive = async (texts: readonly string[], read: (text: string) => unknown, plain: string) => {
  for (let run = 0; run < 20; run += 1) await read(plain)
  // Below half a millisecond, the clock and not the text decides.
  const limit = MOST * Math.max(await cost(() => read(plain), 20), 500)
  const over = async (suspects: readonly string[], runs: number) => {
    const found: string[] = []
    for (const text of suspects) if ((await cost(() => read(text), runs)) > limit) found.push(text)
    return found
  }
  return (await over(await over(texts, 1), 10)).map(text => JSON.stringify(text.slice(0, 60)))
}

const CONSTRUCTS = [
  ...[
    '* ',
    '- ',
    '> ',
    '1. ',
    '1) ',
    '+ ',
    '# ',
    'a\n===\n',
    'a\n---\n',
    '---\n',
    '```\n',
    '~~~\n',
    '    ',
    '\t',
    '\n',
    'a\n',
  ],
  ...[
    '`',
    '``',
    '`a',
    '*a',
    '*a ',
    'a*',
    '**a*',
    '_a ',
    'a_',
    '__a_',
    '~a',
    '~~a',
    'a~~',
    '*_',
    '**_',
    '$',
    '$$',
    '$a',
    '^[',
  ],
  ...['[', '](', '[a](', '[a]', '[a]: b\n', '![', '![[]()', '[^1]', '[^1]: ', '[^a]: b\n', '[a](b "'],
  ...[
    '<',
    '<a ',
    '<a>',
    '</a>',
    '<!--',
    '<?',
    '<!A ',
    '<![CDATA[',
    '<b x="',
    "<a b='",
    '<http://a',
    '<details>',
    '<div>\n',
    '</div>\n',
  ],
  ...[
    '&',
    '&amp;',
    '\\',
    '\\*',
    '|',
    '|a',
    '|-|\n',
    'a|b\n-|-\n',
    '> a\n',
    '>\n',
    '> > \nx\n',
    '>>\nx\nx\nx\n',
    '> > \n-|-\n',
    '- a\n',
    '  - ',
    '-\n',
    'a\\\n',
    'a  \n',
  ],
  ...['/swarm\n', '/swarm ', '@a ', '@', '"', "'", '(', ')', 'On a\n', 'wrote:\n', 'From:\n', '--', 'x'.repeat(100)],
]
/** Each alone, and in pairs: one after the other and mixed. A sample of the pairs unless the whole is asked for. */
const comments = (): string[] => {
  const pairs = CONSTRUCTS.flatMap(a => CONSTRUCTS.map(b => [a, b] as const))
  const some = isLong ? pairs : pairs.filter((_pair, n) => n % 97 === 0)
  return [
    ...CONSTRUCTS.flatMap(piece => [fill(piece), asRead(piece)]),
    ...some.flatMap(([a, b]) => [fill(a + b), asRead(a + b), fill(a, LENGTH / 2) + fill(b, LENGTH / 2)]),
  ]
}

/** What holds more markup than anybody writes is not read at all: as much as is read, and plain text after it. */
const MOST_SIGNS = 980
const asRead = (piece: string): string => {
  const signs = piece.replaceAll(/[\w\s]/g, '').length
  return fill(piece, Math.min(LENGTH, piece.length * Math.floor(MOST_SIGNS / Math.max(1, signs)))) + PLAIN.repeat(9)
}

describe('at most 20 times the work of plain text', { timeout: 3_600_000 }, () => {
  test('a comment on GitHub', async () => {
    const bodies = comments().map(text => (COMMAND + text).slice(0, LENGTH))
    expect(await tooExpensive(bodies, commandLines, COMMAND + fill(PLAIN))).toEqual([])
    // In one paragraph with the command.
    const joined = bodies.map(body => body.replace('\n\n', '\n'))
    expect(await tooExpensive(joined, commandLines, COMMAND + fill(PLAIN))).toEqual([])
  })

  test('the first look at a comment', async () => {
    expect(await tooExpensive(comments(), possibleCommands, fill(PLAIN))).toEqual([])
  })

  test('a comment in Jira, as wiki text', async () => {
    const wiki = [
      '{code}',
      '{code:',
      '{quote}',
      '{quote}{panel}\n',
      '{color:',
      '{color}',
      '[~',
      '[~a] ',
      '\\\\',
      '\\',
      '{{',
      '* a\n',
      '||',
    ]
    const bodies = [...comments(), ...wiki.map(piece => fill(piece))].map(text => COMMAND + text)
    expect(await tooExpensive(bodies, jiraCommandLines, COMMAND + fill(PLAIN))).toEqual([])
  })

  test('a comment in Jira, as a document', async () => {
    const text = (words: string, marks: object[] = []) => ({ type: 'text', text: words, marks })
    const nodes: object[] = [
      text('a'),
      text('/swarm a'),
      text(
        'a',
        Array.from({ length: 5 }, () => ({ type: 'textColor' })),
      ),
      { type: 'hardBreak' },
      { type: 'mention' },
      { type: 'emoji' },
    ]
    const paragraph = (...content: object[]) => ({ type: 'paragraph', content })
    const doc = (content: object[]) => JSON.stringify({ type: 'doc', version: 1, content })
    const deep = (depth: number): object =>
      Array.from({ length: depth }).reduce<object>(inner => ({ type: 'blockquote', content: [inner] }), paragraph())
    const times = (count: number, node: object) => Array.from({ length: count }, () => node)
    const documents = [
      ...nodes.map(node => doc([paragraph(...times(LENGTH / 10, node))])),
      ...nodes.map(node => doc(times(LENGTH / 10, paragraph(node)))),
      doc([deep(1_000)]),
    ]
    const plain = doc([paragraph(text('/swarm status')), paragraph(text(fill(PLAIN, LENGTH * 5)))])
    expect(await tooExpensive(documents, body => jiraCommandLines(JSON.parse(body)), plain)).toEqual([])
  })

  test('the file of a repository', async () => {
    const pieces = [
      'a: ',
      '- ',
      '? ',
      '[',
      '{',
      '[[',
      '{a: ',
      '"',
      "'",
      '|\n',
      '>\n',
      '&a ',
      '*a ',
      '!a ',
      '# ',
      '\n',
      ' ',
      'a:\n ',
      '- - ',
      '%',
      '---\n',
    ]
    const plain = Array.from({ length: 300 }, (_none, n) => `key-${n}: a value of some words\n`)
      .join('')
      .slice(0, LENGTH)
    const texts = pieces.flatMap(a => [fill(a), ...pieces.map(b => fill(a + b))])
    const some = isLong ? texts : texts.filter((_text, n) => n % 31 === 0)
    expect(await tooExpensive(some, text => readYaml(text, 'a.yml', 64_000), plain)).toEqual([])
  })

  test('branches, titles and the search for tickets', async () => {
    const pieces = [
      'DROP-',
      'DROP',
      'D',
      '-',
      'DROP-1',
      'DROP-12345678',
      '/',
      'DROP-0',
      'drop_1',
      'a-1 ',
      '..',
      '1.2.3 ',
    ]
    const texts = pieces.flatMap(a => pieces.map(b => fill(a + b)))
    const served = { ...rules, projects: ['DROP', 'WEB', 'D_1'], branches: ['a*b*c*', '*-x-*'] }
    const read = (text: string) => ticketOfPullRequest({ branch: text, title: text }, served)
    expect(await tooExpensive(texts, read, fill(PLAIN))).toEqual([])
  })
})
