import fc from 'fast-check'
import { fromMarkdown } from 'mdast-util-from-markdown'
import { expect, test } from 'vitest'
import { commandLines } from '../../../handlers/command-lines.ts'
import { jiraCommandLines } from '../../../handlers/jira-lines.ts'
import type { AdfNode } from '../../../src/bot/jira/adf.ts'
import {
  adf,
  code,
  escaped,
  inlineCode,
  line,
  link,
  markdown,
  own,
  plainBlocks,
  strong,
} from '../../../src/bot/publish/text.ts'

const hostile = [
  '@octocat look',
  '<img src=x onerror=alert(1)>',
  '[click](http://evil.example)',
  '![pixel](https://evil.example/p.png)',
  'see https://evil.example or www.evil.example',
  '<!-- agent-swarm:status:DROP-1 -->',
  '`` ` ``` ```` text',
  '</details>\n\n# heading\n\n> quote\n| a | b |\n| - | - |',
  '```\n@octocat out of the block\n```',
  'a\u202eb\u0000c\u200b',
  '*bold* _it_ ~~gone~~ $x$ #12 &amp;',
  'see GH-12, closes gh-7',
  'closes #12, fixes acme/shop#12, resolves https://github.com/acme/shop/issues/12',
  '/swarm delete --force',
  'x\n/swarm delete --force\n',
  '- [x] done\n1. one\n***\n===',
  '[^1]: note\n[ref]: https://evil.example',
]
/** The kinds of nodes that Markdown makes of a text. */
const nodeTypes = (text: string): Set<string> => {
  const types = new Set<string>()
  const walk = (node: { type: string; children?: unknown[] }) => {
    types.add(node.type)
    for (const child of node.children ?? []) walk(child as { type: string; children?: unknown[] })
  }
  walk(fromMarkdown(text))
  return types
}
/** A text from outside in every kind of block. */
const everywhere = (text: string) =>
  [
    { line: line`${text} and ${code(text)} and ${strong(text)}` },
    { list: [line`${text}`] },
    { quote: line`${text}: ${code(text)} of ${link(text, 'https://github.com/acme/shop')}` },
    { listing: text },
    {
      table: [
        [own('name'), own('value')],
        [line`${text}`, [code(text)]],
      ],
    },
  ] as const
const nodes = (node: AdfNode): AdfNode[] => [node, ...(node.content ?? []).flatMap(nodes)]

test.for(hostile)('outside text stays text: %j', text => {
  expect(nodeTypes(`it reads: ${escaped(text)}.`)).toEqual(new Set(['root', 'paragraph', 'text']))
  expect(escaped(text)).not.toMatch(/@(?!\u200b)|#(?!\u200b)|:\/\/|\n|gh-\d/i)
  expect(nodeTypes(`it reads: ${inlineCode(text)}.`)).toEqual(new Set(['root', 'paragraph', 'text', 'inlineCode']))
  expect(nodeTypes(markdown([{ listing: text }]))).toEqual(new Set(['root', 'code']))
})

const outside = fc.oneof(
  fc.string({ maxLength: 60, unit: 'grapheme' }),
  fc
    .array(fc.constantFrom(...hostile, '\n', '`', '|', '/swarm stop', '\\', '{code}', '*', ' '), { maxLength: 6 })
    .map(parts => parts.join('')),
)
test('a comment consists of our own parts alone and contains no command, whatever the outside text', () => {
  fc.assert(
    fc.property(outside, text => {
      const body = markdown(everywhere(text))
      // This parser knows no tables: it shows them as text.
      const allowed = new Set([
        'root',
        'paragraph',
        'text',
        'inlineCode',
        'strong',
        'list',
        'listItem',
        'code',
        'blockquote',
        'link',
      ])
      expect([...nodeTypes(body)].filter(type => !allowed.has(type))).toEqual([])
      expect(commandLines(body)).toEqual([])
    }),
    { numRuns: 150, seed: 7 },
  )
})

test('a document for Jira has only our nodes and marks, no empty text and no command, whatever the outside text', () => {
  fc.assert(
    fc.property(outside, text => {
      for (const { type, text: content, marks = [] } of nodes(adf(everywhere(text)) as AdfNode)) {
        expect([
          'doc',
          'paragraph',
          'text',
          'bulletList',
          'listItem',
          'codeBlock',
          'blockquote',
          'table',
          'tableRow',
          'tableHeader',
          'tableCell',
        ]).toContain(type)
        expect(type === 'text' ? (content ?? '').length : 1).toBeGreaterThan(0)
        for (const mark of marks) expect(['code', 'strong', 'link']).toContain(mark.type)
      }
      // The bot reads its own comments too.
      for (const blocks of [everywhere(text), [{ line: line`${text}` }], plainBlocks(text)])
        expect(jiraCommandLines(adf(blocks))).toEqual([])
    }),
    { numRuns: 60, seed: 7 },
  )
})

test('a huge text is cut', () => {
  expect(markdown(everywhere('x'.repeat(1_000_000))).length).toBeLessThan(16_000)
})

test('a comment has at most the length that GitHub and Jira accept, and says that something is missing', () => {
  const hostile = '#'.repeat(3_000)
  const blocks = Array.from({ length: 10 }, () => [
    { listing: 'failed '.repeat(500) },
    { line: line`${hostile}` },
  ]).flat()
  const written = markdown(blocks)
  expect(written.length).toBeLessThan(65_300)
  expect(written.length).toBeGreaterThan(55_000)
  expect(written).toMatch(/\n\nThe rest is too long for one comment\.$/)
  const document = adf(blocks)
  expect(JSON.stringify(document).length).toBeLessThan(32_767)
  expect(document.content.length).toBeGreaterThan(10)
  expect(document.content.at(-1)).toEqual({
    type: 'paragraph',
    content: [{ type: 'text', text: 'The rest is too long for one comment.' }],
  })
  expect(markdown([{ line: own('Short.') }])).toBe('Short.')
})
