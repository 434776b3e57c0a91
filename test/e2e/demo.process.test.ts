import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { compiled } from '../support/cli.ts'

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
    'a comment on DEMO-1: DEMO-1 has a machine',
    '👀 on the comment',
    '🚀 and a reply: Made checkpoint before-refactor of DEMO-1',
    '🚀 and a reply: Restored DEMO-1 to before-refactor',
    'refactoring.txt is gone',
    'the machine is deleted',
    'nothing is left',
  ]) {
    expect(stdout).toContain(text)
  }
})

test.for(['SIGINT', 'SIGTERM'] as const)('broken off by %s while machines run, it removes them', async signal => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
  const child = spawn(process.execPath, [demo], { env: { ...process.env, ...compiled, TMPDIR: folder } })
  let output = ''
  child.stdout.on('data', chunk => {
    output += chunk
    if (output.includes('opens pull request') && !child.killed) child.kill(signal)
  })
  const code = await new Promise(done => child.on('close', done))
  expect(output).toMatch(/opens pull request[\s\S]*Interrupted\. Everything is removed/)
  expect(code).toBe(130)
  expect(readdirSync(folder)).toEqual([])
  rmSync(folder, { recursive: true })
})
