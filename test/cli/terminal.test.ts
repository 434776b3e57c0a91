/** What a person sees on a terminal, and what a pipe gets: phases, colors, symbols, tables, times, questions. */
import { stripVTControlCharacters } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { requireConsent } from '../../src/cli/terminal/confirm.ts'
import { print, printFailure, printJson, styled, type Terminal } from '../../src/cli/terminal/output.ts'
import { openProgress } from '../../src/cli/terminal/progress.ts'
import { type Cell, type Column, table, wrap } from '../../src/cli/terminal/table.ts'
import { personVia, requesterName, shortIds, statusCell } from '../../src/cli/terminal/text.ts'
import { timeBetween } from '../../src/words.ts'
import { openCli } from '../support/cli.ts'
import { CTRL_C, CTRL_D } from '../support/terminal.ts'

let cli: ReturnType<typeof openCli>
beforeEach(() => {
  cli = openCli()
})
afterEach(() => cli.close())

const ESCAPE = '\u001b'
const GREEN = `${ESCAPE}[32m`

test('a question that nobody could see is no consent', async () => {
  const terminal = { stdin: { isTTY: true }, stderr: { write: () => {} }, env: {} }
  const asked = (flags: object) =>
    requireConsent('Delete it?', 'delete', { flags, terminal, signal: new AbortController().signal } as never)
  await expect(asked({})).rejects.toMatchObject({
    failure: { kind: 'usage', remedy: expect.stringContaining('--yes') },
  })
  await asked({ yes: true })
})

describe('phases', () => {
  test('on a terminal each ends with a tick and its time', async () => {
    const { screen, code } = await cli.terminal(['create', 'DROP-1'])
    expect(code).toBe(0)
    expect(screen).toContain(GREEN)
    const lines = stripVTControlCharacters(screen).split('\n')
    for (const phase of ['disk', 'start', 'address'])
      expect(lines).toContainEqual(expect.stringMatching(new RegExp(`✔ ${phase} +\\d+\\.\\d s$`)))
    expect(lines).toContain('Open a shell: agent-swarm ssh DROP-1')
  })

  test('a live line never wraps, since it is drawn over; its time stays visible', async () => {
    const { screen } = await cli.terminal(['doctor', '--selftest'], { columns: 60 })
    const drawn = stripVTControlCharacters(screen)
      .split(/[\r\n]+/)
      .filter(line => /^[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]/u.test(line))
    expect(drawn).toContainEqual(expect.stringMatching(/… +\d\.\d s$/))
    expect(Math.max(...drawn.map(({ length }) => length))).toBeLessThan(60)
  })

  test('a name that a machine wrote moves no cursor and makes no line of its own', () => {
    const written: string[] = []
    const stderr = { isTTY: true, columns: 80, write: (text: string) => written.push(text) }
    const terminal = { stderr, env: { LANG: 'C.UTF-8', TERM: 'xterm', NO_COLOR: '1' } } as unknown as Terminal
    const view = openProgress({ quiet: false, terminal })
    view.phase(`the files: ${ESCAPE}]52;c;aGk=\u0007${ESCAPE}[2J\nDROP-1 is deleted`)
    view.detail(`1 of\n${ESCAPE}[2J2`)
    view.end(true)
    const text = written.join('').replaceAll(`\r${ESCAPE}[K`, '')
    expect(text).not.toMatch(/(?!\n)\p{Cc}|\n(?!$)/u)
    expect(text).toContain('the files: ?]52;c;aGk=??[2J DROP-1 is deleted')
  })

  test('in a pipe they are plain lines on stderr, and the result alone is on stdout', async () => {
    const { stdout, stderr } = await cli.swarm(['create', 'DROP-1'])
    expect(stderr).toMatch(/^ +\d+\.\d s {2}disk\n +\d+\.\d s {2}start\n +\d+\.\d s {2}address\n$/)
    expect(stdout).not.toContain(ESCAPE)
    expect(stdout.split('\n')).toHaveLength(3)
  })

  test.for([
    ['a locale without UTF-8', { LC_ALL: 'C' }],
    ['LC_ALL wins over LANG', { LC_ALL: 'POSIX', LANG: 'en_US.UTF-8' }],
    ['no locale', { LC_ALL: '' }],
  ] as const)('%s gets ASCII', async ([, environment]) => {
    const { screen } = await cli.terminal(['create', 'DROP-1'], { environment })
    const text = stripVTControlCharacters(screen)
    expect(text).toMatch(/^[\r\n -~]*$/)
    expect(text).toMatch(/\+ disk +\d/)
  })

  test('a dumb terminal gets plain lines in ASCII without colors', async () => {
    const { screen } = await cli.terminal(['create', 'DROP-1'], { environment: { TERM: 'dumb' } })
    expect(screen).toMatch(/^[\n -~]*$/)
  })

  test('they are recorded, and status has them', async () => {
    await cli.swarm(['create', 'DROP-1'])
    const { operations } = await cli.json(['status', 'DROP-1'])
    expect(operations[0].phases.map(({ phase }: { phase: string }) => phase)).toEqual(['disk', 'start', 'address'])
  })
})

test('NO_COLOR means no colors, FORCE_COLOR means colors in a pipe', async () => {
  await cli.swarm(['create', 'DROP-1'])
  expect((await cli.terminal(['list'])).screen).toContain(GREEN)
  expect((await cli.terminal(['list'], { environment: { NO_COLOR: '1' } })).screen).not.toContain(ESCAPE)
  expect((await cli.swarm(['list'])).stdout).not.toContain(ESCAPE)
  expect((await cli.swarm(['list'], { FORCE_COLOR: '1' })).stdout).toContain(GREEN)
})

test('--quiet prints nothing about success, and everything about failure', async () => {
  expect(await cli.swarm(['create', 'DROP-1', '--quiet'])).toEqual({ code: 0, stdout: '', stderr: '' })
  expect((await cli.swarm(['list', '-q'])).stdout).toContain('DROP-1')
  expect(await cli.swarm(['restore', 'DROP-1', '-q'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('DROP-1 has no checkpoint'),
  })
})

test('--verbose shows each outside command as a shell reads it, with its time', async () => {
  const { stderr } = await cli.swarm(['create', 'DROP-1', '--verbose'])
  const lines = stderr.split('\n').filter(line => line.startsWith('+ '))
  expect(lines).toContainEqual(
    expect.stringMatching(/^\+ ssh-keygen -q -t ed25519 -N '' -C agent-swarm -f \/\S+ {2}# \d+ ms$/),
  )
})

describe('tables', () => {
  const columns: Column[] = [{ title: 'TICKET', whole: true }, 'CHECKPOINTS', 'RESULT', 'BY']
  const rows: Cell[][] = [
    ['DROP-2100', '3', 'a long sentence that has to give way', 'ada (github)'],
    ['DROP-2101', '12', 'short', 'bob'],
  ]
  const terminalOf = (columns: number | null, env: Record<string, string> = { LC_ALL: 'C.UTF-8' }): Terminal => ({
    ...process,
    env,
    stdout: { write: () => {}, ...(columns === null ? {} : { isTTY: true, columns }) },
  })

  test.for([80, 66, 60, 52, 40])('fit a terminal of %i columns', width => {
    const text = stripVTControlCharacters(table(columns, rows, terminalOf(width)))
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(width)
    expect(text).toContain('DROP-2100')
  })

  test('titles give way before cells, and what is cut ends with an ellipsis', () => {
    expect(table(columns, rows, terminalOf(70)).split('\n')).toEqual([
      'TICKET     CHECKP…  RESULT                                BY',
      'DROP-2100  3        a long sentence that has to give way  ada (github)',
      `DROP-2101  12       short                                 bob`,
    ])
    expect(table(columns, rows, terminalOf(60)).split('\n')[1]).toBe(
      'DROP-2100  3     a long sentence that has to …  ada (github)',
    )
    expect(table(columns, rows, terminalOf(60, { LC_ALL: 'C' })).split('\n')[1]).toBe(
      'DROP-2100  3     a long sentence that has t...  ada (github)',
    )
  })

  test('a pipe gets everything in full', () => {
    expect(table(columns, rows, terminalOf(null)).split('\n')).toEqual([
      'TICKET     CHECKPOINTS  RESULT                                BY',
      'DROP-2100  3            a long sentence that has to give way  ada (github)',
      'DROP-2101  12           short                                 bob',
    ])
  })

  test('text wraps at words', () => {
    expect(wrap('one two three four', 9)).toBe('one two\nthree\nfour')
    expect(wrap('one two three', 9, '  ')).toBe('one two\n  three')
    expect(wrap('a-word-that-is-too-long b', 9)).toBe('a-word-that-is-too-long\nb')
  })

  test('ids are shortened to what tells them apart', () => {
    const ids = ['0b7e2a52-8f5c-11f0', '0b7e2a52-8f99-11f0', '77777777-0000-0000']
    const shortId = shortIds(ids, terminalOf(80))
    expect(ids.map(shortId)).toEqual(['0b7e2a52-8f5', '0b7e2a52-8f9', '77777777-000'])
    expect(ids.map(shortIds(ids, terminalOf(null)))).toEqual(ids)
  })

  test('of a whole page fit 80 columns', async () => {
    await cli.swarm(['create', 'DROP-2100'])
    await cli.swarm(['checkpoint', 'DROP-2100', 'a-name-of-exactly-forty-one-characters-xx'])
    for (const words of [['list'], ['status'], ['status', 'DROP-2100'], ['checkpoints', 'DROP-2100'], ['providers']]) {
      const { screen } = await cli.terminal(words, { columns: 80 })
      for (const line of stripVTControlCharacters(screen).split('\n')) expect(line.length).toBeLessThanOrEqual(80)
    }
  })
})

test.for([
  [{ via: 'github', who: 'ada' }, 'ada (github)'],
  [{ via: 'jira', who: '5b10', name: 'Ada Lovelace' }, 'Ada Lovelace (5b10) (jira)'],
  [{ via: 'jira', who: '5b10', name: '' }, '5b10 (jira)'],
  [{ via: 'jira', who: null, name: 'Ada\u001b[2J' }, 'Ada?[2J (jira)'],
  [{ via: 'clock', who: null }, 'clock'],
] as const)('the requester %j is shown as %s', ([by, expected]) => expect(requesterName(by)).toBe(expected))

test('times are relative on a terminal, and ISO 8601 in a pipe', async () => {
  await cli.swarm(['create', 'DROP-1'])
  expect(stripVTControlCharacters((await cli.terminal(['list'])).screen)).toMatch(/ \d+ s ago /)
  expect((await cli.swarm(['list'])).stdout).toMatch(/ \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ /)
  const now = new Date('2026-11-23T12:00:00Z')
  for (const [time, text] of [
    ['2026-11-23T11:59:58Z', '2 s'],
    ['2026-11-23T11:57:00Z', '3 min'],
    ['2026-11-23T09:30:00Z', '2 h'],
    ['2026-11-20T11:00:00Z', '3 d'],
    ['2026-11-23T12:00:09Z', '0 s'],
  ] as const)
    expect(timeBetween(Date.parse(time), now.getTime())).toBe(text)
})

describe('a stopped machine is offered to be started', () => {
  const question = 'DROP-1 is stopped. Start it? [Y/n] '
  const remedy =
    'DROP-1 is stopped\nStart it: agent-swarm start DROP-1. Or start it and continue: agent-swarm ssh --start DROP-1'
  const status = async () => (await cli.json(['list']))[0].status
  beforeEach(async () => {
    await cli.swarm(['create', 'DROP-1'])
    await cli.swarm(['stop', 'DROP-1'])
  })

  test.for([
    ['no', 'n\n', remedy],
    ['anything else', 'perhaps\n', remedy],
    ['Ctrl-D', CTRL_D, remedy],
    ['Ctrl-C', CTRL_C, 'cancelled; nothing was changed'],
  ] as const)('and is left alone by %s', async ([, text, message]) => {
    const { screen, code } = await cli.terminal(['ssh', 'DROP-1', '--', 'true'], { type: { prompt: question, text } })
    expect([code, stripVTControlCharacters(screen)]).toEqual([
      1,
      expect.stringContaining(`agent-swarm ssh: ${message}\n`),
    ])
    expect(await status()).toBe('stopped')
  })

  test('and is left alone without a terminal', async () => {
    const { stderr, code } = await cli.swarm(['ssh', 'DROP-1', '--', 'true'])
    expect([code, stderr]).toEqual([1, `agent-swarm ssh: ${remedy}\n`])
    expect(await status()).toBe('stopped')
  })

  test.for([
    ['Enter', ['ssh', 'DROP-1', '--', 'touch inside'], { prompt: question, text: '\n' }],
    ['--start', ['ssh', '--start', 'DROP-1', '--', 'touch inside'], []],
  ] as const)('and %s starts it', async ([, words, type]) => {
    expect(await cli.terminal([...words], { type: [type].flat() })).toMatchObject({ code: 0 })
    expect(await status()).toBe('running')
    expect(await cli.inside('DROP-1', 'ls')).toBe('inside')
  })
})

test('--watch draws until Ctrl-C, and leaves the screen as it was', async () => {
  const { screen, code } = await cli.terminal(['list', '--watch'], {
    type: [{ prompt: 'Ctrl-C to end', text: CTRL_C }],
  })
  expect(code).toBe(0)
  expect(screen).toContain('No machines')
  expect(screen).toContain(`${ESCAPE}[?1049l`)
  expect(await cli.swarm(['list', '--watch'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--watch needs a terminal'),
  })
})

test.for<[string, Parameters<typeof requesterName>[0], string, string]>([
  ['a push', { via: 'github', who: 'ada', cause: 'push' }, 'push by ada', 'ada (github)'],
  [
    'a name, with the account behind it',
    { via: 'jira', who: '557058:1a2b', name: 'Dana Example', cause: 'ticket moved' },
    'ticket moved by Dana Example (557058:1a2b)',
    'Dana Example (jira)',
  ],
  ['the command line', { via: 'cli', who: 'ada' }, 'ada (cli)', 'ada (cli)'],
  ['a cause without a person', { via: 'github', who: null, cause: 'merge' }, 'merge', 'github'],
  [
    'a name that would move the cursor',
    { via: 'jira', who: 'x', name: 'Da\u001b[2Jna\u202e' },
    'Da?[2Jna? (x) (jira)',
    'Da?[2Jna? (jira)',
  ],
])('who asked: %s', ([, by, whole, short]) => {
  expect(requesterName(by)).toBe(whole)
  expect(personVia(by)).toBe(short)
})

test('a paused machine is shown with the reason', () => {
  expect(statusCell({ status: 'running', paused: 'disk full' })).toEqual(['paused (disk full)', 'yellow'])
  expect(statusCell({ status: 'running', paused: null })).toEqual(['running', 'green'])
  const interruption = { by: 'AWS', cause: 'no room', next: 'It comes back' }
  expect(
    statusCell({ status: 'running', paused: null, interruption: { ...interruption, state: 'announced' } }),
  ).toEqual(['running (AWS stops it soon)', 'yellow'])
  expect(statusCell({ status: 'stopped', paused: null, interruption: { ...interruption, state: 'stopped' } })).toEqual([
    'stopped (by AWS)',
    'yellow',
  ])
})

describe('what a guest or a hypervisor wrote moves no cursor', () => {
  const hostile = 'a\u001b[2J\u001b]0;x\u0007\u009b1A\r\u202eb'
  const open = () => {
    const written: string[] = []
    const stream = { isTTY: true, write: (text: string) => written.push(text) }
    return { written, terminal: { stdout: stream, stderr: stream, env: { FORCE_COLOR: '1' } } as unknown as Terminal }
  }
  test('in text, which keeps our colours and lines', () => {
    const { written, terminal } = open()
    print(`${styled(hostile, 'green', terminal.stdout, terminal)}\n\tx`, terminal)
    expect(written).toEqual(['\u001b[32ma?[2J?]0;x??1A??b\u001b[39m\n\tx\n'])
  })
  test('in a failure', () => {
    const { written, terminal } = open()
    printFailure('stop', { kind: 'unknown', message: hostile, remedy: hostile }, terminal)
    expect(written.join('').replaceAll(`${ESCAPE}[31m`, '').replaceAll(`${ESCAPE}[39m`, '')).toMatch(/^[\x20-\x7e\n]+$/)
  })
  test('in JSON, whose values are whole', () => {
    const { written, terminal } = open()
    printJson<'error'>({ error: { kind: 'unknown', message: hostile, remedy: null } }, terminal)
    expect(written.join('')).toMatch(/^[\x20-\x7e\n]+$/)
    expect(JSON.parse(written.join(''))).toMatchObject({ error: { message: hostile } })
  })
})
