/** What GitHub and Jira show as something else than text, and quoted mails: by table, since cmark-gfm knows none of it. */
import { describe, expect, test } from 'vitest'
import { commandLines } from '../../handlers/command-lines.ts'
import { jiraCommandLines } from '../../handlers/jira-lines.ts'

const commandsIn = (body: string) => commandLines(body).map(({ words }) => words.join(' '))

test.for<[string, string, string[]]>([
  // Math
  ['a formula in a block', '$$\n/swarm delete\n$$', []],
  ['a formula in a block, after text', 'so:\n$$\n/swarm delete\n$$', []],
  ['a formula that goes on', 'it is $a\n/swarm delete\nb$ here', []],
  ['a formula on its line', '$x$\n/swarm stop', ['stop']],
  ['two prices', 'it costs $5\n/swarm stop\nand $6 more', ['stop']],
  ['a dollar sign alone', 'US$\n/swarm stop', ['stop']],
  ['a shell', '/swarm checkpoint $(id)', ['checkpoint $(id)']],
  ['an escaped sign', '\\$\\$\n/swarm stop\n\\$\\$', ['stop']],
  ['a block that is not closed', '$$\n/swarm stop', ['stop']],
  ['a fence of math', '```math\n/swarm delete\n```', []],
  // HTML
  ['details', '<details>\n<summary>what I did</summary>\n\n/swarm stop\n\n</details>', []],
  ['details that are not closed', '<details>\n\n/swarm stop', []],
  ['after details', '<details>\n\nx\n\n</details>\n\n/swarm stop', ['stop']],
  ['details in details', '<details>\n\n<details>\n\n</details>\n\n/swarm stop\n\n</details>', []],
  ['a tag in a paragraph', 'a <b>c\n\n/swarm stop\n\n</b>', []],
  ['any tag', '<div>\n\n/swarm stop\n\n</div>', []],
  ['a void tag', '<hr>\n\n/swarm stop\n\n<img src="x">\n\n/swarm start', ['stop', 'start']],
  ['a comment with a tag', '<!-- <details> -->\n\n/swarm stop', ['stop']],
  ['a tag in code', '`<details>`\n\n/swarm stop', ['stop']],
  ['a tag in a quote', '> <details>\n\n/swarm stop', ['stop']],
  ['an end without a beginning', '</details>\n\n/swarm stop', ['stop']],
  // GFM
  ['struck through', '~~first I wanted this\n/swarm delete --force\n~~', []],
  ['struck through with one tilde', '~first\n/swarm delete~', []],
  ['a table without outer bars', 'command | meaning\n--- | ---\n/swarm delete | deletes', []],
  ['a table of one column', 'command\n:--\n/swarm delete', []],
  ['a footnote', 'see[^1]\n\n[^1]: it says\n    /swarm delete', []],
])('%s', ([, body, expected]) => expect(commandsIn(body)).toEqual(expected))

describe('reading ends at a quoted mail', () => {
  const heads = [
    'On Mon, Dec 1, 2026 at 10:00 AM Alice <alice@example.org> wrote:',
    'On Mon, Dec 1, 2026 at 10:00 AM Alice Example\n<alice@example.org> wrote:',
    '---- On Mon, 01 Dec 2026 Alice wrote ----\nOn Monday Alice wrote:',
    '-- On Monday, Alice wrote: --',
    '-----Original Message-----',
    'Reply to this email directly, view it on GitHub, or unsubscribe.',
    'From: Alice\nSent: Monday\nTo: dev',
    'From: Alice\nCc: x\nBcc: y\nReply-To: z\nSubject: hello',
    '**From:** Alice\n**Date:** Monday',
  ]
  test.for(heads)('%j', head => {
    const body = `/swarm status\n\n${head}\n\n/swarm delete`
    expect(commandsIn(body)).toEqual(['status'])
    expect(jiraCommandLines(body.replaceAll('**', '*')).map(({ words }) => words.join(' '))).toEqual(['status'])
    const content = body.split('\n').map(text => ({ type: 'paragraph', content: [{ type: 'text', text }] }))
    expect(jiraCommandLines({ type: 'doc', version: 1, content })).toHaveLength(1)
  })
  test.for([
    'On the other hand, I wrote:\nnothing',
    'He wrote:',
    'From: here\nit is a long way\nto there',
    'From: a\n\n\n\n\nTo: b',
    '> On Monday, dev wrote:\n> so?',
  ])('not at %j', text => {
    const expected = text.startsWith('On the other') ? [] : ['stop']
    expect(commandsIn(`${text}\n\n/swarm stop`)).toEqual(expected)
  })
  test('a mail that begins in the paragraph ends it there, and what it leaves open stays open', () => {
    expect(commandsIn('/swarm status\nOn Monday, dev wrote:\n/swarm delete')).toEqual(['status'])
    expect(commandsIn('`code\n/swarm delete\nOn Monday, dev wrote:\n`')).toEqual([])
  })
})
