import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { compiled } from '../support/cli.ts'
import { some } from '../support/samples.ts'

const demo = resolve(import.meta.dirname, '../../demo/main.ts')

test('npm run demo tells the whole story, and leaves nothing', async () => {
  const { stdout, stderr, code } = await new Promise<{ stdout: string; stderr: string; code: number }>(done =>
    execFile(process.execPath, [demo], { env: { ...process.env, ...compiled } }, (error, stdout, stderr) =>
      done({ stdout, stderr, code: error === null ? 0 : 1 }),
    ),
  )
  expect(stderr).toBe('')
  expect(code).toBe(0)
  expect(stdout).toContain('The provider is synthetic: machines are folders, and nothing boots.')
  for (const text of [
    'The agent is a script, in place of Claude Code or Codex: no model is asked.',
    'a comment on DEMO-1: DEMO-1 has a machine',
    'and: No agent was started: DEMO-2 was reported by somebody',
    'pushes DEMO-1-log-in-with-a-passkey through the git gateway',
    'agent-swarm opens draft pull request #1: DEMO-1 Log in with a passkey',
    'git push origin HEAD:main is refused: refs/heads/main: a machine does not push to the default branch',
    '👀 on the comment',
    '🚀 and a reply: Restored DEMO-1 to push-',
    'refactoring.txt is gone',
    'test the passkey of another site. This is a script.',
    'the machine is deleted',
    'nothing is left',
  ]) {
    expect(stdout).toContain(text)
  }
  expect(stdout.match(/the agent has ended, done\./g)).toHaveLength(2)
})

test.for(some(['SIGINT', 'SIGTERM'] as const, 2))(
  'broken off by %s while machines run, it removes them',
  async signal => {
    const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
    const child = spawn(process.execPath, [demo], { env: { ...process.env, ...compiled, TMPDIR: folder } })
    let output = ''
    child.stdout.on('data', chunk => {
      output += chunk
      if (output.includes('opens draft pull request') && !child.killed) child.kill(signal)
    })
    const code = await new Promise(done => child.on('close', done))
    expect(output).toMatch(/opens draft pull request[\s\S]*Interrupted\. Everything is removed/)
    expect(code).toBe(130)
    expect(readdirSync(folder)).toEqual([])
    rmSync(folder, { recursive: true })
  },
)
