import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { isFailure } from '../src/errors.ts'
import { openRun } from '../src/exec.ts'

const run = openRun({ PATH: process.env.PATH, HOME: '/nowhere', GITHUB_TOKEN: 'ghp_secret', APP_ID: '1' })
const failureOf = async (promise: Promise<unknown>) => {
  try {
    await promise
    return null
  } catch (error) {
    return isFailure(error) ? error.failure : null
  }
}

test('arguments reach the program as they are, and no shell reads them', async () => {
  const { stdout } = await run('printf', ['%s|', '$(id)', '; reboot', '`x`', "'"])
  expect(stdout).toBe("$(id)|; reboot|`x`|'|")
})

test('a program sees an allow-listed environment, in the C locale', async () => {
  const { stdout } = await run('env', [])
  expect(stdout).toContain('LC_ALL=C')
  expect(stdout).not.toMatch(/secret|APP_ID/)
})

test('a deadline ends the whole process group, also one that holds the output', async () => {
  const began = performance.now()
  const failure = await failureOf(run('sh', ['-c', 'sleep 30 & sleep 30'], { deadline: 200 }))
  expect(failure).toMatchObject({ kind: 'timeout', message: expect.stringContaining('no answer within 0.2 s') })
  expect(performance.now() - began).toBeLessThan(10_000)
})

test('what a program said becomes a kind by the first pattern that matches', async () => {
  const explain = [[/not there/, 'no-such-vm', 'Make it.']] as const
  expect(await failureOf(run('sh', ['-c', 'echo it is not there >&2; exit 1'], { explain }))).toMatchObject({
    kind: 'no-such-vm',
    remedy: 'Make it.',
  })
  expect(await failureOf(run('sh', ['-c', 'echo something new >&2; exit 1'], { explain }))).toMatchObject({
    kind: 'unknown',
    message: expect.stringContaining('something new'),
  })
})

test('a program that is not there is said to be missing', async () => {
  expect(await failureOf(run('no-such-program-here', []))).toMatchObject({
    kind: 'provider-missing',
    message: 'no-such-program-here: no-such-program-here is not installed',
  })
})

test('an exit code that is an answer is no failure', async () => {
  expect(await run('sh', ['-c', 'exit 3'], { answers: [3] })).toMatchObject({ exitCode: 3 })
})

test('output goes into a file as it is, and no more of it than is allowed', async () => {
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

test('of much that a program said, a failure shows the end', async () => {
  const said = await failureOf(run('sh', ['-c', 'head -c 100000 /dev/zero | tr "\\0" x >&2; echo because >&2; exit 1']))
  expect(said?.message).toMatch(/x+because$/)
  expect(said?.message.length).toBeLessThan(5_000)
})
