/** Which refs a machine may push, against a second formulation that shares no code with the first. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  MAX_DROPPED,
  ownerOfBranch,
  type PushRules,
  refuseDropped,
  refuseName,
} from '../../../src/runner/git-gateway/policy.ts'

const ID = 'a'.repeat(40)
const rules = (change: Partial<PushRules> = {}): PushRules => ({
  ...{
    key: 'DROP-1',
    projects: ['DROP', 'WEB'],
    defaultBranch: 'main',
    attempts: [],
    currentKey: (ticket: string) => ticket,
  },
  ...change,
})
const isAllowed = (ref: string, change: Partial<PushRules> = {}, to: string | null = ID) =>
  refuseName({ ref, from: null, to }, rules(change)) === null

test.for([
  ['the ticket first', 'DROP-1-login', true],
  ['in lower case, after a slash', 'feature/drop-1-login', true],
  ['the ticket alone', 'DROP-1', true],
  ['another ticket', 'DROP-2-login', false],
  ['a longer number', 'DROP-11', false],
  ['another ticket first', 'DROP-2-DROP-1', false],
  ['another project first', 'WEB-3-DROP-1', false],
  ['a project that the repository does not serve first', 'API-3-DROP-1', true],
  ['no ticket', 'login', false],
  ['a bot', 'renovate/DROP-1', false],
  ['a revert', 'revert-12-DROP-1', false],
  ['invisible characters', 'DROP-1-\u202elogin', false],
  ['a letter before it', 'xDROP-1', false],
] as const)('%s: %s', ([, branch, allowed]) => expect(isAllowed(`refs/heads/${branch}`)).toBe(allowed))

test('tags, other refs, deletes and the default branch are refused, also when they name the ticket', () => {
  for (const ref of ['refs/tags/DROP-1', 'refs/notes/DROP-1', 'refs/pull/1/head', 'HEAD', 'refs/heads', 'DROP-1'])
    expect(isAllowed(ref), ref).toBe(false)
  expect(isAllowed('refs/heads/DROP-1', { defaultBranch: 'DROP-1' })).toBe(false)
  expect(isAllowed('refs/heads/DROP-1', {}, null)).toBe(false)
})

test('a ticket with a new key keeps the branches of its old one', () => {
  const currentKey = (ticket: string) => (ticket === 'DROP-1' ? 'WEB-9' : ticket)
  expect(isAllowed('refs/heads/DROP-1-login', { key: 'WEB-9', currentKey })).toBe(true)
  expect(isAllowed('refs/heads/DROP-1-login', { key: 'DROP-1', currentKey })).toBe(false)
})

test("an attempt that exists has its own branches, and not the ticket's; the ticket has not the attempt's", () => {
  const attempts = ['DROP-1~2']
  const own = 'refs/heads/DROP-1-login-attempt-2'
  expect(isAllowed(own, { key: 'DROP-1~2', attempts })).toBe(true)
  expect(isAllowed(own, { attempts })).toBe(false)
  expect(isAllowed('refs/heads/DROP-1-login', { key: 'DROP-1~2', attempts })).toBe(false)
  expect(isAllowed('refs/heads/DROP-1-login-attempt-3', { key: 'DROP-1~2', attempts })).toBe(false)
  expect(isAllowed('refs/heads/DROP-1-login-attempt-3', { attempts })).toBe(true)
  expect(ownerOfBranch('x/DROP-1-login-attempt-2', rules({ attempts }))).toBe('DROP-1')
})

test('only own commits are dropped, and not too many', () => {
  expect(refuseDropped([], new Set())).toBeNull()
  expect(refuseDropped(['a', 'b'], new Set(['a', 'b']))).toBeNull()
  expect(refuseDropped(['a', 'bbbbbbbbbbbb'], new Set(['a']))).toContain('drop commit bbbbbbbbbb, which')
  expect(refuseDropped(['a', 'b'], new Set())).toContain('2 commits, for example a')
  const many = Array.from({ length: MAX_DROPPED + 1 }, (_, n) => String(n))
  expect(refuseDropped(many, new Set(many))).toContain('more than 1000')
})

/** The same rule, read sign by sign: no pattern of the first formulation. */
const allowedByHand = (ref: string): boolean => {
  const parts = ref.split('/')
  if (parts[0] !== 'refs' || parts[1] !== 'heads' || parts.length < 3) return false
  const branch = parts.slice(2).join('/')
  if (branch === 'main' || branch === '' || branch.length > 250) return false
  const isDigit = (sign: string | undefined) => sign !== undefined && sign >= '0' && sign <= '9'
  const isWord = (sign: string | undefined) =>
    sign !== undefined && (isDigit(sign) || sign.toLowerCase() !== sign.toUpperCase())
  // git's own rules for names.
  if (parts.slice(2).some(part => part === '' || part.startsWith('.') || part.endsWith('.lock'))) return false
  if (
    branch.startsWith('-') ||
    branch.endsWith('.') ||
    branch === '@' ||
    branch.includes('..') ||
    branch.includes('@{')
  )
    return false
  if (
    [...branch].some(
      sign => sign <= ' ' || sign === '\u007f' || '~^:?*[\\'.includes(sign) || sign === '\u200b' || sign === '\u202e',
    )
  )
    return false
  const [top = ''] = branch.split('/')
  if (['dependabot', 'renovate', 'gh-readonly-queue'].includes(top) && branch !== top) return false
  const words = branch.split('-')
  if (words[0] === 'revert' && words.length > 2 && words[1] !== '' && [...(words[1] ?? '')].every(isDigit)) return false
  for (let at = 0; at < branch.length; at += 1) {
    if (isWord(branch[at - 1])) continue
    for (const project of ['DROP', 'WEB']) {
      const start = branch.slice(at, at + project.length + 1)
      const plain = [...start].every(sign => sign.charCodeAt(0) < 128)
      if (!plain || start.toUpperCase() !== `${project}-`) continue
      let end = at + start.length
      while (isDigit(branch[end])) end += 1
      const digits = branch.slice(at + start.length, end)
      if (digits === '' || digits.length > 7 || digits.startsWith('0') || isWord(branch[end])) continue
      if (branch[end] === '.' && isDigit(branch[end + 1])) continue
      return project === 'DROP' && digits === '1'
    }
  }
  return false
}

test('10,000 generated names of refs are judged as by hand', () => {
  const piece = fc.constantFrom(
    ...[
      'DROP-1',
      'drop-1',
      'DROP-2',
      'DROP-10',
      'Web-1',
      'WEB-7',
      'API-1',
      'DROP-01',
      'DROP-1.2',
      'dROP-12345678',
      'main',
    ],
    ...[
      '-',
      '/',
      '.',
      '_',
      '..',
      '@',
      '@{',
      'x',
      '9',
      'é',
      'K',
      '.lock',
      'revert-3-',
      'renovate/',
      'dependabot/',
      'login',
      ' ',
      '\u202e',
      '~',
    ],
  )
  const branch = fc.oneof(
    fc.array(piece, { maxLength: 5 }).map(parts => parts.join('')),
    fc.string({ maxLength: 12 }).map(text => `${text}DROP-1`),
  )
  const prefix = fc.oneof(
    { weight: 9, arbitrary: fc.constant('refs/heads/') },
    { weight: 1, arbitrary: fc.constantFrom('refs/tags/', 'refs/', '', 'refs/heads', 'refs/notes/') },
  )
  let allowed = 0
  fc.assert(
    fc.property(prefix, branch, (start, name) => {
      const ref = start + name
      const judged = isAllowed(ref)
      if (judged) allowed += 1
      expect(judged, JSON.stringify(ref)).toBe(allowedByHand(ref))
    }),
    { numRuns: 10_000 },
  )
  expect(allowed).toBeGreaterThan(500)
})
