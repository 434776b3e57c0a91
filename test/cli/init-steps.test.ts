/** The steps of `agent-swarm init`, with a person who answers at once. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openAnswers } from '../../src/cli/init/answers.ts'
import type { Setup } from '../../src/cli/init/setup.ts'
import { takeWay } from '../../src/cli/init/steps.ts'
import { fail } from '../../src/errors.ts'

test.for([
  [true, 2, []],
  [false, 1, ['creating the App: GitHub does not answer']],
] as const)('what cannot be created is tried again when the person agrees: %s', async ([agrees, tries, errors]) => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-init-'))
  const said: string[] = []
  const questions: string[] = []
  const setup = {
    answers: await openAnswers(home, {}),
    ask: {
      agree: async (question: string) => {
        questions.push(question)
        return agrees
      },
    },
    checks: [],
    next: new Set(),
    invocation: { terminal: { stdout: {}, stderr: {}, env: {} }, signal: new AbortController().signal },
    say: (text: string) => said.push(text),
  } as unknown as Setup
  let calls = 0
  const create = async () => {
    calls += 1
    if (calls === 1) throw fail('network', 'creating the App: GitHub does not answer', 'Try again.')
    return true
  }
  await takeWay(setup, 'GitHub', { steps: [{ ask: [], create }] })
  rmSync(home, { recursive: true })
  expect([calls, questions]).toEqual([tries, ['Try again?']])
  expect(said.join()).toContain('GitHub: creating the App: GitHub does not answer')
  expect(setup.checks.map(({ text }) => text)).toEqual(errors)
})
