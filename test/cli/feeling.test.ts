/** What a person sees while a command works: phases, quiet, verbose, dry runs, the background, Ctrl-C, a ticket that is taken. */
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { stripVTControlCharacters } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openCli } from '../support/cli.ts'
import { CTRL_C, pressedAt } from '../support/terminal.ts'
import { until } from '../support/wait.ts'

let cli: ReturnType<typeof openCli>
beforeEach(() => {
  cli = openCli()
})
afterEach(() => cli.close())

const ESCAPE = '\u001b'
const CTRL_D = '\u0004'
const COLOUR = `${ESCAPE}[32m`

/** A program that hangs at its first call, put before the real one: a create that is held at making its keys. */
const heldAtKeys = async () => {
  const bin = join(cli.home, 'bin')
  const mark = join(cli.home, 'mark')
  mkdirSync(bin)
  writeFileSync(join(bin, 'ssh-keygen'), `#!/bin/sh\necho > '${mark}'\nexec sleep 30\n`)
  chmodSync(join(bin, 'ssh-keygen'), 0o755)
  const create = cli.begin(['create', 'DROP-1'], { PATH: `${bin}:${process.env.PATH}` })
  await until('the keys', () => existsSync(mark))
  return create
}

/** Holds the ticket as another process would. */
const takeTicket = (ticket: string) => {
  const folder = join(cli.home, 'state', 'locks')
  mkdirSync(folder, { recursive: true })
  const db = new DatabaseSync(join(folder, `${ticket}.lock`))
  db.exec('begin exclusive')
  return () => db.close()
}

/** Everything under the home but logs, caches and what SQLite keeps beside its file. */
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

describe('phases', () => {
  test('on a terminal each ends with its time and a tick', async () => {
    const { screen, code } = await cli.terminal(['create', 'DROP-1'])
    expect(code).toBe(0)
    expect(screen).toContain(COLOUR)
    const lines = stripVTControlCharacters(screen).split('\n')
    for (const phase of ['disk', 'start', 'address'])
      expect(lines).toContainEqual(expect.stringMatching(new RegExp(`✔ ${phase} +\\d+\\.\\d s$`)))
    expect(lines).toContain('Enter it: agent-swarm ssh DROP-1')
  })

  test('in a pipe they are plain lines, and the sentence alone is on stdout', async () => {
    const { stdout, stderr } = await cli.swarm(['create', 'DROP-1'])
    expect(stderr).toMatch(/^ +\d+\.\d s {2}disk\n +\d+\.\d s {2}start\n +\d+\.\d s {2}address\n$/)
    expect(stdout).not.toContain(ESCAPE)
    expect(stdout.split('\n')).toHaveLength(3)
  })

  test('NO_COLOR means none', async () => {
    await cli.swarm(['create', 'DROP-1'])
    expect((await cli.terminal(['list'])).screen).toContain(COLOUR)
    expect((await cli.terminal(['list'], { environment: { NO_COLOR: '1' } })).screen).not.toContain(ESCAPE)
  })

  test('they are kept, and status tells them', async () => {
    await cli.swarm(['create', 'DROP-1'])
    const { operations } = await cli.json(['status', 'DROP-1', '--json'])
    expect(operations[0].phases.map((one: { phase: string }) => one.phase)).toEqual(['disk', 'start', 'address'])
  })
})

test('--quiet says nothing of what went well, and everything of what did not', async () => {
  expect(await cli.swarm(['create', 'DROP-1', '--quiet'])).toEqual({ code: 0, stdout: '', stderr: '' })
  expect((await cli.swarm(['list', '-q'])).stdout).toContain('DROP-1')
  expect(await cli.swarm(['restore', 'DROP-1', '-q'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('DROP-1 has no checkpoint to restore'),
  })
})

test('whoever stops reading ends nothing and sees no stack; output that cannot be written is a failure', async () => {
  await cli.swarm(['create', 'DROP-1'])
  const unread = await cli.shell('swarm list --json | true; swarm checkpoint DROP-1 one 2>&1 | true')
  expect(unread).toEqual({ code: 0, stdout: '', stderr: '' })
  expect((await cli.json(['list', '--json']))[0].checkpoints).toEqual(['one'])
  expect(await cli.shell('swarm list > /dev/full')).toEqual({
    ...{ code: 1, stdout: '' },
    stderr: expect.stringMatching(/^agent-swarm: what was asked for could not be written: ENOSPC.*\n$/),
  })
})

test('--verbose shows each outside command as a shell reads it, with its time', async () => {
  const { stderr } = await cli.swarm(['create', 'DROP-1', '--verbose'])
  const shown = stderr.split('\n').filter(line => line.startsWith('+ '))
  expect(shown).toContainEqual(
    expect.stringMatching(/^\+ ssh-keygen -q -t ed25519 -N '' -C agent-swarm -f \/\S+ {2}# \d+ ms$/),
  )
})

test('--dry-run changes nothing, says what would be, and fails where it would fail', async () => {
  await cli.swarm(['create', 'DROP-1'])
  await cli.swarm(['checkpoint', 'DROP-1', 'one'])
  const [before, listed] = [everything(), await cli.json(['list', '--json'])]
  const says = [
    [['create', 'DROP-2'], 'make a machine of the base image agent-swarm-base on synthetic'],
    [['create', 'DROP-1'], 'Nothing to do: DROP-1 has a machine already'],
    [['start', 'DROP-1'], 'Nothing to do: DROP-1 is running already'],
    [['stop', 'DROP-1'], 'shut as-drop-1-'],
    [['checkpoint', 'DROP-1', 'two'], 'make the checkpoint two'],
    [['checkpoint', 'DROP-1', 'one', '--delete'], 'delete the checkpoint one'],
    [['restore', 'DROP-1'], 'bring the checkpoint one back'],
    [['delete', 'DROP-1'], 'with its disk and its 1 checkpoint'],
    [['delete', 'DROP-9'], 'Nothing to do: DROP-9 has no environment'],
  ] as const
  const ran = await Promise.all(says.map(([words]) => cli.swarm([...words, '--dry-run'])))
  for (const [at, [, said]] of says.entries())
    expect(ran[at]).toMatchObject({ code: 0, stdout: expect.stringContaining(said) })
  expect(await cli.swarm(['restore', 'DROP-1', 'x', '--dry-run'])).toMatchObject({ code: 1 })
  expect(await cli.swarm(['stop', 'DROP-3', '--dry-run'])).toMatchObject({ code: 1 })
  expect(everything()).toEqual(before)
  expect(await cli.json(['list', '--json'])).toEqual(listed)
})

test('status tells what was saved before its machine was deleted, and where it is', async () => {
  await cli.swarm(['create', 'DROP-1'])
  await cli.swarm(['ssh', 'DROP-1', '--', 'git init -q shop; echo new > shop/file'])
  await cli.swarm(['delete', 'DROP-1'])
  await cli.swarm(['create', 'DROP-2'])
  const [folder = ''] = readdirSync(join(cli.home, 'state/rescued'))
  const line = new RegExp(`\\nRESCUED\\n.*\\nDROP-1 +\\d+s ago +1 KiB +/\\S+/shop +\\S+/rescued/${folder}\\n`)
  const [host, ticket, another] = await Promise.all(
    [[], ['DROP-1'], ['DROP-2']].map(words => cli.swarm(['status', ...words])),
  )
  expect(host?.stdout).toMatch(line)
  expect(ticket?.stdout).toMatch(line)
  expect(another?.stdout).not.toContain('RESCUED')
})

describe('--detach', () => {
  test('goes on without the terminal, and status shows it', async () => {
    const detached = JSON.parse((await cli.swarm(['create', 'DROP-1', '--detach', '--json'])).stdout)
    expect(detached).toMatchObject({ ticket: 'DROP-1', result: 'detached', kind: 'create', pid: expect.any(Number) })
    const status = await until('its end', async () => {
      const found = await cli.json(['status', 'DROP-1', '--json'])
      return found.operations[0].result === 'done' ? found : null
    })
    expect(status.environment.status).toBe('running')
    expect(readFileSync(detached.log, 'utf8')).toContain('DROP-1 has a machine')
  })

  test('what can be seen to fail is told at once', async () => {
    expect(await cli.swarm(['start', 'DROP-1', '--detach'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('DROP-1 has no environment'),
    })
  })
})

describe('Ctrl-C', () => {
  /** On a terminal, pressed while the command stands still at a phase, each in turn. */
  const pressed = (phases: string[], ...words: string[]) => cli.terminal(words, pressedAt(phases, cli.home))

  test.for(['disk', 'start', 'address'])('at "%s" undoes a create, and says so', async phase => {
    const { screen: shown, code } = await pressed([phase], 'create', 'DROP-1')
    const screen = stripVTControlCharacters(shown)
    expect(code).toBe(1)
    expect(screen).toContain('Interrupted: what was begun is being undone. Ctrl-C once more leaves it as it is')
    expect(screen).toMatch(new RegExp(`✖ ${phase} +\\d`))
    expect(screen).toMatch(/✔ undoing +\d/)
    expect(screen).toContain('create of DROP-1: cancelled; what it had made is removed')
    expect(await cli.json(['list', '--json'])).toEqual([])
    expect(Object.keys(everything()).filter(name => name.startsWith('synthetic'))).toEqual([])
  })

  test('while the keys are made, and without a terminal, undoes a create as well', async () => {
    const create = await heldAtKeys()
    create.kill('SIGINT')
    const { code, stderr } = await create.ended
    expect(code).toBe(1)
    expect(stderr).toContain('Interrupted: what was begun is being undone')
    expect(stderr).toContain('create of DROP-1: cancelled; what it had made is removed')
    expect(await cli.json(['list', '--json'])).toEqual([])
  })

  test('twice leaves it to the next start, and says that', async () => {
    const { screen, code } = await pressed(['disk', 'undoing'], 'create', 'DROP-1')
    expect(code).toBe(130)
    expect(screen).toContain('Ended at once. What was left half-done is settled by the next command or the runner.')
    expect(await cli.json(['list', '--json'])).toMatchObject([{ ticket: 'DROP-1', status: 'creating' }])
    expect((await cli.swarm(['status', 'DROP-1'])).stdout).toContain('broken off: the next command on it')
    await cli.swarm(['stop', 'DROP-2'])
    expect(await cli.json(['list', '--json'])).toEqual([])
    expect(Object.keys(everything()).filter(name => name.startsWith('synthetic'))).toEqual([])
  })

  test('what cannot be settled of one ticket is told, and keeps no command on another one from its work', async () => {
    await pressed(['start', 'undoing'], 'create', 'DROP-1')
    const states = join(cli.home, 'state/synthetic-state')
    const [state = ''] = readdirSync(states)
    rmSync(join(states, state))
    // It is no file any more, so it cannot be deleted as one.
    mkdirSync(join(states, state))
    expect(await cli.swarm(['create', 'DROP-2'])).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(
        /^What was left of DROP-1 could not be settled yet: undoing the create of DROP-1: /,
      ),
    })
  })

  test('at anything else says what becomes of it, and that is so', async () => {
    await cli.swarm(['create', 'DROP-1'])
    await cli.swarm(['checkpoint', 'DROP-1', 'one'])
    const before = await cli.json(['list', '--json'])
    const looking = await pressed(['looking for work at risk'], 'delete', 'DROP-1')
    expect(looking).toMatchObject({
      code: 1,
      screen: expect.stringContaining('Interrupted: letting go of it. Nothing is deleted.'),
    })
    expect(looking.screen).toContain('delete of DROP-1: cancelled; the machine is still there')
    expect(await cli.json(['list', '--json'])).toEqual(before)
    expect(await pressed(['stop'], 'stop', 'DROP-1')).toMatchObject({
      code: 1,
      screen: expect.stringContaining('Interrupted: letting go of it. The machine may still shut down.'),
    })
    expect(await pressed(['delete'], 'delete', '--force', 'DROP-1')).toMatchObject({
      code: 0,
      screen: expect.stringContaining('Interrupted: the delete was decided, and is being finished.'),
    })
    expect(await cli.json(['list', '--json'])).toEqual([])
  })

  test('in line for a ticket ends the wait, and nothing was begun', async () => {
    await cli.swarm(['create', 'DROP-1'])
    const free = takeTicket('DROP-1')
    const { screen, code } = await cli.terminal(['stop', 'DROP-1'], {
      type: [{ prompt: 'waiting for another command', text: CTRL_C }],
    })
    free()
    expect(code).toBe(1)
    expect(screen).toContain('Interrupted: nothing was begun.')
    expect(screen).toContain('waiting for another command on DROP-1: cancelled')
    expect((await cli.json(['list', '--json']))[0].status).toBe('running')
  })
})

test('a second command for a ticket waits, status tells who waits and since when, and it goes on', async () => {
  await cli.swarm(['create', 'DROP-1'])
  const free = takeTicket('DROP-1')
  const stop = cli.begin(['stop', 'DROP-1'])
  await stop.says('waiting for another command on this ticket')
  const { waiting } = await cli.json(['status', '--json'])
  expect(waiting).toEqual([
    {
      ...{ ticket: 'DROP-1', kind: 'stop', by: { via: 'cli', who: expect.any(String) } },
      ...{ since: expect.stringMatching(/Z$/), why: expect.stringContaining('another command') },
    },
  ])
  expect((await cli.swarm(['status'])).stdout).toMatch(/DROP-1 +stop/)
  free()
  expect(await stop.ended).toMatchObject({ code: 0 })
  expect((await cli.json(['status', '--json'])).waiting).toEqual([])
})

test('whoever waited and was killed does not wait any more', async () => {
  await cli.swarm(['create', 'DROP-1'])
  const free = takeTicket('DROP-1')
  const stop = cli.begin(['stop', 'DROP-1'])
  await stop.says('waiting for another command on this ticket')
  stop.kill('SIGKILL')
  await stop.ended
  expect((await cli.json(['status', '--json'])).waiting).toEqual([])
  free()
})

describe('a stopped machine is offered to be started', () => {
  const offer = 'DROP-1 is stopped. Start it? [Y/n] '
  const answered = (text: string) =>
    cli.terminal(['ssh', 'DROP-1', '--', 'echo inside'], { type: { prompt: offer, text } })
  const is = async () => (await cli.json(['list', '--json']))[0].status

  test('and is left alone by no, Ctrl-D, Ctrl-C, anything else and nobody', async () => {
    await cli.swarm(['create', 'DROP-1'])
    await cli.swarm(['stop', 'DROP-1'])
    const way =
      'DROP-1 is stopped\nStart it: agent-swarm start DROP-1. Or start it and go on: agent-swarm ssh --start DROP-1'
    for (const [text, said] of [
      ['n\n', way],
      ['perhaps\n', way],
      [CTRL_D, way],
      [CTRL_C, 'cancelled; nothing was changed'],
    ] as const) {
      const { screen, code } = await answered(text)
      expect([code, stripVTControlCharacters(screen)]).toEqual([
        1,
        expect.stringContaining(`agent-swarm ssh: ${said}\n`),
      ])
    }
    const { stderr, code } = await cli.swarm(['ssh', 'DROP-1', '--', 'true'])
    expect([code, stderr]).toEqual([1, `agent-swarm ssh: ${way}\n`])
    expect(await is()).toBe('stopped')
    expect(await answered('\n')).toMatchObject({ code: 0, screen: expect.stringMatching(/inside\n$/) })
    expect(await is()).toBe('running')
  })
})

test('--watch draws on a terminal, and is refused in a pipe', async () => {
  expect(await cli.swarm(['list', '--watch'])).toMatchObject({ code: 2, stderr: expect.stringContaining('a terminal') })
  const { screen } = await cli.terminal(['list', '--watch'], { type: [{ prompt: 'Ctrl-C ends it', text: CTRL_C }] })
  expect(screen).toContain('There are no environments')
  // The screen from before is back.
  expect(screen).toContain(`${ESCAPE}[?1049l`)
})
