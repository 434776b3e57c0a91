import * as fc from 'fast-check'
import { is } from 'valibot'
import { describe, expect, test } from 'vitest'
import { ticketOfBranch } from '../../../src/branches.ts'
import { ownerOfBranch } from '../../../src/runner/git-gateway/policy.ts'
import { attemptBranch, chooseBranch, newBranch } from '../../../src/runner/project/branch.ts'
import { branchName } from '../../../src/schema/basics.ts'

test.for([
  ['words', 'Fix the login', 'DROP-1-fix-the-login'],
  ['no summary', null, 'DROP-1'],
  ['nothing of our letters', '登录 🚀 --', 'DROP-1'],
  ['accents and other letters', 'Größe: Ærø & naïve “quotes”', 'DROP-1-grosse-aero-naive-quotes'],
  ['an apostrophe', "Don't fail", 'DROP-1-dont-fail'],
  ['what a shell or git gives a meaning', '--upload-pack=$(id); ../..@{u}.lock', 'DROP-1-upload-pack-id-u-lock'],
  ['control characters', 'a\u001b[2J\nb\u202e', 'DROP-1-a-2j-b'],
  ['the name of an attempt', 'second attempt 2', 'DROP-1-second-attempt-2-work'],
  [
    'a long one, cut after a word',
    'word '.repeat(40),
    `DROP-1-${'word-'.repeat(10)}word`.slice(0, 57).replace(/-\w*$/, ''),
  ],
  ['one long word', 'x'.repeat(600), `DROP-1-${'x'.repeat(53)}`],
] as const)('a new branch: %s', ([, summary, expected]) => expect(newBranch('DROP-1', summary)).toBe(expected))

test('any summary gives a short, valid branch of its ticket, always the same', () =>
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.string(), fc.constant('fix WEB-2 attempt-3')), summary => {
      const branch = newBranch('DROP-1', summary)
      expect(is(branchName, branch) && /^[\x21-\x7e]{1,65}$/.test(branch)).toBe(true)
      expect(ticketOfBranch(branch, { branches: [], projects: ['WEB', 'DROP'] })).toBe('DROP-1')
      expect(branch).not.toMatch(/-attempt-\d+$/)
      expect(newBranch('DROP-1', summary)).toBe(branch)
    }),
  ))

test.for([
  ['that of its source', 'DROP-1-login', null, 'DROP-1-login-attempt-2'],
  ['that of another attempt', 'DROP-1-login-attempt-1', null, 'DROP-1-login-attempt-2'],
  ['one that names the ticket later', 'feature/DROP-1-login', 'Fix the login', 'DROP-1-fix-the-login-attempt-2'],
  ['the bare ticket', 'DROP-1', null, 'DROP-1-work-attempt-2'],
  ['none', null, null, 'DROP-1-work-attempt-2'],
  ['one of another ticket', 'DROP-10-x', null, 'DROP-1-work-attempt-2'],
  ['one that is too long', `DROP-1-${'x'.repeat(243)}`, 'Login', 'DROP-1-login-attempt-2'],
] as const)('the branch of an attempt: %s', ([, branch, summary, expected]) => {
  const made = attemptBranch('DROP-1~2', { branch, summary })
  expect(made).toBe(expected)
  const owner = { projects: ['DROP'], attempts: ['DROP-1~2'], currentKey: (ticket: string) => ticket }
  expect(ownerOfBranch(made, owner)).toBe('DROP-1~2')
})

describe('the branch of a ticket', () => {
  const choose = (remote: string[], wanted: string | null = null) =>
    chooseBranch({ ticket: 'DROP-1', wanted, summary: 'x' }, remote, ['DROP', 'WEB'])

  test('a name that git or we would not take is passed over', () =>
    expect(choose(['-DROP-1', 'DROP-1..x', 'DROP-1 x', 'a/DROP-1'])).toMatchObject({
      name: 'a/DROP-1',
      isRemote: true,
    }))

  test('another key before it, or of a bot: not its branch', () =>
    expect(choose(['WEB-2-DROP-1', 'dependabot/DROP-1', 'DROP-12'])).toMatchObject({
      name: 'DROP-1-x',
      isRemote: false,
    }))

  test('one that was asked for and is gone is reported', () =>
    expect(choose([], 'login')).toEqual({
      name: 'DROP-1-x',
      isRemote: false,
      note: 'the repository has no branch login',
    }))
})
