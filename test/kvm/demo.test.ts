import { resolve } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { isLong } from '../support/samples.ts'
import { ensureBase, program } from './cli.ts'

beforeAll(async () => {
  if (isLong) await ensureBase()
})

test.skipIf(!isLong)('the whole story on real machines: Jira, pushes, comments and a merge', async () => {
  const demo = resolve(import.meta.dirname, '../../demo/main.ts')
  const { stdout, stderr, code } = await program(process.execPath, [demo, '--provider', 'kvm', '--in-namespace'])
  expect(stderr).toBe('')
  expect(stdout).toMatch(/:8000\/ answers: I am DEMO-1[\s\S]*:8000\/ answers: I am DEMO-2/)
  expect(stdout).toMatch(/opens draft pull request[\s\S]*the agent has ended, done\.[\s\S]*the agent has ended, done\./)
  // The bot writes a comment every few seconds at most, so that its reply may come after the look into the machine.
  expect(stdout).toContain('🚀 and a reply')
  expect(stdout).toContain('refactoring.txt is gone')
  expect(stdout).toContain('nothing is left')
  expect(code).toBe(0)
})
