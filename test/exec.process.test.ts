import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { explainBy, isFailure } from '../src/errors.ts'
import { openRun, watchProgram } from '../src/exec.ts'
import { type RunningCommand, withRunningCommands } from '../src/running-commands.ts'

const environment = {
  PATH: process.env.PATH,
  HOME: '/nowhere',
  GITHUB_TOKEN: 'ghp_secret',
  APP_ID: '1',
  TART_HOME: '/t',
}
const run = openRun(environment)
const failureOf = async (promise: Promise<unknown>) => {
  try {
    await promise
    return null
  } catch (error) {
    return isFailure(error) ? error.failure : null
  }
}

test('arguments reach the program unchanged, and no shell reads them', async () => {
  const { stdout } = await run('printf', ['%s|', '$(id)', '; reboot', '`x`', "'"])
  expect(stdout).toBe("$(id)|; reboot|`x`|'|")
})

test('a program sees the general variables and those that it is given, in the C locale', async () => {
  const { stdout } = await run('env', [])
  expect(stdout).toContain('LC_ALL=C')
  expect(stdout).toContain('HOME=/nowhere')
  expect(stdout).not.toMatch(/secret|APP_ID|TART_HOME/)
  const runTart = openRun(environment, { passOn: ['TART_HOME', 'LIBVIRT_DEFAULT_URI'] })
  const seen = (text: string) => text.split('\n').filter(line => !line.startsWith('AGENT_SWARM_COMMAND='))
  expect(seen((await runTart('env', [])).stdout).sort()).toEqual([...seen(stdout), 'TART_HOME=/t'].sort())
})

test('a deadline ends the whole process group, even one that holds the output', async () => {
  const failure = await failureOf(run('sh', ['-c', 'sleep 3600 & sleep 3600'], { deadline: 200 }))
  expect(failure).toMatchObject({ kind: 'timeout', message: expect.stringContaining('no answer within 0.2 s') })
})

test('standard error becomes a failure by the table of the tool, or an unknown failure', async () => {
  const explain = explainBy([[/not there/, 'no-such-vm', 'Create it.']])
  expect(await failureOf(run('sh', ['-c', 'echo it is not there >&2; exit 1'], { explain }))).toMatchObject({
    kind: 'no-such-vm',
    remedy: 'Create it.',
  })
  expect(await failureOf(run('sh', ['-c', 'echo something new >&2; exit 1']))).toMatchObject({
    kind: 'unknown',
    message: expect.stringContaining('something new'),
  })
})

test('a program that does not exist is reported as not installed', async () => {
  expect(await failureOf(run('no-such-program-here', []))).toMatchObject({
    kind: 'provider-missing',
    message: 'no-such-program-here: no-such-program-here is not installed',
  })
})

test('an exit code that is an answer is not a failure', async () => {
  expect(await run('sh', ['-c', 'exit 3'], { answers: [3] })).toMatchObject({ exitCode: 3 })
})

test('output goes unchanged into a file, up to the limit', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-exec-'))
  const file = join(folder, 'out')
  const print = (bytes: string) => ['-c', `printf '${bytes}'; echo done >&2`]
  expect(await run('sh', print('\\377\\0\\r\\n'), { into: { file, limit: 4 } })).toMatchObject({
    stdout: '',
    stderr: 'done',
  })
  expect([...readFileSync(file)]).toEqual([255, 0, 13, 10])
  expect(statSync(file).mode & 0o777).toBe(0o600)
  await expect(run('sh', print('x'), { into: { file, limit: 4 } })).rejects.toThrow('EEXIST')
  const large = join(folder, 'large')
  const endless = ['-c', 'while :; do head -c 100000 /dev/zero; done']
  expect(await failureOf(run('sh', endless, { into: { file: large, limit: 1_000_000 } }))).toMatchObject({
    message: expect.stringContaining('it printed more than 1000000 bytes'),
  })
  expect(statSync(large).size).toBeLessThanOrEqual(1_000_000)
  rmSync(folder, { recursive: true })
})

test('a failure shows only the end of a long standard error', async () => {
  const script = 'head -c 100000 /dev/zero | tr "\\0" x >&2; echo because >&2; exit 1'
  const failure = await failureOf(run('sh', ['-c', script]))
  expect(failure?.message).toMatch(/x+because$/)
  expect(failure?.message.length).toBeLessThan(5_000)
})

test('lines are shown as the program prints them, each cut, and the output is whole', async () => {
  const lines: string[] = []
  const script = 'echo step git; read go; printf "%03000d\\n" 0; printf "end \\303\\251"'
  const { stdout } = await run('sh', ['-c', script], { input: 'go\n', onLine: line => lines.push(line) })
  expect(lines).toEqual(['step git', '0'.repeat(1_000), 'end é'])
  expect(stdout).toBe(`step git\n${'0'.repeat(3_000)}\nend é`)
})

test('a program that prints lines without end is stopped', async () => {
  let count = 0
  const failure = await failureOf(run('yes', [], { maxOutput: 10_000, onLine: () => (count += 1) }))
  expect(failure).toMatchObject({ kind: 'refused', message: expect.stringContaining('more than 10000 characters') })
  expect(count).toBeGreaterThan(1_000)
})

test('what a watched program prints on either stream comes in lines that are cut, and reaches no terminal by itself', async () => {
  const [lines, errors] = [[] as string[], [] as string[]]
  const script = `printf '\\033]0;x\\007\\n' >&2; head -c 20000000 /dev/zero | tr '\\0' x; printf '\\nlast'; exit 3`
  const code = await watchProgram(environment, 'sh', ['-c', script], {
    signal: new AbortController().signal,
    onLine: line => lines.push(line),
    onError: line => errors.push(line),
  })
  expect(code).toBe(3)
  expect(errors).toEqual(['\u001b]0;x\u0007'])
  expect(lines.map(line => line.length)).toEqual([10_000, 4])
})

// ── Programs that do not end ──

/** Whether a process with this text in its arguments runs. */
const runs = async (text: string): Promise<boolean> =>
  (await run('ps', ['-eo', 'args'], {})).stdout.split('\n').some(line => line.includes(text) && !line.startsWith('ps'))
/** A number of seconds that no other test sleeps. */
const seconds = () => `${1_000 + Math.floor(Math.random() * 1e6)}`

const hangs: readonly [what: string, script: (time: string) => string][] = [
  ['a program that ignores SIGTERM', time => `trap "" TERM; sleep ${time} & wait; sleep ${time}`],
  [
    'a grandchild in a session of its own that holds the pipes',
    time => `setsid sh -c 'trap "" TERM; sleep ${time}' & sleep ${time}`,
  ],
  [
    'a double fork that nobody waits for',
    time => `(setsid sh -c '(trap "" TERM; sleep ${time}) & exit 0' &) ; sleep ${time}`,
  ],
]
test.for(hangs)('the deadline ends %s, and nothing of it goes on', async ([, script]) => {
  const time = seconds()
  const failure = await failureOf(run('sh', ['-c', script(time)], { deadline: 300 }))
  expect(failure).toMatchObject({ kind: 'timeout' })
  if (process.platform === 'linux') expect(await runs(`sleep ${time}`)).toBe(false)
})

test('cancelling ends a program that ignores SIGTERM, with what it started', async () => {
  const time = seconds()
  const cancel = new AbortController()
  const onLine = () => cancel.abort()
  const script = `trap "" TERM; setsid sleep ${time} & echo started; sleep ${time}`
  expect(await failureOf(run('sh', ['-c', script], { signal: cancel.signal, onLine }))).toMatchObject({
    kind: 'cancelled',
  })
  if (process.platform === 'linux') expect(await runs(`sleep ${time}`)).toBe(false)
})

test('a daemon that a program started, and that writes into no pipe of ours, outlives its deadline', async () => {
  const time = seconds()
  const script = `setsid sleep ${time} </dev/null >/dev/null 2>&1 & sleep 1000`
  expect(await failureOf(run('sh', ['-c', script], { deadline: 300 }))).toMatchObject({ kind: 'timeout' })
  const { stdout } = await run('ps', ['-eo', 'pid,args'])
  const pid = Number(stdout.match(new RegExp(`(\\d+) sleep ${time}`))?.[1])
  expect(pid).toBeGreaterThan(0)
  process.kill(pid, 'SIGKILL')
})

test('a program that ended well is not waited for because of what it left behind, which goes on', async () => {
  const time = seconds()
  const { stdout } = await run('sh', ['-c', `setsid sleep ${time} & echo $!; printf whole`])
  const [pid = '', rest] = stdout.split('\n')
  expect(rest).toBe('whole')
  expect(await runs(`sleep ${time}`)).toBe(true)
  process.kill(Number(pid), 'SIGKILL')
})

test('what a program left behind and that prints without end is not waited for either', async () => {
  const { exitCode } = await run('sh', ['-c', 'setsid sh -c "while echo x; do sleep 0.2; done" & exit 0'])
  expect(exitCode).toBe(0)
})

test('a child that floods the output from a session of its own is stopped', async () => {
  const time = seconds()
  const script = `setsid sh -c 'trap "" TERM; while echo ${time}; do :; done' & sleep ${time}`
  expect(await failureOf(run('sh', ['-c', script], { maxOutput: 100_000 }))).toMatchObject({
    message: expect.stringContaining('more than 100000 characters'),
  })
  if (process.platform === 'linux') expect(await runs(time)).toBe(false)
})

test('a file that something else goes on writing is not taken for whole: the deadline says so', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-exec-'))
  const time = seconds()
  const script = `setsid sleep ${time} & printf x`
  const into = { file: join(folder, 'out'), limit: 100 }
  expect(await failureOf(run('sh', ['-c', script], { into, deadline: 500 }))).toMatchObject({ kind: 'timeout' })
  if (process.platform === 'linux') expect(await runs(`sleep ${time}`)).toBe(false)
  rmSync(folder, { recursive: true })
})

test('watching ends with its signal, whatever holds the pipes', async () => {
  const time = seconds()
  const stop = new AbortController()
  const code = await watchProgram(
    environment,
    'sh',
    ['-c', `setsid sh -c 'trap "" TERM; sleep ${time}' & echo on; sleep ${time}`],
    {
      signal: stop.signal,
      onLine: () => stop.abort(),
      onError: () => {},
    },
  )
  expect(code).toBe(143)
  if (process.platform === 'linux') expect(await runs(`sleep ${time}`)).toBe(false)
})

test('a piece of work knows which of its commands run, by program and first word', async () => {
  const commands = new Set<RunningCommand>()
  const seen: string[][] = []
  const look = () => void seen.push([...commands].map(({ what }) => what))
  await withRunningCommands(commands, async () => {
    await run('sh', ['-c', 'echo one'], { onLine: look })
    await run('env', ['-u', 'X', 'sleep', '0'], {})
    await failureOf(run('sh', ['-c', 'echo two; sleep 100'], { deadline: 100, onLine: look }))
  })
  await run('sh', ['-c', 'echo three'], { onLine: look })
  expect(seen).toEqual([['sh'], ['sh'], []])
  expect(commands.size).toBe(0)
})
