/** The CLI as its users run it: whole processes, from another folder. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { commands } from '../../src/cli/command-table.ts'
import { openCli } from '../support/cli.ts'

let cli: ReturnType<typeof openCli>
beforeEach(() => {
  cli = openCli()
})
afterEach(() => cli.close())
const swarm: typeof cli.swarm = (words, options) => cli.swarm(words, options)
const json = (words: string[]) => cli.json(words)

describe('a person’s way', () => {
  test('from nothing to a machine and back', async () => {
    expect(await json(['list', '--json'])).toEqual([])
    const created = await swarm(['create', 'drop-1'])
    expect(created).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        /^DROP-1 has a machine: as-drop-1-[0-9a-f]{8} on synthetic \([\d.]+ s\)\.\nEnter it: agent-swarm ssh DROP-1\n$/,
      ),
    })
    expect(created.stderr).toMatch(/disk\n.*start\n/)
    expect(await swarm(['ssh', 'DROP-1', '--', 'cat > note; exit 7'], { input: 'hello' })).toMatchObject({ code: 7 })
    expect(await swarm(['ssh', 'DROP-1', '--', 'cat', 'note'])).toMatchObject({ code: 0, stdout: 'hello' })
    expect(await swarm(['checkpoint', 'DROP-1', 'Before-Refactor'])).toMatchObject({ code: 0 })
    await swarm(['ssh', 'DROP-1', '--', 'echo changed > note'])
    expect((await swarm(['restore', 'DROP-1', 'before-refactor'])).stdout).toMatch(
      /back at before-refactor; what it replaced is kept as pre-restore-/,
    )
    expect((await swarm(['ssh', 'DROP-1', '--', 'cat note'])).stdout).toBe('hello')
    const [row] = await json(['list', '--json'])
    expect(row).toEqual({
      ticket: 'DROP-1',
      provider: 'synthetic',
      vmId: expect.stringMatching(/^as-drop-1-[0-9a-f]{8}$/),
      ip: null,
      status: 'running',
      baseImage: 'agent-swarm-base',
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      diskBytes: null,
      ssh: null,
      checkpoints: ['before-refactor', expect.stringMatching(/^pre-restore-\d{8}-\d{6}$/)],
    })
    expect(await json(['checkpoints', 'DROP-1', '--json'])).toMatchObject([
      { name: 'before-refactor', why: 'command', withMemory: false },
      { why: 'before restore' },
    ])
    expect(await swarm(['stop', 'DROP-1'])).toMatchObject({ code: 0 })
    expect((await swarm(['ssh', 'DROP-1', '--', 'true'])).stderr).toContain('Start it: agent-swarm start DROP-1')
    expect(await json(['status', 'DROP-1', '--json'])).toMatchObject({
      environment: { status: 'stopped' },
      desired: 'stopped',
      operations: [{ kind: 'stop' }, { kind: 'restore' }, { kind: 'checkpoint' }, { kind: 'create' }],
    })
    expect(await swarm(['delete', 'DROP-1'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('its checkpoints are gone'),
    })
    expect(await json(['list', '--json'])).toEqual([])
    expect((await swarm(['status', 'DROP-1'])).stdout).toContain('DROP-1 has no environment.')
  })

  test('every known provider is shown with the truth about it', async () => {
    const found = await json(['providers', '--json'])
    expect(found.map((one: { name: string }) => one.name)).toEqual(['kvm', 'tart', 'hyperv', 'aws', 'synthetic'])
    for (const one of found)
      expect(Object.keys(one).sort()).toEqual(['available', 'capabilities', 'name', 'provenOn', 'reason'])
    expect(found.at(-1)).toMatchObject({
      available: true,
      reason: null,
      capabilities: expect.arrayContaining(['liveCheckpoints']),
    })
    expect(found[1]).toMatchObject({ available: false, reason: 'not part of this version' })
  })
})

describe('wrong usage is exit 2, a failure is exit 1, and both say what to do', () => {
  test.for([
    [['no-such-command'], 2, 'there is no command "no-such-command"'],
    [['create'], 2, 'something is missing: agent-swarm create <TICKET>'],
    [['create', 'DROP-1', 'more'], 2, '"more" is too much'],
    [['create', 'not a ticket'], 2, 'is no ticket'],
    [['create', 'DROP-0'], 2, 'is no ticket'],
    [['create', '--sideways', 'DROP-1'], 2, '--sideways'],
    [['checkpoint', 'DROP-1', '../x'], 2, 'is no checkpoint name'],
    [['checkpoint', 'DROP-1', '--', '-x'], 2, 'is no checkpoint name'],
    [['version'], 2, 'Did you mean --version?'],
    [['list', '--sort'], 2, '--sort needs a value: --sort COLUMN'],
    [['forward', 'DROP-1'], 2, 'agent-swarm forward <TICKET> <port>...'],
    [['forward', 'DROP-1', '0'], 2, '"0" is no port'],
    [['forward', 'DROP-1', '70000'], 2, '"70000" is no port'],
    [['forward', 'DROP-1', '80:90:100'], 2, '"80:90:100" is no port'],
    [['forward', 'DROP-1', 'http'], 2, 'Name a port from 1 to 65535'],
    [['forward', 'DROP-1', '80', '80'], 2, 'Each needs one of its own: agent-swarm forward DROP-1 80 81:80'],
    [['init-base'], 2, '--from is missing'],
    [['start', 'DROP-1'], 1, 'Make one: agent-swarm create DROP-1'],
    [['ssh', 'DROP-1'], 1, 'Make one: agent-swarm create DROP-1'],
    [['bot'], 1, 'APP_ID'],
    [['runner'], 1, 'AGENT_SWARM_BOT_URL'],
  ] as const)('%j', async ([words, code, said]) => {
    const ran = await swarm([...words])
    expect(ran.stderr).toContain(said)
    expect(ran).toMatchObject({ code, stdout: '' })
  })

  test('what was mistyped gets the nearest, and nothing is done in its place', async () => {
    await swarm(['create', 'DROP-2100'])
    await swarm(['checkpoint', 'DROP-2100', 'before-refactor'])
    const told = async (...words: string[]) => {
      const { code, stdout, stderr } = await swarm(words)
      return { code, said: stdout + stderr }
    }
    for (const [words, code, said] of [
      [['chekpoint', 'DROP-2100'], 2, 'there is no command "chekpoint". Did you mean checkpoint?'],
      [['help', 'creat'], 2, 'there is no command "creat". Did you mean create?'],
      [['toString'], 2, 'there is no command "toString".'],
      [['help', 'toString'], 2, 'there is no command "toString".'],
      [['delete', '--forse', 'DROP-2100'], 2, 'there is no option --forse. Did you mean --force?'],
      [['list', '-j'], 2, 'there is no option -j.\nUsage: agent-swarm list'],
      [['stop', 'DRPO-2100'], 1, 'DRPO-2100 has no environment\nDid you mean DROP-2100?'],
      [['ssh', 'drop-210'], 1, 'DROP-210 has no environment\nDid you mean DROP-2100?'],
      [['checkpoints', 'DROP-2101'], 1, 'Did you mean DROP-2100?'],
      [['delete', 'DRPO-2100'], 0, 'DRPO-2100 has no environment. Did you mean DROP-2100?'],
      [['restore', 'DROP-2100', 'befor-refactor'], 1, 'Did you mean before-refactor? It has before-refactor.'],
    ] as const)
      expect(await told(...words)).toEqual({ code, said: expect.stringContaining(said) })
    expect(await json(['list', '--json'])).toMatchObject([
      { ticket: 'DROP-2100', status: 'running', checkpoints: ['before-refactor'] },
    ])
  })

  test('a failure in JSON is JSON', async () => {
    const ran = await swarm(['start', 'DROP-1', '--json'])
    expect(ran.code).toBe(1)
    expect(JSON.parse(ran.stdout)).toMatchObject({
      ticket: 'DROP-1',
      result: 'failed',
      failure: { kind: 'no-such-environment' },
    })
  })

  test('a configuration with mistakes names them all', async () => {
    const ran = await swarm(['list'], { environment: { PORT: 'x', LOG_LEVEL: 'loud' } })
    expect(ran).toMatchObject({ code: 1 })
    expect(ran.stderr).toMatch(/LOG_LEVEL must be one of/)
    expect(ran.stderr).toMatch(/PORT must be a whole number/)
  })
})

test('every command is in the help, shows its example, and knows a mistyped option', async () => {
  const { stdout, code } = await swarm(['--help'])
  expect(code).toBe(0)
  for (const name of Object.keys(commands)) expect(stdout).toMatch(new RegExp(`^  ${name}`, 'm'))
  await Promise.all(
    Object.entries(commands).map(async ([name, command]) => {
      const words = name.split(' ')
      const [help, mistyped] = await Promise.all([swarm([...words, '--help']), swarm([...words, '--hepl'])])
      expect(help).toMatchObject({
        code: 0,
        stderr: '',
        stdout: expect.stringContaining(`Example: ${command.example}\n`),
      })
      expect(command.example).toMatch(new RegExp(`^agent-swarm ${name}( |$)`))
      for (const option of Object.keys(command.options)) expect(help.stdout).toContain(`  --${option}`)
      expect(mistyped).toMatchObject({ code: 2, stdout: '' })
      expect(mistyped.stderr).toContain(`agent-swarm ${name}: there is no option --hepl. Did you mean --help?\n`)
    }),
  )
})

test('--version says the version, and makes no folder', async () => {
  expect(await swarm(['--version'])).toMatchObject({ code: 0, stdout: '0.1.0\n' })
  expect(existsSync(join(cli.home, 'state'))).toBe(false)
})

test('twenty commands for twenty tickets at once, and two for one', async () => {
  const tickets = Array.from({ length: 20 }, (_, n) => `DROP-${n + 1}`)
  const ran = await Promise.all([
    ...tickets.map(ticket => swarm(['create', ticket])),
    swarm(['checkpoint', 'DROP-1', 'a']),
    swarm(['create', 'DROP-1']),
  ])
  expect(ran.filter(one => one.code !== 0).map(one => one.stderr)).toEqual([])
  // Numbers are counted as numbers.
  expect((await json(['list', '--json'])).map((one: { ticket: string }) => one.ticket)).toEqual(tickets)
}, 90_000)
