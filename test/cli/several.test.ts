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

describe('attempts', () => {
  beforeEach(async () => {
    await swarm('create', 'DROP-8')
    await swarm('checkpoint', 'DROP-8', 'one')
    await swarm('fork', 'DROP-8', '--count', '2')
  })
  const question =
    'Make DROP-8~2 the machine of DROP-8? This deletes the former machine of DROP-8 (1 checkpoint) and DROP-8~1. Unsaved work is rescued first. [y/N]'
  const all = { 'DROP-8': 'running', 'DROP-8~1': 'running', 'DROP-8~2': 'running' }

  test.for<[string, string, number, object]>([
    ['yes', 'y\n', 0, { 'DROP-8': 'running' }],
    ['nothing', '\n', 1, all],
  ])('a promote asks on a terminal: %s', async ([, text, code, left]) => {
    const asked = await cli.terminal(['promote', 'DROP-8~2'], { type: { prompt: '[y/N]', text } })
    expect(asked).toMatchObject({ code, screen: expect.stringContaining(question) })
    expect(await states()).toEqual(left)
  })

  test('a promote asks nobody with --yes or --dry-run, or without a terminal', async () => {
    const planned = await cli.terminal(['promote', 'DROP-8~2', '--dry-run'])
    expect(planned.screen).not.toContain('[y/N]')
    expect(planned.screen).toMatch(
      /delete the former machine of DROP-8, as-drop-8-\w+ with its 1 checkpoint and DROP-8~1/,
    )
    expect((await cli.terminal(['promote', 'DROP-8~1', '--yes'])).screen).not.toContain('[y/N]')
    await swarm('fork', 'DROP-8')
    expect(await swarm('promote', 'DROP-8~4')).toMatchObject({ code: 0 })
    expect(await states()).toEqual({ 'DROP-8': 'running' })
  })

  test('a promote names whose work it rescued', async () => {
    await cli.inside('DROP-8~1', 'git init -q work && echo new > work/file')
    expect(await swarm('promote', 'DROP-8~2')).toMatchObject({
      stdout: expect.stringMatching(
        /^DROP-8~2 is now the machine of DROP-8\. Deleted: the former machine of DROP-8, DROP-8~1\. Rescued: DROP-8~1: unsaved work \(.*\) is rescued in \S+/,
      ),
      stderr: expect.stringContaining('DROP-8~1: delete\n'),
    })
  })

  test('a delete of a ticket says that its attempts stay', async () => {
    const stay = 'Its attempts stay: DROP-8~1, DROP-8~2. To delete them: agent-swarm delete DROP-8~1 DROP-8~2'
    expect(await swarm('delete', 'DROP-8', '--dry-run')).toMatchObject({ stdout: expect.stringContaining(stay) })
    expect((await cli.terminal(['delete', 'DROP-8'], { type: { prompt: '[y/N]', text: '\n' } })).screen).toContain(
      `checkpoints? ${stay} [y/N]`,
    )
    expect((await swarm('delete', 'DROP-8', 'DROP-8~1', 'DROP-8~2', '--dry-run')).stdout).not.toContain('stay')
    expect(await swarm('delete', 'DROP-8')).toMatchObject({ stdout: expect.stringContaining(stay) })
    expect((await swarm('delete', 'DROP-8~1')).stdout).not.toContain('stay')
  })

  test('a fork ends with the next step', async () => {
    expect(await swarm('fork', 'DROP-8')).toMatchObject({
      stdout: expect.stringMatching(
        /^Forked DROP-8: made DROP-8~3\. It booted.*\nOpen a shell: agent-swarm ssh DROP-8~3\. Keep one: agent-swarm promote DROP-8~3\n$/,
      ),
      stderr: expect.stringContaining('DROP-8~3: start\n'),
    })
  })

  test.for([
    [['fork', 'DROP-8~44'], 1, "Its ticket's attempts: DROP-8~1, DROP-8~2. To make more: agent-swarm fork DROP-8"],
    [['status', 'DROP-8~44'], 1, "Its ticket's attempts: DROP-8~1, DROP-8~2. To make more: agent-swarm fork DROP-8"],
    [['create', 'DROP-8~44', '--dry-run'], 1, 'To make more: agent-swarm fork DROP-8'],
    [['create', 'DROP-8~44'], 1, 'To make more: agent-swarm fork DROP-8'],
    [['create', 'DROP-5~1'], 1, 'DROP-5 has no attempts. To make one: agent-swarm fork DROP-5'],
    [
      ['promote', 'DROP-8'],
      2,
      'DROP-8 is a ticket. Its attempts: DROP-8~1, DROP-8~2\nUse: agent-swarm promote DROP-8~1',
    ],
    [['promote', 'DROP-5'], 2, 'Make some: agent-swarm fork DROP-5'],
    [['promote', 'DROP-8', '2'], 2, 'promote <TICKET~N>'],
    [['fork', 'DROP-8', '--count', '10'], 2, 'use a number from 1 to 9'],
  ] as const)('%j says what to type', async ([words, code, text]) => {
    const failed = await swarm(...words)
    expect(failed).toMatchObject({ code, stderr: expect.stringContaining(text) })
    expect(failed.stderr).not.toContain('agent-swarm create DROP-8~')
  })

  test('a long history of phases is cut to the longest', async () => {
    for (let count = 0; count < 2; count += 1) await swarm('fork', 'DROP-8', '--count', '9')
    await swarm('promote', 'DROP-8~2')
    const [promoted = ''] = (await swarm('status', 'DROP-8')).stdout.split('\n').filter(line => / promote /.test(line))
    expect(promoted).toMatch(/, \d+ more$/)
    expect(promoted.split(' s, ')).toHaveLength(9)
  })
})

test('a ready machine says what it is to who would delete it', async () => {
  cli.know(registry =>
    registry.beginPoolMachine(
      {
        ...{ vmId: 'as-pool-5ccb5d48', provider: 'synthetic', pool: 'agent-swarm-base', hold: 'memory' },
        madeOf: {
          ...{ image: 'agent-swarm-base', cpus: 1, memoryMiB: 1, diskGiB: 1 },
          repository: null,
          commit: null,
          workspace: null,
          versions: null,
        },
      },
      { by: { via: 'clock', who: null }, at: '2026-11-29T12:00:00.000Z' },
    ),
  )
  expect(await swarm('delete', 'as-pool-5ccb5d48')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(
      /as-pool-5ccb5d48 is a ready machine of the pool agent-swarm-base[\s\S]*take the pool out of config\.yaml and start the runner/,
    ),
  })
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
    await swarm('create', 'DROP-1', 'DROP-2', 'DROP-3', 'DROP-4')
    await swarm('stop', 'DROP-1', 'DROP-2', 'DROP-4')
    expect(await swarm('delete', '--stopped')).toMatchObject({ code: 2, stderr: expect.stringContaining('--yes') })
    expect(await cli.json(['delete', '--stopped', '--yes', '--older-than', '7d'])).toEqual([])
    // DROP-1 was stopped eight days ago; nobody knows when DROP-2 and DROP-4 were: the clock of the latter was ahead.
    const db = new DatabaseSync(join(cli.home, 'state', 'registry.db'))
    const eightDaysAgo = new Date(Date.now() - 8 * 24 * 60 * 60_000).toISOString()
    db.prepare("update operation set ended_at = ? where ticket = 'DROP-1' and kind = 'stop'").run(eightDaysAgo)
    db.exec("delete from operation where ticket = 'DROP-2'")
    db.exec("update operation set ended_at = '2999-01-01T00:00:00.000Z' where ticket = 'DROP-4'")
    db.close()
    const { stdout, stderr } = await swarm('delete', '--stopped', '--older-than', '7d', '--dry-run', '--json')
    expect(JSON.parse(stdout)).toMatchObject([{ ticket: 'DROP-1', result: 'planned' }])
    expect(stderr).toContain('not known when they were stopped: DROP-2, DROP-4')
    expect(await cli.json(['delete', '--stopped', '--older-than', '2w', '--dry-run'])).toEqual([])
    expect(await cli.json(['delete', '--stopped', '--dry-run'])).toMatchObject([
      { ticket: 'DROP-1', result: 'planned' },
      { ticket: 'DROP-2', result: 'planned' },
      { ticket: 'DROP-4', result: 'planned' },
    ])
    expect(await cli.json(['delete', '--stopped', '--yes'])).toMatchObject([
      { ticket: 'DROP-1', result: 'done' },
      { ticket: 'DROP-2', result: 'done' },
      { ticket: 'DROP-4', result: 'done' },
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
