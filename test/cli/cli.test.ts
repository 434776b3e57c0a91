/** Commands as a person gives them: what they do, what they print, and what they say about mistakes. */
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { providerNames } from '../../providers/index.ts'
import { commands } from '../../src/cli/command-table.ts'
import { openCli } from '../support/cli.ts'

let cli: ReturnType<typeof openCli>
beforeEach(() => {
  cli = openCli()
})
afterEach(() => cli.close())
const swarm = (...words: string[]) => cli.swarm(words)
const json = (...words: string[]) => cli.json(words)

test('from nothing to a machine and back', async () => {
  expect(await json('list')).toEqual([])
  const created = await swarm('create', 'drop-1')
  expect(created).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(
      /^DROP-1 [^\n]*as-drop-1-[0-9a-f]{8} on synthetic \((?:less than )?[\d.]+ s\)\.\nOpen a shell: agent-swarm ssh DROP-1\n$/,
    ),
  })
  expect(created.stderr).toMatch(/disk\n.*start\n/)
  await cli.inside('DROP-1', 'echo hello > note')
  expect(await swarm('checkpoint', 'DROP-1', 'Before-Refactor')).toMatchObject({ code: 0 })
  await cli.inside('DROP-1', 'echo changed > note')
  expect((await swarm('restore', 'DROP-1', 'before-refactor')).stdout).toMatch(/before-refactor.* pre-restore-/)
  expect(await cli.inside('DROP-1', 'cat note')).toBe('hello')
  expect(await json('list')).toEqual([
    {
      ticket: 'DROP-1',
      provider: 'synthetic',
      vmId: expect.stringMatching(/^as-drop-1-[0-9a-f]{8}$/),
      ip: null,
      status: 'running',
      baseImage: 'agent-swarm-base',
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      diskBytes: null,
      paused: null,
      attempt: null,
      ssh: null,
      checkpoints: ['before-refactor', expect.stringMatching(/^pre-restore-\d{8}-\d{6}$/)],
    },
  ])
  expect(await json('checkpoints', 'DROP-1')).toMatchObject([
    { name: 'before-refactor', why: 'command', withMemory: false },
    { why: 'before restore' },
  ])
  expect(await swarm('stop', 'DROP-1')).toMatchObject({ code: 0 })
  expect((await swarm('ssh', 'DROP-1', '--', 'true')).stderr).toContain('Start it: agent-swarm start DROP-1')
  expect(await json('status', 'DROP-1')).toMatchObject({
    environment: { status: 'stopped' },
    desired: 'stopped',
    operations: [{ kind: 'stop' }, { kind: 'restore' }, { kind: 'checkpoint' }, { kind: 'create' }],
  })
  expect(await swarm('delete', 'DROP-1')).toMatchObject({ code: 0, stdout: expect.stringContaining('DROP-1') })
  expect(await json('list')).toEqual([])
  expect((await swarm('status', 'DROP-1')).stdout).toContain('DROP-1 has no machine.')
})

test('providers lists every known hypervisor, and whether it works here', async () => {
  const rows: { name: string }[] = await json('providers')
  expect(rows.map(({ name }) => name)).toEqual(providerNames)
  for (const row of rows)
    expect(Object.keys(row).sort()).toEqual(['available', 'capabilities', 'name', 'provenOn', 'reason'])
  expect(rows.find(({ name }) => name === 'synthetic')).toMatchObject({
    available: true,
    reason: null,
    capabilities: expect.arrayContaining(['liveCheckpoints']),
  })
  expect(rows.find(({ name }) => name === 'tart')).toMatchObject({
    ...{ available: false, provenOn: null },
    reason: 'for macOS',
  })
})

test('the table of providers says what each can do, and where it was proven', async () => {
  const { stdout } = await swarm('providers')
  expect(stdout).toMatch(/^PROVIDER {3}AVAILABLE {2}PROVEN {6}NOTE$/m)
  expect(stdout).toMatch(/^synthetic {2}yes {8}\d{4}-\d\d-\d\d {2}Machines are not isolated\.$/m)
  expect(stdout).toMatch(/^ {34}Proven on .+\. With checkpoints without a stop, .+\. Without isolated machines, .+\.$/m)
  expect(stdout).toMatch(/^kvm .* {2}\d{4}-\d\d-\d\d {2}/m)
  expect(stdout).toMatch(/^tart +no +unproven /m)
})

describe('wrong usage is exit 2, a failure is exit 1, and both say what to do', () => {
  test.for([
    [['no-such-command'], 2, 'Unknown command "no-such-command".'],
    [['create'], 2, 'Missing argument <TICKET>.\nUsage: agent-swarm create <TICKET>'],
    [['create', 'DROP-1', 'extra'], 2, '"extra" is not a ticket.'],
    [['create', 'foo'], 2, '"foo" is not a ticket. Use a Jira key, for example DROP-2100.'],
    [['create', 'DROP-0'], 2, '"DROP-0" is not a ticket.'],
    [['create', '--sideways', 'DROP-1'], 2, 'Unknown option --sideways.'],
    [['checkpoint', 'DROP-1', '../x'], 2, '"../x" is not a checkpoint name'],
    [['checkpoint', 'DROP-1', '--', '-x'], 2, '"-x" is not a checkpoint name'],
    [['checkpoint', 'DROP-1', '--delete'], 2, 'List them: agent-swarm checkpoints DROP-1'],
    [['version'], 2, 'Did you mean --version?'],
    [['list', '--sort'], 2, '--sort needs a value: --sort COLUMN'],
    [['list', '--sort', 'sise'], 2, '--sort must be one of ticket, provider, state,'],
    [['forward', 'DROP-1'], 1, 'DROP-1 has no machine'],
    [['create', 'DROP-1', '--repo', 'acme/..'], 2, '"acme/.." is not a repository'],
    [['forward', 'DROP-1', '0'], 2, '"0" is not a port'],
    [['forward', 'DROP-1', '70000'], 2, '"70000" is not a port'],
    [['forward', 'DROP-1', '80:90:100'], 2, '"80:90:100" is not a port'],
    [['forward', 'DROP-1', 'http'], 2, 'Use a port from 1 to 65535'],
    [['forward', 'DROP-1', '80', '80'], 2, 'Use different ones: agent-swarm forward DROP-1 80 81:80'],
    [['init-base', '--from', 'debian-packages'], 1, 'synthetic needs no base image'],
    [['init-base', '--list', '--from', 'x'], 2, '--list cannot be combined with --from'],
    [['init-base', 'a', '--delete', 'b'], 2, '--delete cannot be combined with the name a'],
    [['init-base', '--delete', 'B'], 2, '"B" is not an image name'],
    [['init-base', '--profile', 'huge'], 2, '--profile must be one of minimal, full'],
    [['ssh'], 2, 'Missing argument <TICKET>.'],
    [['bot', 'runner'], 2, '"bot runner" is one of bot runner add, bot runner list'],
    [['start', 'DROP-1'], 1, 'agent-swarm create DROP-1'],
    [['ssh', 'DROP-1'], 1, 'agent-swarm create DROP-1'],
    [['bot'], 1, 'APP_ID'],
    [['runner'], 1, 'AGENT_SWARM_BOT_URL'],
  ] as const)('%j', async ([words, code, text]) => {
    const ran = await swarm(...words)
    expect(ran.stderr).toContain(text)
    expect(ran).toMatchObject({ code, stdout: '' })
  })

  test('a mistyped word gets the nearest one, and nothing is done instead', async () => {
    await swarm('create', 'DROP-2100')
    await swarm('checkpoint', 'DROP-2100', 'before-refactor')
    for (const [words, code, text] of [
      [['chekpoint', 'DROP-2100'], 2, 'Unknown command "chekpoint". Did you mean checkpoint?'],
      [['help', 'creat'], 2, 'Unknown command "creat". Did you mean create?'],
      [['toString'], 2, 'Unknown command "toString".'],
      [['help', 'toString'], 2, 'Unknown command "toString".'],
      [['delete', '--forse', 'DROP-2100'], 2, 'Unknown option --forse. Did you mean --force?'],
      [['list', '-j'], 2, 'Unknown option -j.\nUsage: agent-swarm list'],
      [['stop', 'DRPO-2100'], 1, 'Did you mean DROP-2100?'],
      [['ssh', 'drop-210'], 1, 'Did you mean DROP-2100?'],
      [['checkpoints', 'DROP-2101'], 1, 'Did you mean DROP-2100?'],
      [['delete', 'DRPO-2100'], 0, 'Did you mean DROP-2100?'],
      [['restore', 'DROP-2100', 'befor-refactor'], 1, 'Did you mean before-refactor?'],
    ] as const) {
      const { code: exitCode, stdout, stderr } = await swarm(...words)
      expect([exitCode, stdout + stderr]).toEqual([code, expect.stringContaining(text)])
    }
    expect(await json('list')).toMatchObject([
      { ticket: 'DROP-2100', status: 'running', checkpoints: ['before-refactor'] },
    ])
  })

  test('a failure in JSON is JSON', async () => {
    const ran = await swarm('start', 'DROP-1', '--json')
    expect(ran.code).toBe(1)
    expect(JSON.parse(ran.stdout)).toMatchObject({
      ticket: 'DROP-1',
      result: 'failed',
      failure: { kind: 'no-such-environment' },
    })
  })

  test('all errors of a configuration are reported at once', async () => {
    const ran = await cli.swarm(['list'], { PORT: 'x', LOG_LEVEL: 'loud' })
    expect(ran).toMatchObject({ code: 1 })
    expect(ran.stderr).toContain('LOG_LEVEL')
    expect(ran.stderr).toContain('PORT')
  })
})

test('a machine is named by its id too, or by a beginning that no other one has', async () => {
  await swarm('create', 'DROP-2100')
  await swarm('create', 'DROP-21')
  const [first, second] = await json('list')
  expect(first.ticket).toBe('DROP-21')
  expect(await swarm('stop', second.vmId)).toMatchObject({ code: 0 })
  expect(await swarm('checkpoint', second.vmId.slice(0, -4).toUpperCase(), 'one')).toMatchObject({ code: 0 })
  expect((await json('list')).map((row: { checkpoints: string[] }) => row.checkpoints)).toEqual([[], ['one']])
  expect(await swarm('delete', 'as-drop-21')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('"as-drop-21" matches 2 machines: DROP-21, DROP-2100'),
  })
  // A key never stands for a longer one.
  expect(await swarm('delete', 'DROP-2')).toMatchObject({ code: 0, stdout: expect.stringContaining('DROP-2 has no') })
  expect(await json('list')).toHaveLength(2)
  // Nor does its beginning, as a script has it whose number is empty.
  for (const typed of ['DROP-', 'drop-21~', 'DROP-2100~'])
    expect(await swarm('delete', typed, '--force')).toMatchObject({ code: 2, stderr: expect.stringContaining(typed) })
  expect(await json('list')).toHaveLength(2)
})

describe('help', () => {
  test('the overview has a short line for every command, and fits 80 columns or the width in COLUMNS', async () => {
    const { stdout, code } = await swarm('--help')
    expect(code).toBe(0)
    for (const [name, { summary }] of Object.entries(commands))
      expect(stdout).toMatch(new RegExp(`^  ${name} +${summary.replaceAll('.', '\\.')}$`, 'm'))
    const widest = (text: string) =>
      Math.max(
        ...text
          .split('\n')
          .filter(line => !line.startsWith('Documentation: '))
          .map(line => line.length),
      )
    expect(widest(stdout)).toBeLessThanOrEqual(80)
    expect(widest((await cli.swarm(['--help'], { COLUMNS: '50' })).stdout)).toBeLessThanOrEqual(50)
    expect(widest((await cli.terminal(['--help'], { columns: 60 })).screen)).toBeLessThanOrEqual(60)
    expect((await swarm()).code).toBe(2)
  })

  test('every command shows its options and its example, and knows a mistyped option', async () => {
    for (const [name, command] of Object.entries(commands)) {
      const words = name.split(' ')
      const help = await swarm(...words, '--help')
      expect(help).toMatchObject({
        code: 0,
        stderr: '',
        stdout: expect.stringContaining(`Example: ${command.example}\n`),
      })
      expect(command.example).toMatch(new RegExp(`^agent-swarm ${name}( |$)`))
      for (const option of Object.keys(command.options)) expect(help.stdout).toMatch(new RegExp(`(?:  |, )--${option}`))
      const mistyped = await swarm(...words, '--hepl')
      expect(mistyped).toMatchObject({ code: 2, stdout: '' })
      expect(mistyped.stderr).toContain(`agent-swarm ${name}: Unknown option --hepl. Did you mean --help?\n`)
    }
  })

  test.for([
    [['rescued', '--help'], 'rescued show'],
    [['help', 'agent'], 'agent stop'],
    [['bot', 'runner', '-h'], 'bot runner forget'],
    [['help', 'bot', 'runner'], 'bot runner add'],
  ] as const)('%j lists the commands of the group', async ([words, name]) =>
    expect(await swarm(...words)).toMatchObject({
      ...{ code: 0, stderr: '' },
      stdout: expect.stringMatching(new RegExp(`^  ${name} +\\w`, 'm')),
    }),
  )

  test('the docs that it names exist, and are in the package', async () => {
    const root = resolve(import.meta.dirname, '../..')
    const texts = await Promise.all(
      [[], ...Object.keys(commands).map(name => name.split(' '))].map(words => swarm(...words, '--help')),
    )
    const named = new Set(texts.flatMap(({ stdout }) => stdout.match(/docs\/[\w-]+\.md/g) ?? []))
    expect([...named].sort()).toEqual(['docs/cli.md', 'docs/configuration.md', 'docs/projects.md'])
    for (const file of named) expect(existsSync(join(root, file))).toBe(true)
    expect(texts[0]?.stdout).toContain(`\nDocumentation: ${root}/docs/cli.md\n`)
    expect(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).files).toContain('docs')
  })
})
