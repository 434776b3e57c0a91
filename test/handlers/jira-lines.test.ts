import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { jiraCommandLines } from '../../handlers/jira-lines.ts'

const SAMPLES = { numRuns: 80, seed: 2100 }
const commandsIn = (body: unknown) => jiraCommandLines(body).map(({ words }) => words.join(' '))

type Node = { type: string; text?: string; marks?: { type: string }[]; content?: Node[]; attrs?: object }
const text = (words: string, ...marks: string[]): Node => ({
  type: 'text',
  text: words,
  ...(marks.length === 0 ? {} : { marks: marks.map(type => ({ type })) }),
})
const node = (type: string, ...content: Node[]): Node => ({ type, content })
const paragraph = (...content: (Node | string)[]): Node =>
  node('paragraph', ...content.map(child => (typeof child === 'string' ? text(child) : child)))
const doc = (...content: Node[]) => ({ version: 1, ...node('doc', ...content) })
const enter: Node = { type: 'hardBreak' }
const create = paragraph('/swarm create')

describe('the document of a comment', () => {
  test.for<[string, unknown, string[]]>([
    // Commands
    ['a paragraph', doc(create), ['create']],
    ['two paragraphs', doc(create, paragraph('/swarm status')), ['create', 'status']],
    ['two lines of one', doc(paragraph('/swarm create', enter, '/swarm status')), ['create', 'status']],
    ['a line among others', doc(paragraph('Please', enter, '/swarm create', enter, 'thanks')), ['create']],
    ['no word after /swarm', doc(paragraph('/swarm')), ['']],
    ['upper case', doc(paragraph('/SWARM Create')), ['Create']],
    ['spaces around and within', doc(paragraph('  /swarm \t  restore   one ')), ['restore one']],
    ['non-breaking spaces, which the editor makes', doc(paragraph('/swarm\u00a0restore\u00a0one')), ['restore one']],
    ['text in pieces', doc(paragraph('/swa', 'rm cre', 'ate')), ['create']],
    ['after a code block', doc(node('codeBlock', text('x')), create), ['create']],
    ['after a quote', doc(node('blockquote', paragraph('so?')), create), ['create']],
    ['after a heading and a rule', doc(node('heading', text('To do')), { type: 'rule' }, create), ['create']],
    [
      'an indented paragraph',
      doc({ ...create, attrs: { localId: 'x' }, marks: [{ type: 'indentation' }] }),
      ['create'],
    ],
    ['other scripts', doc(paragraph('/swarm checkpoint 名前')), ['checkpoint 名前']],
    ['coloured', doc(paragraph('/swarm ', text('create', 'textColor'))), ['create']],
    ['with a background', doc(paragraph(text('/swarm create', 'backgroundColor'))), ['create']],
    ['a mention before', doc(paragraph({ type: 'mention', text: '@bot' }, ' /swarm create')), ['create']],
    ['a mention in it', doc(paragraph('/swarm create ', { type: 'mention', text: '@bot' })), ['create']],
    ['a flag', doc(paragraph('/swarm delete --force')), ['delete --force']],
    ['next to a line that is code', doc(paragraph(text('/swarm stop', 'code'), enter, '/swarm create')), ['create']],
    // Not commands
    ['nothing', doc(), []],
    ['talk', doc(paragraph('we should /swarm create')), []],
    ['a longer word', doc(paragraph('/swarmx create')), []],
    ['a hyphen', doc(paragraph('/swarm-create')), []],
    ['a zero-width space before', doc(paragraph('\u200b/swarm create')), []],
    ['a zero-width space within', doc(paragraph('/\u200bswarm create')), []],
    ['a right-to-left override before', doc(paragraph('\u202e/swarm create')), []],
    ['line feeds in a text, where they are spaces', doc(paragraph('so\n/swarm create\n')), []],
    ['two commands with a line feed between', doc(paragraph('/swarm create\n/swarm delete')), []],
    ['a code block', doc(node('codeBlock', text('/swarm create'))), []],
    ['a code block with lines', doc(node('codeBlock', text('x\n/swarm create\n'))), []],
    ['inline code', doc(paragraph(text('/swarm create', 'code'))), []],
    ['inline code in part', doc(paragraph('/swarm ', text('create', 'code'))), []],
    ['a quote', doc(node('blockquote', create)), []],
    ['a panel', doc(node('panel', create)), []],
    ['an expand', doc(node('expand', create)), []],
    ['a list', doc(node('bulletList', node('listItem', create))), []],
    ['a numbered list', doc(node('orderedList', node('listItem', create))), []],
    ['tasks', doc(node('taskList', node('taskItem', text('/swarm create')))), []],
    ['decisions', doc(node('decisionList', node('decisionItem', text('/swarm create')))), []],
    ['a table', doc(node('table', node('tableRow', node('tableCell', create)))), []],
    ['columns', doc(node('layoutSection', node('layoutColumn', create))), []],
    ['a heading', doc(node('heading', text('/swarm create'))), []],
    ['a caption', doc(node('mediaSingle', node('caption', text('/swarm create')))), []],
    ['an unknown node', doc(node('extension', create)), []],
    ['a link', doc(paragraph(text('/swarm create', 'link'))), []],
    ['strong', doc(paragraph(text('/swarm create', 'strong'))), []],
    ['struck through', doc(paragraph(text('/swarm create', 'strike'))), []],
    ['coloured and struck through', doc(paragraph(text('/swarm create', 'textColor', 'strike'))), []],
    ['an emoji in it', doc(paragraph({ type: 'emoji', text: ':-)' }, '/swarm create')), []],
    ['a date in it', doc(paragraph('/swarm checkpoint ', { type: 'date' })), []],
    ['text at the top', doc(text('/swarm create')), []],
    ['a document in a document', doc({ ...doc(create) }), []],
    ['a paragraph alone', create, []],
    // Not documents
    ['null', null, []],
    ['a number', 1, []],
    ['a list', [create], []],
    ['no content', { type: 'doc', version: 1 }, []],
    ['content that is not a list', { type: 'doc', version: 1, content: 'x' }, []],
    [
      'content that holds no nodes',
      { type: 'doc', content: [null, 1, 'x', [], { type: 'paragraph', content: [null, 1] }] },
      [],
    ],
    [
      'a text that is a number',
      { type: 'doc', content: [{ type: 'paragraph', content: [{ type: 'text', text: 1 }] }] },
      [],
    ],
  ])('%s', ([, body, expected]) => expect(commandsIn(body)).toEqual(expected))

  const words = fc.oneof(
    fc.string(),
    fc.constantFrom('/swarm create', '/swarm', '/swarm delete --force', '\n/swarm stop'),
  )
  const marks = fc.constantFrom('code', 'link', 'strong', 'em', 'strike', 'textColor', 'underline', 'annotation')
  const holders = fc.constantFrom(
    'blockquote',
    'panel',
    'expand',
    'listItem',
    'bulletList',
    'tableCell',
    'table',
    'codeBlock',
  )
  const { tree } = fc.letrec<{ tree: Node; leaf: Node }>(tie => ({
    leaf: fc.oneof(
      words.map(line => text(line)),
      fc.tuple(words, marks).map(([line, mark]) => text(line, mark)),
      words.map(line => ({ type: 'inlineCard', text: line })),
      fc.constant(enter),
    ),
    tree: fc.oneof(
      { depthSize: 'small' },
      tie('leaf'),
      fc.array(tie('leaf')).map(content => paragraph(...content)),
      fc.tuple(holders, fc.array(tie('tree'), { maxLength: 4 })).map(([type, content]) => node(type, ...content)),
    ),
  }))

  const HARMLESS = ['textColor', 'annotation']
  /** The lines of the document's own text, computed in another way than the parser does. */
  const ownLines = (document: { content?: Node[] }): string[] =>
    (document.content ?? [])
      .filter(({ type }) => type === 'paragraph')
      .flatMap(({ content = [] }) =>
        content
          .map(({ type, text, marks }) =>
            type === 'hardBreak'
              ? '\u0000'
              : type === 'text' && (!marks || marks.every(mark => HARMLESS.includes(mark.type)))
                ? text
                : '\u0001',
          )
          .join('')
          .split('\u0000'),
      )

  test('in any tree, the commands are the lines of its own text that begin with /swarm', () => {
    fc.assert(
      fc.property(fc.array(tree, { maxLength: 6 }), content => {
        const document = doc(...content)
        const expected = ownLines(document)
          .map(line => line.trim())
          .filter(line => /^\/swarm([\t\p{Zs}].*)?$/iu.test(line) && !line.includes('\u0001'))
          .map(line => line.slice('/swarm'.length).trim().split(/\s+/).join(' '))
        expect(commandsIn(document)).toEqual(expected)
      }),
      SAMPLES,
    )
  })

  test('text in quotes, code or panels gives no command', () => {
    fc.assert(
      fc.property(fc.array(tree, { maxLength: 5 }), holders, (content, holder) => {
        expect(commandsIn(doc(node(holder, ...content)))).toEqual([])
      }),
      SAMPLES,
    )
  })

  test('no value makes it fail', () => {
    fc.assert(
      fc.property(fc.anything(), body => void jiraCommandLines(body)),
      SAMPLES,
    )
  })
})

describe('wiki text', () => {
  test.for<[string, string[]]>([
    // Commands
    ['/swarm create', ['create']],
    ['/swarm create\n/swarm status', ['create', 'status']],
    ['/swarm create\r\n/swarm status\r\n', ['create', 'status']],
    ['/swarm create\\\\/swarm status', ['create', 'status']],
    ['Please\n/swarm create\nthanks', ['create']],
    ['h1. To do\n/swarm stop', ['stop']],
    ['----\n/swarm stop', ['stop']],
    ['{code}x{code}\n/swarm stop', ['stop']],
    ['{code:java}\nx\n{code}\n/swarm stop', ['stop']],
    ['{quote}\nso?\n{quote}\n\n/swarm stop', ['stop']],
    ['bq. so?\n\n/swarm stop', ['stop']],
    ['* a list\n\n/swarm stop', ['stop']],
    ['\\{code} is a macro\n/swarm stop', ['stop']],
    ['/swarm checkpoint before\\-refactor', ['checkpoint before-refactor']],
    ['/swarm delete \\-\\-force', ['delete --force']],
    ['  /swarm create  ', ['create']],
    ['{color:red}\n/swarm create\n{color}', ['create']],
    ['{color:red}/swarm create{color}', ['create']],
    ['/swarm checkpoint {color:red}x{color}', ['checkpoint x']],
    ['[~accountid:x] /swarm create', ['create']],
    ['/swarm create [~accountid:x]', ['create']],
    ['[~accountid:x] look\n/swarm create', ['create']],
    // Not commands
    ['', []],
    ['try /swarm create', []],
    ['/swarmx', []],
    ['{code}\n/swarm create\n{code}', []],
    ['{code:sh|title=x}\n/swarm create\n{code}', []],
    ['{code}\n/swarm create', []],
    ['{CODE}\n/swarm create\n{Code}', []],
    ['{noformat}\n/swarm create\n{noformat}', []],
    ['{noformat}\n{code}\n{noformat}\n{quote}\n/swarm create\n{quote}', []],
    ['{code}\n{noformat}\n/swarm create\n{code}\n', []],
    ['{quote}\n/swarm create\n{quote}', []],
    ['{quote}\n{code}\nx\n{code}\n/swarm create\n{quote}', []],
    ['{quote}one\n{quote}\n{quote}\n/swarm create\n{quote}', []],
    ['{panel:title=x}\n/swarm create\n{panel}', []],
    ['{expand}\n/swarm create\n{expand}', []],
    ['{color:red}\n{code}\n/swarm create\n{code}{color}', []],
    ['bq. /swarm create', []],
    ['bq. so?\n/swarm create', []],
    ['> /swarm create', []],
    ['> On Monday dev wrote:\n> /swarm create', []],
    ['* /swarm create', []],
    ['* a list\n/swarm create', []],
    ['# one\n## two\n/swarm create', []],
    ['- a list\n/swarm create', []],
    ['|/swarm create|', []],
    ['||head||\n|cell|\n/swarm create', []],
    ['{{/swarm create}}', []],
    ['/swarm {{create}}', []],
    ['*/swarm create*', []],
    ['[/swarm create|https://example.org]', []],
    ['/swarm [create|https://example.org]', []],
    ['h1. /swarm create', []],
    ['\u200b/swarm create', []],
    ['!/swarm create.png!', []],
  ])('%j', ([body, expected]) => expect(commandsIn(body)).toEqual(expected))

  test('text between two macros or after a mark gives no command', () => {
    const body = fc
      .array(fc.oneof(fc.string(), fc.constantFrom('/swarm create', '/swarm delete --force', 'bq. x', '* x')))
      .map(lines => lines.join('\n').replaceAll(/[{\\]/g, '('))
    fc.assert(
      fc.property(body, fc.constantFrom('code', 'noformat', 'quote', 'panel', 'expand'), (within, name) => {
        expect(commandsIn(`{${name}}\n${within}\n{${name}}`)).toEqual([])
        for (const mark of ['> ', 'bq. ', '* ', '# ', '|'])
          expect(
            commandsIn(
              within
                .split(/\r\n|\r|\n/)
                .map(line => `${mark}${line}`)
                .join('\n'),
            ),
          ).toEqual([])
      }),
      SAMPLES,
    )
  })

  test('only a line that begins with /swarm becomes a command', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 200 }), body => {
        const own = body.split(/\r\n|\r|\n|\\\\/).filter(line => /^\s*\\*\/\\*swarm([\t\p{Zs}\\]|$)/iu.test(line))
        expect(jiraCommandLines(body).length).toBeLessThanOrEqual(own.length)
      }),
      SAMPLES,
    )
  })
})
