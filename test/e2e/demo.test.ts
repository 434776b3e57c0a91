import { execFile } from 'node:child_process'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'

test('npm run demo tells the whole story, and leaves nothing', async () => {
  const { stdout, stderr, code } = await new Promise<{ stdout: string; stderr: string; code: number }>(done =>
    execFile(process.execPath, [resolve(import.meta.dirname, '../../demo/main.ts')], (error, stdout, stderr) =>
      done({ stdout, stderr, code: error === null ? 0 : 1 }),
    ),
  )
  expect(stderr).toBe('')
  expect(code).toBe(0)
  expect(stdout).toContain('The provider is synthetic: environments are directories, and no machine boots.')
  for (const said of [
    'a comment on DEMO-1: DEMO-1 has its machine',
    '👀 on the comment',
    '🚀 and a reply',
    'refactoring.txt is gone',
    'the machine is deleted',
    'nothing is left',
  ]) {
    expect(stdout).toContain(said)
  }
}, 60_000)
