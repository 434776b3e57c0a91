/** What people are told once about the isolation of machines. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { IsolationReport, Provider } from '../../providers/provider.ts'
import { fail } from '../../src/errors.ts'
import { isolationOf } from '../../src/runner/isolation.ts'
import { isolationNote } from '../../src/runner/isolation-note.ts'
import { actions, openTestContext, wrapProviders } from '../support/context.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-note-'))
})
afterEach(() => rmSync(home, { recursive: true }))

const note = (report: IsolationReport | null, name = 'kvm') => {
  const isolated = report === null ? {} : { isolated: async () => report }
  return isolationNote(home, { name, ...isolated } as Provider)
}
const BROKEN: IsolationReport = { isolated: false, reason: 'the bridge is open', remedy: 'Close it.' }
const WHOLE: IsolationReport = { isolated: true, note: 'Machines reach the internet.' }

test('a provider that does not isolate is told once, with what to do, and again for another reason', async () => {
  expect(await note(BROKEN)).toBe('Machines are not isolated here: the bridge is open. Close it')
  expect(await note(BROKEN)).toBe(null)
  expect(await note({ ...BROKEN, reason: 'no filters', remedy: null })).toBe(
    'Machines are not isolated here: no filters',
  )
  expect(await note(BROKEN, 'other')).not.toBe(null)
})

test('what isolated machines reach is told once', async () => {
  expect(await note(WHOLE)).toBe('Machines reach the internet')
  expect(await note(WHOLE)).toBe(null)
})

test('a provider that says nothing about it is not mentioned; a damaged file is an empty one', async () => {
  expect(await note(null)).toBe(null)
  writeFileSync(join(home, 'isolation-told.json'), '{')
  expect(await note(WHOLE)).not.toBe(null)
})

test('a check that fails counts as no isolation, with its reason; a cancelled one stays cancelled', async () => {
  const failing = (error: Error) =>
    isolationOf({
      isolated: async () => {
        throw error
      },
    })
  expect(await failing(fail('permission', 'looking at groups: no right.', 'Ask for it.'))).toEqual({
    isolated: false,
    reason: 'the check failed: looking at groups: no right',
    remedy: 'Ask for it.',
  })
  await expect(failing(fail('cancelled', 'looking at groups: cancelled'))).rejects.toThrow('cancelled')
  expect(await isolationOf({})).toBeUndefined()
})

test('each action that lets a machine run tells it', async () => {
  const it = await openTestContext()
  const by = { by: { via: 'cli', who: 'tester' }, replyTo: null } as const
  let reason = 0
  wrapProviders(it.context, provider => ({
    ...provider,
    isolated: async () => {
      reason += 1
      return { isolated: false, reason: `reason ${reason}`, remedy: null }
    },
  }))
  const summaryOf = async (action: Parameters<typeof it.do>[0]) => {
    const outcome = await it.do(action)
    return outcome.result === 'done' ? outcome.summary : outcome
  }
  const ticket = 'DROP-1'
  const running = [
    actions.create(ticket),
    { ...by, kind: 'restart', ticket } as const,
    actions.restore(ticket, 'one'),
    actions.start(ticket),
  ]
  const summaries: unknown[] = []
  for (const action of running) {
    summaries.push(await summaryOf(action))
    if (action.kind === 'create') await it.do(actions.checkpoint(ticket, 'one'))
    if (action.kind === 'restore') await it.do(actions.stop(ticket))
  }
  expect(summaries).toEqual(
    [1, 2, 3, 4].map(at => expect.stringMatching(new RegExp(`\\. Machines are not isolated here: reason ${at}$`))),
  )
  it.close()
})
