import { execFile } from 'node:child_process'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { ensureBase } from './cli.ts'

test('the whole story on real machines: Jira, pushes, comments and a merge', async () => {
  await ensureBase()
  const { stdout, stderr, code } = await new Promise<{ stdout: string; stderr: string; code: number }>(done =>
    execFile(
      process.execPath,
      [resolve(import.meta.dirname, '../../demo/main.ts'), '--provider', 'kvm', '--in-namespace'],
      (error, stdout, stderr) => done({ stdout, stderr, code: error === null ? 0 : 1 }),
    ),
  )
  expect(stderr).toBe('')
  expect(stdout).toMatch(/:8000\/ answers: I am DEMO-1[\s\S]*:8000\/ answers: I am DEMO-2/)
  expect(stdout).toMatch(/🚀 and a reply[\s\S]*refactoring\.txt is gone/)
  expect(stdout).toContain('nothing is left')
  expect(code).toBe(0)
})
