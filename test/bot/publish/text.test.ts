import fc from 'fast-check'
import { fromMarkdown } from 'mdast-util-from-markdown'
import { expect, test } from 'vitest'
import { commandLines } from '../../../handlers/command-lines.ts'
import { jiraCommandLines } from '../../../handlers/jira-lines.ts'
import {
  type AdfNode,
  adf,
  code,
  escaped,
  inlineCode,
  line,
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
  'closes #12, fixes acme/shop#12, resolves https://github.com/acme/shop/issues/12',
  '/swarm delete --force',
  'x\n/swarm delete --force\n',
  '- [x] done\n1. one\n***\n===',
  '[^1]: note\n[ref]: https://evil.example',
]
/** Every kind of thing that Markdown made out of a text. */
const made = (text: string): Set<string> => {
  const found = new Set<string>()
  const walk = (node: { type: string; children?: unknown[] }) => {
    found.add(node.type)
    for (const child of node.children ?? []) walk(child as { type: string; children?: unknown[] })
  }
  walk(fromMarkdown(text))
  return found
}
/** A text from outside in every place that there is for one. */
const everywhere = (text: string) =>
  [
    { line: line`${text} and ${code(text)} and ${strong(text)}` },
    { list: [line`${text}`] },
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
  expect(made(`said: ${escaped(text)}.`)).toEqual(new Set(['root', 'paragraph', 'text']))
  expect(escaped(text)).not.toMatch(/@(?!\u200b)|#(?!\u200b)|:\/\/|\n/)
  expect(made(`said: ${inlineCode(text)}.`)).toEqual(new Set(['root', 'paragraph', 'text', 'inlineCode']))
  expect(made(markdown([{ listing: text }]))).toEqual(new Set(['root', 'code']))
})

const outside = fc.oneof(
  fc.string({ maxLength: 60, unit: 'grapheme' }),
  fc
    .array(fc.constantFrom(...hostile, '\n', '`', '|', '/swarm stop', '\\', '{code}', '*', ' '), { maxLength: 6 })
    .map(parts => parts.join('')),
)
test('whatever is said, our comment is of our own parts alone, and gives no command', () => {
  fc.assert(
    fc.property(outside, text => {
      const body = markdown(everywhere(text))
      // The tree has no tables: what it shows of one is text.
      const allowed = new Set(['root', 'paragraph', 'text', 'inlineCode', 'strong', 'list', 'listItem', 'code'])
      expect([...made(body)].filter(one => !allowed.has(one))).toEqual([])
      expect(commandLines(body)).toEqual([])
    }),
    { numRuns: 500 },
  )
})

test('in Jira it is text, of marks and nodes that are ours, never empty, and gives no command', () => {
  fc.assert(
    fc.property(outside, text => {
      for (const { type, text: said, marks = [] } of nodes(adf(everywhere(text)) as AdfNode)) {
        expect([
          'doc',
          'paragraph',
          'text',
          'bulletList',
          'listItem',
          'codeBlock',
          'table',
          'tableRow',
          'tableHeader',
          'tableCell',
        ]).toContain(type)
        expect(type === 'text' ? (said ?? '').length : 1).toBeGreaterThan(0)
        for (const mark of marks) expect(['code', 'strong']).toContain(mark.type)
      }
      // Read again, it gives no command, whoever's name it is written under.
      for (const blocks of [everywhere(text), [{ line: line`${text}` }], plainBlocks(text)])
        expect(jiraCommandLines(adf(blocks))).toEqual([])
    }),
    { numRuns: 200 },
  )
})

test('a huge message is cut', () => {
  expect(markdown(everywhere('x'.repeat(1_000_000))).length).toBeLessThan(12_000)
})

test('a comment is no longer than GitHub and Jira take it, and says that there was more', () => {
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
