/** Commands on several tickets, and what a delete asks. */
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openCli } from '../support/cli.ts'

let cli: ReturnType<typeof openCli>
beforeEach(() => {
  cli = openCli()
})
afterEach(() => cli.close())
const swarm = (...words: string[]) => cli.swarm(words)
const states = async () =>
  Object.fromEntries(
    ((await cli.json(['list'])) as { ticket: string; status: string }[]).map(row => [row.ticket, row.status]),
  )

test('several tickets: all are tried, one failure is exit 1, and JSON is an array', async () => {
  expect(await swarm('create', 'drop-1', 'DROP-2', 'DROP-1')).toMatchObject({
    code: 0,
    stderr: expect.stringMatching(/DROP-1:[\s\S]*DROP-2:/),
  })
  expect(await states()).toEqual({ 'DROP-1': 'running', 'DROP-2': 'running' })
  const { code, stdout, stderr } = await swarm('stop', 'DROP-9', 'DROP-1', 'DROP-2', '--json')
  expect(code).toBe(1)
  expect(JSON.parse(stdout)).toMatchObject([
    { ticket: 'DROP-9', result: 'failed', failure: { kind: 'no-such-environment' } },
    { ticket: 'DROP-1', result: 'done' },
    { ticket: 'DROP-2', result: 'done' },
  ])
  expect(stderr).toContain('agent-swarm stop: DROP-9 has no machine')
  expect(await cli.json(['start', 'DROP-1', 'DROP-2', '--dry-run'])).toMatchObject([
    { ticket: 'DROP-1', result: 'planned' },
    { ticket: 'DROP-2', result: 'planned' },
  ])
  expect(await cli.json(['start', 'DROP-1', 'DROP-1'])).toMatchObject({ ticket: 'DROP-1', result: 'done' })
  expect(await swarm('stop', 'DROP-1', 'x')).toMatchObject({ code: 2 })
  expect(await states()).toMatchObject({ 'DROP-1': 'running' })
})

test('restart stops and starts a machine, starts a stopped one, and says why when there is none', async () => {
  await swarm('create', 'DROP-1')
  expect(await swarm('restart', 'DROP-1', '--dry-run')).toMatchObject({
    stdout: expect.stringMatching(/would:\n {2}- shut as-drop-1-\w+ down[\s\S]*- start as-drop-1/),
  })
  expect(await swarm('restart', 'DROP-1')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('Restarted DROP-1'),
  })
  await swarm('stop', 'DROP-1')
  expect(await swarm('restart', 'DROP-1')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('DROP-1 was stopped, and is running again'),
  })
  expect(await states()).toEqual({ 'DROP-1': 'running' })
  expect(await swarm('restart', 'DROP-9')).toMatchObject({ code: 1, stderr: expect.stringContaining('has no machine') })
})

describe('delete', () => {
  const onTerminal = (words: string[], text: string) => cli.terminal(words, { type: { prompt: '[y/N]', text } })

  test.for<[string, string, string[], number, object]>([
    ['yes', 'y\n', [], 0, {}],
    ['no', 'n\n', [], 1, { 'DROP-1': 'running' }],
    ['nothing', '\n', [], 1, { 'DROP-1': 'running' }],
    ['yes to --force', 'yes\n', ['--force'], 0, {}],
    ['no to --force', '\n', ['--force'], 1, { 'DROP-1': 'running' }],
  ])('asks on a terminal: %s', async ([, text, options, code, left]) => {
    await swarm('create', 'DROP-1')
    expect((await onTerminal(['delete', 'DROP-1', ...options], text)).code).toBe(code)
    expect(await states()).toEqual(left)
  })

  test('asks nobody with --yes or --dry-run, or without a terminal', async () => {
    await swarm('create', 'DROP-1', 'DROP-2')
    expect((await cli.terminal(['delete', 'DROP-1', '--dry-run'])).screen).not.toContain('[y/N]')
    expect((await cli.terminal(['delete', 'DROP-1', '--yes'])).screen).not.toContain('[y/N]')
    expect(await swarm('delete', 'DROP-2')).toMatchObject({ code: 0 })
    expect(await states()).toEqual({})
  })

  test('--stopped deletes the stopped machines, those that were stopped long ago, and says which it does not know', async () => {
    await swarm('create', 'DROP-1', 'DROP-2', 'DROP-3')
    await swarm('stop', 'DROP-1', 'DROP-2')
    expect(await swarm('delete', '--stopped')).toMatchObject({ code: 2, stderr: expect.stringContaining('--yes') })
    expect(await cli.json(['delete', '--stopped', '--yes', '--older-than', '7d'])).toEqual([])
    // DROP-1 was stopped eight days ago; nobody knows when DROP-2 was.
    const db = new DatabaseSync(join(cli.home, 'state', 'registry.db'))
    const eightDaysAgo = new Date(Date.now() - 8 * 24 * 60 * 60_000).toISOString()
    db.prepare("update operation set ended_at = ? where ticket = 'DROP-1' and kind = 'stop'").run(eightDaysAgo)
    db.exec("delete from operation where ticket = 'DROP-2'")
    db.close()
    const { stdout, stderr } = await swarm('delete', '--stopped', '--older-than', '7d', '--dry-run', '--json')
    expect(JSON.parse(stdout)).toMatchObject([{ ticket: 'DROP-1', result: 'planned' }])
    expect(stderr).toContain('not known when they were stopped: DROP-2')
    expect(await cli.json(['delete', '--stopped', '--older-than', '2w', '--dry-run'])).toEqual([])
    expect(await cli.json(['delete', '--stopped', '--dry-run'])).toMatchObject([
      { ticket: 'DROP-1', result: 'planned' },
      { ticket: 'DROP-2', result: 'planned' },
    ])
    expect(await cli.json(['delete', '--stopped', '--yes'])).toMatchObject([
      { ticket: 'DROP-1', result: 'done' },
      { ticket: 'DROP-2', result: 'done' },
    ])
    expect(await states()).toEqual({ 'DROP-3': 'running' })
    expect(await cli.json(['delete', '--stopped', '--yes'])).toEqual([])
  })

  test.for([
    [['delete'], 'Missing argument <TICKET>'],
    [['delete', 'DROP-1', '--older-than', '7d'], '--older-than needs --stopped'],
    [['delete', '--stopped', 'DROP-1', '--yes'], 'name no ticket'],
    [['delete', '--stopped', '--yes', '--older-than', '7'], '"7" is not an age'],
    [['delete', '--stopped', '--yes', '--older-than', '0d'], 'is not an age'],
  ] as const)('%j is wrong usage', async ([words, message]) =>
    expect(await swarm(...words)).toMatchObject({ code: 2, stderr: expect.stringContaining(message) }),
  )
})

test.for<[string, string | null]>([
  ['restor', 'Did you mean restore?'],
  ['restat', 'Did you mean restart?'],
  ['resart', 'Did you mean restart?'],
  ['resttore', 'Did you mean restore?'],
  ['resto', null],
  ['delte', 'Did you mean delete?'],
  ['deleteee', null],
])('the hint at %s', async ([typed, hint]) => {
  const { stderr } = await swarm(typed)
  if (hint === null) expect(stderr).not.toMatch(/mean (restore|delete)/)
  else expect(stderr).toContain(hint)
})
