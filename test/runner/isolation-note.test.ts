/** What people are told once about the isolation of machines. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { IsolationReport, Provider } from '../../providers/provider.ts'
import { isolationNote } from '../../src/runner/isolation-note.ts'

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
