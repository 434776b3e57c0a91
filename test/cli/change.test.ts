/** Commands that change machines: dry runs, Ctrl-C at each point, commands that wait for each other, rescued work. */
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { stripVTControlCharacters } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openCli } from '../support/cli.ts'
import { CTRL_C } from '../support/terminal.ts'

let cli: ReturnType<typeof openCli>
beforeEach(() => {
  cli = openCli()
})
afterEach(() => cli.close())
const swarm = (...words: string[]) => cli.swarm(words)
const list = () => cli.json(['list'])

/** Holds the ticket's lock as another process would. */
const takeTicket = (ticket: string) => {
  const folder = join(cli.home, 'state', 'locks')
  mkdirSync(folder, { recursive: true })
  const db = new DatabaseSync(join(folder, `${ticket}.lock`))
  db.exec('begin exclusive')
  return () => db.close()
}

/** Hashes of all files under the home, except caches, locks and the registry. */
const everything = (folder = join(cli.home, 'state')): Record<string, string> =>
  Object.fromEntries(
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter(name => !/^cache|^locks|registry\.db/.test(name) && statSync(join(folder, name)).isFile())
      .map(name => [
        name,
        createHash('sha256')
          .update(readFileSync(join(folder, name)))
          .digest('hex'),
      ]),
  )

test('checkpoints of a machine that is gone says so, and what to do', async () => {
  await swarm('create', 'DROP-1')
  await swarm('checkpoint', 'DROP-1', 'one')
  const marks = join(cli.home, 'state', 'synthetic-state')
  for (const name of readdirSync(marks)) rmSync(join(marks, name))
  for (const words of [['checkpoints'], ['restore', '--dry-run'], ['restore', '--cold']])
    expect(await swarm(words[0] ?? '', 'DROP-1', ...words.slice(1))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /DROP-1: its machine as-drop-1-\S+ no longer exists[\s\S]*agent-swarm create DROP-1/,
      ),
    })
})

test('--dry-run changes nothing, shows what would be done, and fails where the command would', async () => {
  await swarm('create', 'DROP-1')
  await swarm('checkpoint', 'DROP-1', 'one')
  const [files, listed] = [everything(), await list()]
  for (const [words, text] of [
    [['create', 'DROP-2'], /^Dry run: `create DROP-2` would:\n {2}- .*agent-swarm-base.*synthetic/],
    [['create', 'DROP-1'], /^Nothing to do: .*DROP-1/],
    [['start', 'DROP-1'], /^Nothing to do: .*DROP-1/],
    [['stop', 'DROP-1'], /^Dry run: `stop DROP-1` would:\n.*\n {2}- .*as-drop-1-/],
    [['checkpoint', 'DROP-1', 'two'], /^Dry run: `checkpoint DROP-1` would:\n {2}- .*two/],
    [['checkpoint', 'DROP-1', 'one', '--delete'], /^Dry run: `checkpoint --delete DROP-1` would:\n {2}- .*one/],
    [['restore', 'DROP-1'], /pre-restore.*\n {2}- .*one/],
    [['restore', 'DROP-1', 'one', '--cold'], /pre-restore.*\n {2}- .*disk of .*one\n {2}- start it/],
    [['delete', 'DROP-1'], /1 checkpoint/],
    [['delete', 'DROP-9'], /^Nothing to do: .*DROP-9/],
  ] as const)
    expect(await swarm(...words, '--dry-run')).toMatchObject({ code: 0, stdout: expect.stringMatching(text) })
  expect(await swarm('restore', 'DROP-1', 'x', '--dry-run')).toMatchObject({ code: 1 })
  expect(await swarm('stop', 'DROP-3', '--dry-run')).toMatchObject({ code: 1 })
  expect(everything()).toEqual(files)
  expect(await list()).toEqual(listed)
})

test('--detach reports a foreseeable failure at once', async () => {
  expect(await swarm('start', 'DROP-1', '--detach')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('agent-swarm create DROP-1'),
  })
})

test('status shows what was rescued before a delete, and where it is', async () => {
  await swarm('create', 'DROP-1')
  await cli.inside('DROP-1', 'git init -q shop; echo new > shop/file')
  await swarm('delete', 'DROP-1')
  await swarm('create', 'DROP-2')
  const [folder = ''] = readdirSync(join(cli.home, 'state/rescued'))
  const line = new RegExp(`\\nRESCUED\\n.*\\nDROP-1 +\\S+Z +1 KiB +/\\S+/shop +\\S+/rescued/${folder}\\n`)
  expect((await swarm('status')).stdout).toMatch(line)
  expect((await swarm('status', 'DROP-1')).stdout).toMatch(line)
  expect((await swarm('status', 'DROP-2')).stdout).not.toContain('RESCUED')
  const { screen } = await cli.terminal(['status', 'DROP-1'])
  expect(screen).toMatch(new RegExp(`\\nDROP-1 +\\d+ s ago +1 KiB .* ${folder}\\n`))
})

describe('Ctrl-C', () => {
  /** On a terminal, pressed as soon as a phase is shown. */
  const pressedAt = async (phase: string, ...words: string[]) => {
    const { screen, code } = await cli.terminal(words, { type: { prompt: phase, text: CTRL_C } })
    return { screen: stripVTControlCharacters(screen), code }
  }

  test.for(['disk', 'start', 'address'])('at "%s" undoes a create, and says so', async phase => {
    const { screen, code } = await pressedAt(phase, 'create', 'DROP-1')
    expect(code).toBe(1)
    expect(screen).toContain('Interrupted: undoing what was started. Press Ctrl-C again to exit now')
    expect(screen).toMatch(new RegExp(`✖ ${phase} +\\d`))
    expect(screen).toMatch(/✔ undoing +\d/)
    expect(screen).toContain('agent-swarm create: create of DROP-1: cancelled; ')
    expect(await list()).toEqual([])
    expect(Object.keys(everything()).filter(name => name.startsWith('synthetic'))).toEqual([])
  })

  test('at anything else says what becomes of it, and is right', async () => {
    await swarm('create', 'DROP-1')
    await swarm('checkpoint', 'DROP-1', 'one')
    const before = await list()
    const looking = await pressedAt('looking', 'delete', '--yes', 'DROP-1')
    expect(looking).toMatchObject({
      code: 1,
      screen: expect.stringContaining('Interrupted: stopping. Nothing is deleted.'),
    })
    expect(looking.screen).toContain('delete of DROP-1: cancelled; ')
    expect(await list()).toEqual(before)
    expect(await pressedAt('stop', 'stop', 'DROP-1')).toMatchObject({
      code: 1,
      screen: expect.stringContaining('Interrupted: no longer waiting. The machine may still shut down.'),
    })
    expect(await pressedAt('delete', 'delete', '--yes', '--force', 'DROP-1')).toMatchObject({
      code: 0,
      screen: expect.stringContaining('Interrupted: the delete has been decided and is being finished.'),
    })
    expect(await list()).toEqual([])
  })

  test.for(['address', 'looking'])(
    'at "%s" of a delete: the machine that was started to be asked is off again',
    async phase => {
      await swarm('create', 'DROP-1')
      await cli.inside('DROP-1', 'git init -q shop; echo new > shop/file')
      await swarm('stop', 'DROP-1')
      expect(await pressedAt(phase, 'delete', '--yes', 'DROP-1')).toMatchObject({
        code: 1,
        screen: expect.stringContaining('Interrupted: stopping. Nothing is deleted.'),
      })
      expect(await list()).toMatchObject([{ ticket: 'DROP-1', status: 'stopped' }])
    },
  )

  test('ends the wait for a ticket, and nothing was started', async () => {
    await swarm('create', 'DROP-1')
    const release = takeTicket('DROP-1')
    const { screen, code } = await pressedAt('waiting for another command', 'stop', 'DROP-1')
    release()
    expect(code).toBe(1)
    expect(screen).toContain('Interrupted: nothing was started.')
    expect(screen).toContain('waiting for another command on DROP-1: cancelled')
    expect((await list())[0].status).toBe('running')
  })
})

test('a delete of the stopped machines leaves one alone that was started since', async () => {
  for (const ticket of ['DROP-1', 'DROP-2']) await swarm('create', ticket)
  for (const ticket of ['DROP-1', 'DROP-2']) await swarm('stop', ticket)
  const release = takeTicket('DROP-1')
  const deleting = cli.begin(['delete', '--stopped', '--yes'])
  await deleting.says('waiting for another command on this ticket')
  await swarm('start', 'DROP-2')
  release()
  expect(await deleting.ended).toMatchObject({
    ...{ code: 0, stdout: expect.stringContaining('Nothing to do: DROP-2 is not stopped any more.') },
  })
  expect(await list()).toMatchObject([{ ticket: 'DROP-2', status: 'running' }])
})

test('a second command on a ticket waits, status shows who waits and since when, and it continues', async () => {
  await swarm('create', 'DROP-1')
  const release = takeTicket('DROP-1')
  const stop = cli.begin(['stop', 'DROP-1'])
  await stop.says('waiting for another command on this ticket')
  expect((await cli.json(['status'])).waiting).toEqual([
    {
      ...{ ticket: 'DROP-1', kind: 'stop', by: { via: 'cli', who: expect.any(String) } },
      ...{ since: expect.stringMatching(/Z$/), why: expect.stringContaining('another command') },
    },
  ])
  expect((await swarm('status')).stdout).toMatch(/DROP-1 +stop/)
  release()
  expect(await stop.ended).toMatchObject({ code: 0 })
  expect((await cli.json(['status'])).waiting).toEqual([])
})

describe('a host that is full', () => {
  // Machines have 4 GiB: two fit.
  const full = { AGENT_SWARM_SYNTHETIC_MEMORY_MIB: '9000' }
  const create = (...words: string[]) => cli.swarm(['create', ...words], full)
  beforeEach(async () => {
    await create('KEEP-1')
    await create('KEEP-2')
  })

  test('create fails with `capacity` and names what to stop, and so do --dry-run, --detach and --json', async () => {
    for (const words of [[], ['--dry-run'], ['--detach']])
      expect(await create('DROP-1', ...words)).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(
          /KEEP-1, KEEP-2 use 8 GiB of 8.3 GiB[\s\S]*agent-swarm stop KEEP-1[\s\S]*agent-swarm create DROP-1 --wait/,
        ),
      })
    expect(await cli.json(['create', 'DROP-1'], full)).toMatchObject({
      result: 'failed',
      failure: { kind: 'capacity', needs: { memoryMiB: 4096 } },
    })
    expect(await list()).toHaveLength(2)
  })

  test('--wait waits, shows behind what, also in status, and goes on when there is room', async () => {
    const waiting = cli.begin(['create', 'DROP-1', '--wait'], full)
    await waiting.says('KEEP-1, KEEP-2 use 8 GiB')
    expect((await cli.json(['status'], full)).waiting).toMatchObject([
      { ticket: 'DROP-1', kind: 'create', why: expect.stringMatching(/^it needs 4 GiB.*KEEP-1, KEEP-2 use/) },
    ])
    expect((await cli.swarm(['status', 'DROP-1'], full)).stdout).toMatch(
      /^DROP-1 has no machine[\s\S]*create by .* has waited for .*: it needs 4 GiB/,
    )
    expect(await cli.swarm(['status'], full)).toMatchObject({ stdout: expect.stringContaining('Room for no more') })
    await cli.swarm(['stop', 'KEEP-2'], full)
    expect(await waiting.ended).toMatchObject({ code: 0, stdout: expect.stringContaining('DROP-1 has a machine') })
    expect((await cli.json(['status'], full)).waiting).toEqual([])
  })

  test('Ctrl-C while it waits makes nothing', async () => {
    const waiting = cli.begin(['create', 'DROP-1', '--wait'], full)
    await waiting.says('KEEP-1, KEEP-2 use 8 GiB')
    waiting.interrupt()
    expect(await waiting.ended).toMatchObject({ code: 1, stderr: expect.stringContaining('nothing was made') })
    expect(await list()).toHaveLength(2)
    expect((await cli.json(['status'], full)).waiting).toEqual([])
  })

  test('--dry-run --wait shows that it would wait', async () => {
    expect(await create('DROP-1', '--wait', '--dry-run')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('wait for room'),
    })
  })
})
