import { expect, test } from 'vitest'
import { isTicket, newVmId, parseCheckpointName, timestamp } from '../src/domain.ts'

test.for<[string, boolean]>([
  ['DROP-1', true],
  ['D-1', false],
  ['DROP-0', false],
  ['drop-1', false],
  ['DROP-1\n', false],
  ['A_B2-9999999', true],
  ['../x', false],
  ['TOOLONGNAMES-1', false],
])('ticket %j: %s', ([text, expected]) => expect(isTicket(text)).toBe(expected))

test.for<[string, string | null]>([
  ['Before-Refactor', 'before-refactor'],
  ['a', 'a'],
  ['-a', null],
  ['', null],
  ['a b', null],
  ['a/b', null],
  ['a'.repeat(41), 'a'.repeat(41)],
  ['a'.repeat(42), null],
  ['ä', null],
])('checkpoint %j', ([text, expected]) => expect(parseCheckpointName(text)).toBe(expected))

test('a vmId is short enough for a host name', () => {
  expect(newVmId('DROP-2100', '1a2b3c4d')).toBe('as-drop-2100-1a2b3c4d')
  expect(newVmId('A_BCDEFGHI-9999999', '1a2b3c4d')).toMatch(/^[a-z0-9-]{1,63}$/)
  expect(timestamp(new Date('2026-11-23T09:45:00.123Z'))).toBe('20261123-094500')
})
