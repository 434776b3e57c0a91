import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { explainBy, isFailure } from '../src/errors.ts'
import { openRun, watchProgram } from '../src/exec.ts'

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
  expect((await runTart('env', [])).stdout.split('\n').sort()).toEqual([...stdout.split('\n'), 'TART_HOME=/t'].sort())
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
