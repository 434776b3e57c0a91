import { expect, test } from 'vitest'
import { findTicket, isTicket, newVmId, parseCheckpointName, timestamp } from '../src/domain.ts'

const projects = ['DROP', 'WEB_2']
test.for<[string, (string | null)[], string | null]>([
  ['the branch', ['DROP-2100-login'], 'DROP-2100'],
  ['lower case', ['feature/drop-7'], 'DROP-7'],
  ['an underscore before', ['x_DROP-7'], 'DROP-7'],
  ['a letter before', ['XDROP-7'], null],
  ['a digit before', ['1DROP-7'], null],
  ['a digit after is part of it', ['DROP-71'], 'DROP-71'],
  ['too many digits', ['DROP-12345678'], null],
  ['a letter after', ['DROP-7a'], 'DROP-7'],
  ['zero', ['DROP-0'], null],
  ['a leading zero', ['DROP-07'], null],
  ['another project', ['UTF-8'], null],
  ['branch before title', ['DROP-1', 'DROP-2'], 'DROP-1'],
  ['title when the branch has none', ['main', 'DROP-2: x'], 'DROP-2'],
  ['body last', [null, '', 'see WEB_2-3'], 'WEB_2-3'],
  ['the first one', ['DROP-5 and DROP-4'], 'DROP-5'],
])('%s', ([, texts, expected]) => expect(findTicket(texts, projects)).toBe(expected))

test('without projects there are no tickets', () => expect(findTicket(['DROP-1'], [])).toBeNull())

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

test('machine ids are short enough for a host name', () => {
  expect(newVmId('DROP-2100', '1a2b3c4d')).toBe('as-drop-2100-1a2b3c4d')
  expect(newVmId('A_BCDEFGHI-9999999', '1a2b3c4d')).toMatch(/^[a-z0-9-]{1,63}$/)
  expect(timestamp(new Date('2026-11-23T09:45:00.123Z'))).toBe('20261123-094500')
})
