import { expect, test } from 'vitest'
import {
  attemptOf,
  fileNameOf,
  isEnvironmentKey,
  isTicket,
  keyOfFileName,
  newVmId,
  parseCheckpointName,
  projectOf,
  ticketOf,
  timestamp,
  withTicket,
} from '../src/domain.ts'

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

test.for<[string, string, number | null, string]>([
  ['DROP-2100', 'DROP-2100', null, 'DROP-2100'],
  ['DROP-2100~1', 'DROP-2100', 1, 'DROP-2100_1'],
  ['A_B2-9999999~99', 'A_B2-9999999', 99, 'A_B2-9999999_99'],
  ['A_1-2~3', 'A_1-2', 3, 'A_1-2_3'],
])('the key %s belongs to %s', ([key, ticket, attempt, file]) => {
  expect(isEnvironmentKey(key)).toBe(true)
  expect(isTicket(key)).toBe(attempt === null)
  expect([ticketOf(key), attemptOf(key), projectOf(key)]).toEqual([ticket, attempt, ticket.split('-')[0]])
  expect(withTicket(key, 'NEW-1')).toBe(attempt === null ? 'NEW-1' : `NEW-1~${attempt}`)
  expect(fileNameOf(key)).toBe(file)
  expect(keyOfFileName(file)).toBe(key)
})

test.for([
  'DROP-1~0',
  'DROP-1~',
  'DROP-1~~',
  'DROP-1~01',
  'DROP-1~100',
  'DROP-1%7E1',
  'drop-1~1',
  'DROP-1~1\n',
  'DROP-1~1~2',
])('%j is no key', text => expect(isEnvironmentKey(text)).toBe(false))

test.for(['DROP-1_0', 'DROP-1~1', 'DROP-1_', 'DROP-1_100', 'DROP_1', 'DROP-1_1_1'])('the file %s has no key', name =>
  expect(keyOfFileName(name)).toBe(null),
)

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
  expect(newVmId('DROP-2100~1', '1a2b3c4d')).toBe('as-drop-2100-1-1a2b3c4d')
  expect(newVmId('A_BCDEFGHI-9999999~99', '1a2b3c4d')).toMatch(/^[a-z0-9-]{1,63}$/)
  expect(newVmId('A_BCDEFGHI-9999999', '1a2b3c4d')).toMatch(/^[a-z0-9-]{1,63}$/)
  expect(timestamp(new Date('2026-11-23T09:45:00.123Z'))).toBe('20261123-094500')
})
