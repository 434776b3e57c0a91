/** What only whole processes show: signals, pipes, the background, kill -9, other versions of Node. */
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openCli } from '../support/cli.ts'
import { entry } from '../support/cli-processes.ts'
import { startJira } from '../support/jira.ts'
import { outputValidator } from '../support/json-outputs.ts'
import { pressedAt } from '../support/terminal.ts'
import { until } from '../support/wait.ts'

let cli: ReturnType<typeof openCli>
beforeEach(() => {
  cli = openCli()
})
afterEach(() => cli.close())
const list = () => cli.json(['list'])

test('a dry run of bot and runner prints JSON, one value a line, and ends at SIGINT', async () => {
  const jira = await startJira({ issues: { 'DROP-1': 'one' } })
  const up = cli.processes.begin(['up', '--dry-run', '--json'], {
    ...jira.settings,
    ...{ JIRA_PROJECTS: 'DROP', AGENT_SWARM_RUNNER_TOKEN: 'the-token-of-the-runners', PORT: '0' },
  })
  jira.sendTo(await until('up to be up', () => up.output.stderr.match(/listens on (http:[^\s,]+)/)?.[1]))
  await jira.move('DROP-1', 'In Progress')
  await until('the verdict', () => up.output.stdout.includes('\n'))
  up.kill('SIGINT')
  const { code, stdout } = await up.ended
  await jira.stop()
  expect(code).toBe(0)
  const validate = outputValidator('up')
  for (const line of stdout.trim().split('\n')) expect(validate(JSON.parse(line))).toBe('valid')
})

test('--version prints the version, and creates no folder', async () => {
  expect(await cli.processes.swarm(['--version'])).toMatchObject({ code: 0, stdout: '0.1.0\n' })
  expect(existsSync(join(cli.home, 'state'))).toBe(false)
})

/** An older Node of this machine, if there is one. npm puts its own folders, with a newer one, first on PATH. */
const olderNode = (process.env.PATH ?? '')
  .split(delimiter)
  .map(folder => join(folder, 'node'))
  .filter(file => existsSync(file))
  .find(file => Number(execFileSync(file, ['-p', 'process.versions.node.split(".")[0]'], { encoding: 'utf8' })) < 24)

test.skipIf(olderNode === undefined)('an older Node gets one sentence that says what is missing', () => {
  const { status, stdout, stderr } = spawnSync(olderNode ?? '', [entry, 'list'], { encoding: 'utf8' })
  expect(stdout).toBe('')
  expect(stderr).toMatch(/^agent-swarm needs Node 24 or newer, and this is Node \d+\.\d+\.\d+\. .*\n$/)
  expect(status).toBe(1)
})

test('ssh passes stdin, stdout and the exit status on', async () => {
  await cli.swarm(['create', 'DROP-1'])
  expect(
    await cli.processes.swarm(['ssh', 'DROP-1', '--', 'cat > note; cat note; exit 7'], { input: 'hello' }),
  ).toMatchObject({ code: 7, stdout: 'hello' })
})

test('a reader that goes away ends nothing and shows no stack; output that cannot be written is a failure', async () => {
  await cli.swarm(['create', 'DROP-1'])
  const unread = await cli.processes.shell('swarm list --json | true; swarm checkpoint DROP-1 one 2>&1 | true')
  expect(unread).toEqual({ code: 0, stdout: '', stderr: '' })
  expect((await list())[0].checkpoints).toEqual(['one'])
  expect(await cli.processes.shell('swarm list > /dev/full')).toEqual({
    ...{ code: 1, stdout: '' },
    stderr: expect.stringMatching(/^agent-swarm: writing the output: ENOSPC.*\n$/),
  })
})

test('commands for several tickets at once, and two for one, leave registry and ssh configuration whole', async () => {
  await cli.swarm(['ssh', '--config', '--install'])
  const tickets = Array.from({ length: 6 }, (_, n) => `DROP-${n + 1}`)
  const ran = await Promise.all([
    ...tickets.map(ticket => cli.processes.swarm(['create', ticket])),
    cli.processes.swarm(['create', 'DROP-1']),
  ])
  expect(ran.filter(({ code }) => code !== 0).map(({ stderr }) => stderr)).toEqual([])
  expect((await list()).map(({ ticket }: { ticket: string }) => ticket)).toEqual(tickets)
  const folder = join(cli.home, '.ssh')
  const hosts = readFileSync(join(folder, 'agent-swarm.config'), 'utf8').match(/^# DROP-\d+/gm)
  expect(hosts).toEqual(tickets.map(ticket => `# ${ticket}`))
  expect(readdirSync(folder).sort()).toEqual(['agent-swarm.config', 'config'])
})

test('after Ctrl-C nothing more is begun in the background', async () => {
  const tickets = ['DROP-1', 'DROP-2', 'DROP-3', 'DROP-4', 'DROP-5', 'DROP-6']
  await cli.swarm(['create', ...tickets])
  const command = cli.processes.begin(['stop', ...tickets, '--detach'])
  await until('the first one', () => command.output.stdout.includes('continues in the background'))
  command.kill('SIGINT')
  const { code, stdout, stderr } = await command.ended
  const begun = tickets.filter(ticket => stdout.includes(`stop of ${ticket} continues in the background`))
  const left = tickets.filter(ticket => stderr.includes(`stop of ${ticket}: cancelled before it began`))
  expect([code, [...begun, ...left]]).toEqual([1, tickets])
  expect(left.length).toBeGreaterThan(0)
  const running = async () =>
    ((await cli.json(['list'])) as { ticket: string; status: string }[])
      .filter(({ status }) => status === 'running')
      .map(({ ticket }) => ticket)
  await until('what was begun', async () => (await running()).length === left.length)
  expect(await running()).toEqual(left)
})

test('--detach goes on with the project that the machine has, as in the foreground', async () => {
  await cli.swarm(['create', 'DROP-1'])
  const project = {
    ...{ repo: 'acme/web', branch: null, summary: null, path: '~/web', ports: [], save: [], setup: null, start: null },
    problem: 'it could not be cloned',
    prepared: true,
  }
  cli.know(registry => registry.setProject('DROP-1', project))
  const environment = {
    GITHUB_TOKEN: 'token',
    GITHUB_REPOSITORIES: 'acme/shop,acme/web',
    JIRA_PROJECTS: 'DROP:acme/shop+acme/web',
  }
  await cli.processes.swarm(['create', 'DROP-1', '--detach'], { environment })
  const ended = () => {
    let rows: { endedAt: string | null }[] = []
    cli.know(registry => {
      rows = registry.operations('DROP-1', 2)
    })
    return rows.length === 2 && rows.every(({ endedAt }) => endedAt !== null)
  }
  await until('its end', ended)
  cli.know(registry => expect(registry.project('DROP-1')).toMatchObject({ repo: 'acme/web' }))
})

test('--detach continues without the terminal, and status shows it', async () => {
  const { stdout } = await cli.processes.swarm(['create', 'DROP-1', '--detach', '--json'])
  const detached = JSON.parse(stdout)
  expect(outputValidator('create')(detached)).toBe('valid')
  expect(detached).toMatchObject({ ticket: 'DROP-1', result: 'detached', kind: 'create', pid: expect.any(Number) })
  const status = await until('its end', async () => {
    const status = await cli.json(['status', 'DROP-1'])
    return status.operations[0].result === 'done' ? status : null
  })
  expect(status.environment.status).toBe('running')
  await until('its output', () => readFileSync(detached.log, 'utf8').includes('"result": "done"'))
})

test('a command that waited and was killed does not wait any more', async () => {
  await cli.swarm(['create', 'DROP-1'])
  const lock = new DatabaseSync(join(cli.home, 'state/locks/DROP-1.lock'))
  lock.exec('begin exclusive')
  const stop = cli.processes.begin(['stop', 'DROP-1'])
  await stop.says('waiting for another command on this ticket')
  expect((await cli.json(['status'])).waiting).toHaveLength(1)
  stop.kill('SIGKILL')
  await stop.ended
  expect((await cli.json(['status'])).waiting).toEqual([])
  lock.close()
})

describe('Ctrl-C', () => {
  const synthetic = () => ['synthetic', 'synthetic-state'].flatMap(name => readdirSync(join(cli.home, 'state', name)))

  test('while the keys are made, and without a terminal, undoes a create', async () => {
    // An ssh-keygen that hangs, before the real one on PATH.
    const bin = join(cli.home, 'bin')
    const mark = join(cli.home, 'mark')
    mkdirSync(bin)
    writeFileSync(join(bin, 'ssh-keygen'), `#!/bin/sh\necho > '${mark}'\nexec sleep 30\n`)
    chmodSync(join(bin, 'ssh-keygen'), 0o755)
    const create = cli.processes.begin(['create', 'DROP-1'], { PATH: `${bin}:${process.env.PATH}` })
    await until('the keys', () => existsSync(mark))
    create.kill('SIGINT')
    const { code, stderr } = await create.ended
    expect(code).toBe(1)
    expect(stderr).toContain('Interrupted: undoing what was started')
    expect(stderr).toContain('create of DROP-1: cancelled; ')
    expect(await list()).toEqual([])
  })

  test('twice exits at once, and the next command settles what was left, or says why it cannot', async () => {
    const { screen, code } = await cli.processes.terminal(
      ['create', 'DROP-1'],
      pressedAt(['start', 'undoing'], cli.home),
    )
    expect(code).toBe(130)
    expect(screen).toContain('Exiting now. The next command or the runner recovers the interrupted operation.')
    expect(await list()).toMatchObject([{ ticket: 'DROP-1', status: 'creating' }])
    expect((await cli.swarm(['status', 'DROP-1'])).stdout).toContain('was interrupted; the next command on the ticket')
    const states = join(cli.home, 'state/synthetic-state')
    const [state = ''] = readdirSync(states)
    rmSync(join(states, state))
    // A folder cannot be deleted as a file.
    mkdirSync(join(states, state))
    expect(await cli.swarm(['create', 'DROP-2'])).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/^An interrupted operation on DROP-1 could not be recovered yet: .*DROP-1/),
    })
    rmSync(join(states, state), { recursive: true })
    await cli.swarm(['delete', 'DROP-2'])
    expect(await list()).toEqual([])
    expect(synthetic()).toEqual([])
  })
})
