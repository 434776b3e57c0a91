import fc from 'fast-check'
import { expect, test } from 'vitest'
import { commandLines } from '../../handlers/command-lines.ts'

/** Fewer samples than fast-check's default would repeat on every run; the seed makes a failure repeatable. */
const SAMPLES = { numRuns: 80, seed: 2100 }
const commandsIn = (body: string) => commandLines(body).map(({ words }) => words.join(' '))

test.for<[string, string[]]>([
  // Commands
  ['/swarm create', ['create']],
  ['/swarm', ['']],
  ['/SWARM Create', ['Create']],
  ['/swarm   checkpoint   before-refactor  ', ['checkpoint before-refactor']],
  ['/swarm\tcreate', ['create']],
  ['   /swarm create', ['create']],
  ['/swarm create\n/swarm status', ['create', 'status']],
  ['/swarm create\r\n/swarm status\r\n', ['create', 'status']],
  ['/swarm create\n\n/swarm status', ['create', 'status']],
  ['Please:\n/swarm create\nThanks', ['create']],
  ['text\n\n/swarm restore one', ['restore one']],
  ['/swarm create  \n/swarm status', ['create', 'status']],
  ['/swarm create\\\n/swarm status', ['create', 'status']],
  ['# Title\n/swarm stop', ['stop']],
  ['***\n/swarm stop', ['stop']],
  ['<!-- note -->\n\n/swarm stop', ['stop']],
  ['```\ncode\n```\n/swarm stop', ['stop']],
  ['> quoted\n\n/swarm stop', ['stop']],
  ['/swarm checkpoint a_b', ['checkpoint a_b']],
  ['/swarm checkpoint 名前', ['checkpoint 名前']],
  ['/swarm create && reboot', ['create && reboot']],
  ['/swarm checkpoint $(id)', ['checkpoint $(id)']],
  ['\uFEFF/swarm create', ['create']],
  ['/swarm\u00a0restore\u00a0one', ['restore one']],
  ['\u00a0/swarm create', ['create']],
  ['/swarm create\r/swarm status', ['create', 'status']],
  ['/swarm create :rocket:', ['create :rocket:']],
  ['/swarm checkpoint 🚀', ['checkpoint 🚀']],
  ['🚀\n/swarm create', ['create']],
  ['@octocat please\n/swarm create', ['create']],
  ['/swarm checkpoint @octocat', ['checkpoint']],
  ['/swarm status @acme/leads', ['status']],
  ['@octocat /swarm create', ['create']],
  ['/swarm checkpoint a@b', ['checkpoint a@b']],
  ['/swarm checkpoint #12', ['checkpoint #12']],
  ['/swarm create # now', ['create # now']],
  ['/swarm restore one -- two', ['restore one -- two']],
  ['/swarm delete --force', ['delete --force']],
  ['/swarm delete —force', ['delete —force']],
  ['/swarm "restore one"', ['"restore one"']],
  ['/swarm create\n\n> On Monday, dev wrote:\n> /swarm delete', ['create']],
  ['/swarm create\n\nOn Monday, dev wrote:\n\n> /swarm delete --force\n> bye', ['create']],
  ['/swarm create\n-- \ndev', []],
  ['/swarm create\n\n-- \ndev', ['create']],
  ['> a\n>\n> b\n\n/swarm create', ['create']],
  ['- a list\n\n/swarm create', ['create']],
  ['| a |\n| --- |\n| b |\n\n/swarm create', ['create']],
  ['~~~\n```\n~~~\n/swarm create', ['create']],
  ['````\n```\n/swarm delete\n```\n````\n/swarm create', ['create']],
  ['<br>\n\n/swarm create', ['create']],
  ['<details>\n\n/swarm delete\n\n</details>\n\n/swarm create', ['create']],
  ['[^1]: see\n\n/swarm create', ['create']],
  ['`one` and `two`\n/swarm create', ['create']],
  ['*one*\n/swarm create', ['create']],
  ['/swarm checkpoint a\\_b', ['checkpoint a_b']],
  ['**open\n/swarm create\n**', ['create']],
  ['https://example.org\n/swarm create', ['create']],
  // Not commands
  ['', []],
  ['hello', []],
  ['swarm create', []],
  ['/swarmcreate', []],
  ['/swarm-create', []],
  ['/swarms create', []],
  ['//swarm create', []],
  ['try /swarm create', []],
  ['see "/swarm create"', []],
  ['please `/swarm create`', []],
  ['`/swarm create`', []],
  ['**/swarm create**', []],
  ['*/swarm create*', []],
  ['~~/swarm create~~ no', []],
  ['[/swarm create](https://example.org)', []],
  ['/swarm [create](https://example.org)', []],
  ['/swarm `create`', []],
  ['/swarm **create**', []],
  ['![/swarm create](x.png)', []],
  ['    /swarm create', []],
  ['\t/swarm create', []],
  ['```\n/swarm create\n```', []],
  ['~~~\n/swarm create\n~~~', []],
  ['```sh\n/swarm create', []],
  ['> /swarm create', []],
  ['> text\n/swarm create', []],
  ['>> /swarm create', []],
  ['- /swarm create', []],
  ['1. /swarm create', []],
  ['- [ ] /swarm create', []],
  ['<!-- /swarm create -->', []],
  ['<!--\n/swarm create\n-->', []],
  ['<details>\n/swarm create\n</details>', []],
  ['<pre>\n/swarm create\n</pre>', []],
  ['<b>/swarm create</b>', []],
  ['text <!--\n/swarm create\n--> text', []],
  ['`code\n/swarm create\nmore`', []],
  ['# /swarm create', []],
  ['/swarm create\n===', []],
  ['/swarm create\n---', []],
  ['[x]: /swarm create', []],
  ['\\/swarm-x', []],
  ['/swarmx', []],
  ['/swarm\n/swarm', ['', '']],
  ['/swarm stop.', ['stop.']],
  ['/swarm, stop', []],
  ['/swarm: stop', []],
  ['/swarm/create', []],
  ['(/swarm create)', []],
  ['"/swarm create"', []],
  ['1) /swarm create', []],
  ['+ /swarm create', []],
  ['* * /swarm create', []],
  ['## /swarm create ##', []],
  ['<p>/swarm create</p>', []],
  ['<!DOCTYPE x\n/swarm create\n>', []],
  ['<![CDATA[\n/swarm create\n]]>', []],
  ['<?x\n/swarm create\n?>', []],
  ['[x]: https://example.org "\n/swarm create\n"', []],
  ['/ swarm create', []],
  ['／swarm create', []],
  ['/ſwarm create', []],
  ['/swarm\u200b create', []],
  ['\u200b/swarm create', []],
  ['/\u200bswarm create', []],
  ['\u202e/swarm create', []],
  ['/swarm\u202e create', []],
  ['\u2066/swarm create\u2069', []],
  ['so\u2028/swarm create', []],
  ['/swarm create\u2028/swarm delete', []],
  ['/swarm create\u0000', ['create\uFFFD']],
  ['> > > /swarm create', []],
  ['> - /swarm create', []],
  ['- > /swarm create', []],
  ['- a\n  /swarm create', []],
  ['- a\n\n  /swarm create', []],
  ['1. a\n\n   /swarm create', []],
  ['- a\n/swarm create', []],
  ['> a\n> b\n/swarm create', []],
  ['| /swarm create |\n| --- |', []],
  ['| a |\n| --- |\n| /swarm create |', []],
  ['```\n\n/swarm create\n\n', []],
  ['````\n```\n/swarm create\n```\n', []],
  ['~~~~ sh\n~~~\n/swarm create', []],
  ['   ```\n/swarm create\n   ```', []],
  ['<!-- a\n\n/swarm create\n\n-->', []],
  ['<!-- a\n\n/swarm create', []],
  ['<script>\n\n/swarm create\n\n</script>', []],
  ['<details><summary>x</summary>\n/swarm create\n</details>', []],
  ['<details>\n\n```\n/swarm create\n```\n\n</details>', []],
  ['<a href="\n/swarm create\n">x</a>', []],
  ['<span>\n/swarm create\n</span>', []],
  ['text `code\n/swarm create\n` text', []],
  ['[a link\n/swarm create\n](https://example.org)', []],
  ['![an image\n/swarm create\n](x.png)', []],
  ['**strong\n/swarm create**', []],
  ['/swarm create <!-- x -->', []],
  ['/swarm create [^1]\n\n[^1]: x', []],
  ['/swarm [create]\n\n[create]: https://example.org', []],
  ['[^1]: /swarm create', []],
  ['\\/swarm create', []],
  ['/\\swarm create', []],
  ['text\n\\/swarm create', []],
  ['&#47;swarm create', []],
  ['/&#115;warm create', []],
  ['text&#10;/swarm delete', []],
  ['text&#10;/swarm delete\n/swarm create', []],
  ['/swarm create&#10;/swarm delete', []],
  ['---\ntitle: x\n/swarm: create\n---', []],
  ['---\n/swarm create\n---', []],
  ['https://example.org/swarm create', []],
  ['<https://example.org/swarm> create', []],
  ['> On Monday, dev wrote:\n>\n> /swarm create\n> thanks', []],
  ['On Monday, dev wrote:\n> /swarm create', []],
  ['-----Original Message-----\n> /swarm create', []],
])('%j', ([body, expected]) => expect(commandsIn(body)).toEqual(expected))

test.for<[string, string, string[]]>([
  ['after much text', `${'long '.repeat(1_500)}\n\n/swarm create`, ['create']],
  ['before more text than is read', `/swarm create\n\n${'long '.repeat(20_000)}`, ['create']],
  ['thirteen commands', '/swarm status\n\n'.repeat(13), Array(13).fill('status')],
  ['a thousand commands', '/swarm status\n'.repeat(1_000), []],
  ['after more text than is read', `${'long '.repeat(20_000)}\n\n/swarm create`, []],
  ['after more markup than anybody writes', `${'[x] '.repeat(600)}\n\n/swarm create`, []],
])('a long comment: %s', ([, body, expected]) => expect(commandsIn(body)).toEqual(expected))

test('text in code, quotes or comments gives no command', () => {
  const text = fc
    .array(
      fc.oneof(fc.string(), fc.constantFrom('/swarm create', '/swarm delete --force', '\n', '```', '<!--', '> ', '- ')),
      { maxLength: 12 },
    )
    .map(parts => parts.join('\n'))
  fc.assert(
    fc.property(text, body => {
      const lines = body.replaceAll('\r', '\n').split('\n')
      expect(commandLines(lines.map(line => `> ${line}`).join('\n'))).toEqual([])
      expect(
        commandLines(['``````````', ...lines.map(line => line.replaceAll('`', "'")), '``````````'].join('\n')),
      ).toEqual([])
      expect(commandLines(`<!--\n${body.replaceAll('--', '').replaceAll('>', '')}\n-->`)).toEqual([])
      expect(commandLines(lines.map(line => `    ${line}`).join('\n'))).toEqual([])
    }),
    SAMPLES,
  )
})

test('the cut end of a long comment gives no command: the rest could make code of it', () => {
  // The backtick that closes the code comes after the text that is read.
  const body = `text \`code\n/swarm delete\n${'long '.repeat(3_000)}\``
  expect(commandsIn(body)).toEqual([])
  expect(commandsIn(`/swarm create\n\n${body}`)).toEqual(['create'])
})

// The parser would need minutes for most of these. Beyond the limit on markup nothing is parsed, so that there is no command.
test.for(['[', '*_', '1. ', '1) ', '> > - ', '`', '**a*', '>', '> a\n\n', 'a\n', '/swarm\n', '/swarm\t', '<a '])(
  'a comment full of %j is parsed only within the limits',
  piece => {
    const longestComment = 65_536
    const body = `/swarm create\n\n${piece.repeat(longestComment / piece.length)}`
    expect(commandsIn(body)).toEqual(/^[a/]/.test(piece) ? ['create'] : [])
  },
)

/** Lines that people write. `wrap` turns lines into Markdown that only repeats them. */
const talk = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 30 }),
  fc.constantFrom('text', '# head', '---', '***', '| a |', '`x`', '*x*', '[x](y)', '<b>x</b>', '&amp;', '\\', '==='),
)
const wrap = fc.constantFrom<(lines: string[]) => string[]>(
  lines => ['```', ...lines.map(line => line.replaceAll('`', "'")), '```'],
  lines => ['~~~~', ...lines.map(line => line.replaceAll('~', '-')), '~~~~'],
  lines => lines.map(line => `> ${line}`),
  lines => lines.map(line => `- ${line}`),
  lines => lines.map(line => `    ${line}`),
  lines => ['<!--', ...lines.map(line => line.replaceAll(/[->]/g, '')), '-->'],
  lines => lines.map(line => `| ${line} |`),
)
const command = fc.constantFrom('/swarm create', '/swarm delete --force', '/swarm', '/swarm checkpoint one')

test('in a comment of many parts, only the command lines that stand by themselves are commands', () => {
  // Empty lines separate the parts, so that no part changes the meaning of another.
  const part = fc.oneof(
    fc
      .record({ lines: fc.array(fc.oneof(talk, command), { minLength: 1, maxLength: 4 }), wrap })
      .map(({ lines, wrap }) => ({
        text: wrap(lines.map(line => line.replaceAll(/[\r\n]/g, ' '))).join('\n'),
        commands: [] as string[],
      })),
    fc.array(command, { minLength: 1, maxLength: 3 }).map(lines => ({
      text: lines.join('\n'),
      commands: lines.map(line => line.slice('/swarm'.length).trim()),
    })),
    fc.constantFrom('text', 'see /swarm create', '`/swarm create`', '**/swarm create**').map(text => ({
      text,
      commands: [] as string[],
    })),
  )
  fc.assert(
    fc.property(fc.array(part, { maxLength: 6 }), parts => {
      // A list or indented code would take the next part as its own; the HTML comment ends it.
      const body = parts.map(({ text }) => text).join('\n\n<!-- -->\n\n')
      expect(commandsIn(body)).toEqual(parts.flatMap(({ commands }) => commands))
    }),
    SAMPLES,
  )
})

test('only a line that begins with /swarm becomes a command', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 200, unit: 'grapheme' }), body => {
      const lines = body.split(/\r\n|\r|\n/).filter(line => /^\s*\/swarm([\t\p{Zs}]|$)/iu.test(line.trim()))
      expect(commandLines(body).length).toBeLessThanOrEqual(lines.length)
    }),
    SAMPLES,
  )
})
