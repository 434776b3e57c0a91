import fc from 'fast-check'
import { expect, test } from 'vitest'
import { commandLines } from '../../handlers/command-lines.ts'

const said = (body: string) => commandLines(body).map(({ words }) => words.join(' '))

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
  // None
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
])('%j', ([body, expected]) => expect(said(body)).toEqual(expected))

test('whatever is fenced, quoted or hidden gives no command', () => {
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
    { numRuns: 300 },
  )
})

test('no text becomes a command but a line that begins with /swarm', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 200, unit: 'grapheme' }), body => {
      const lines = body.split(/\r\n|\r|\n/).filter(line => /^\s*\uFEFF?\/swarm([ \t]|$)/i.test(line))
      expect(commandLines(body).length).toBeLessThanOrEqual(lines.length)
    }),
    { numRuns: 500 },
  )
})
