/** What an agent reads of a ticket: text alone, and not more than it should. */
import { expect, test } from 'vitest'
import { acceptanceSection, plainText } from '../../../src/bot/jira/plain-text.ts'

const text = (value: string, ...marks: string[]) => ({
  type: 'text',
  text: value,
  marks: marks.map(type => ({ type })),
})
const block = (type: string, ...content: unknown[]) => ({ type, content })
const doc = (...content: unknown[]) => ({ type: 'doc', version: 1, content })

test.for<[string, unknown, string]>([
  ['a paragraph with marks is one line', doc(block('paragraph', text('a '), text('b', 'strong'), text(' c'))), 'a b c'],
  ['paragraphs stand apart', doc(block('paragraph', text('a')), block('paragraph', text('b'))), 'a\n\nb'],
  ['a line break', doc(block('paragraph', text('a'), { type: 'hardBreak' }, text('b'))), 'a\nb'],
  ['a heading', doc({ type: 'heading', attrs: { level: 3 }, content: [text('Why')] }), '### Why'],
  [
    'a heading of a level that does not exist',
    doc({ type: 'heading', attrs: { level: 1e9 }, content: [text('x')] }),
    '# x',
  ],
  [
    'lists within lists',
    doc(
      block(
        'bulletList',
        block(
          'listItem',
          block('paragraph', text('a')),
          block('orderedList', block('listItem', block('paragraph', text('b')))),
        ),
        block('listItem', block('paragraph', text('c'))),
      ),
    ),
    '- a\n  1. b\n- c',
  ],
  ['code', doc(block('codeBlock', text('let a = 1\nlet b'))), '```\nlet a = 1\nlet b\n```'],
  [
    'a mention, a link to a page and something unknown',
    doc(
      block(
        'paragraph',
        { type: 'mention', attrs: { id: '5b', text: '@Dev' } },
        { type: 'inlineCard', attrs: { url: 'https://example.org/x' } },
        { type: 'mediaInline', attrs: { id: 'x' } },
      ),
    ),
    '@Devhttps://example.org/x',
  ],
  [
    'a table',
    doc(
      block(
        'table',
        block(
          'tableRow',
          block('tableCell', block('paragraph', text('a'))),
          block('tableCell', block('paragraph', text('b'))),
        ),
      ),
    ),
    'a | b',
  ],
  ['text as it is, without signs that steer a terminal', 'a\u001b[31mb\r\nc\u202ed\0', 'a[31mb\ncd'],
  ['nothing', null, ''],
  ['a number', 7, ''],
  ['members of other types', { type: 7, content: [{ type: 'text', text: {} }, null, 'x'] }, ''],
])('%s', ([, value, expected]) => expect(plainText(value)).toBe(expected))

test('a document has a bound in length, depth and number', () => {
  expect(plainText(doc(block('paragraph', text('x'.repeat(1_000_000)))))).toHaveLength(30_000)
  let deep: unknown = text('x')
  for (let n = 0; n < 10_000; n += 1) deep = block('blockquote', deep)
  expect(plainText(deep)).not.toContain('x')
  const wide = Array.from({ length: 200_000 }, () => block('paragraph', text('x')))
  expect(plainText({ type: 'doc', content: wide }).length).toBeLessThanOrEqual(30_000)
})

test.for<[string, string, string]>([
  ['up to the next heading', 'a\n\n## Acceptance Criteria\n\n- b\n\n## Notes\nc', '- b'],
  ['to the end', 'a\nAcceptance criteria:\nb\n\nc', 'b\n\nc'],
  ['wiki text', 'h3. Acceptance criteria\n* b\nh3. Other\nc', '* b'],
  ['in a sentence, it is none', 'The acceptance criteria are open.', ''],
])('the section for acceptance criteria: %s', ([, description, expected]) =>
  expect(acceptanceSection(description)).toBe(expected),
)
