import { expect, test } from 'vitest'
import { handlers } from '../../handlers/index.ts'
import { isBranchServed } from '../../src/branches.ts'
import {
  pullRequestEvent,
  pullRequestFacts,
  pullRequestNow,
  pushEvent,
  pushFacts,
  rules,
  summarize,
} from './fixtures.ts'

test.for<[string, string, string[], boolean]>([
  ['no pattern', 'anything', [], true],
  ['the same text', 'main', ['main'], true],
  ['a longer text', 'main2', ['main'], false],
  ['a star at the end', 'feature/DROP-1', ['feature/*'], true],
  ['a star in the middle', 'feature/DROP-1-x', ['feature/*-x'], true],
  ['another end after the star', 'feature/DROP-1-y', ['feature/*-x'], false],
  ['an empty text for the star', 'feature/', ['feature/*'], true],
  ['one of several patterns', 'fix/DROP-1', ['feature/*', 'fix/*'], true],
  ['signs of regular expressions', 'a.c', ['a?c', '(a.c)+', '[a].c'], false],
  ['many stars against a text that nearly matches', `${'a'.repeat(250)}b`, ['*a'.repeat(50)], false],
])('whether a branch is served: %s', ([, branch, branches, served]) =>
  expect(isBranchServed(branch, { branches })).toBe(served),
)

test('a branch that is not served has no effect, whatever the title says', () => {
  const narrowed = { ...rules, branches: ['feature/*'] }
  const now = pullRequestNow({ branch: 'fix/DROP-1', title: 'DROP-1', state: 'closed' })
  const given = [
    handlers.push(pushEvent({ ref: 'refs/heads/fix/DROP-1' }), pushFacts(), narrowed),
    handlers['pull-request'](pullRequestEvent('closed'), pullRequestFacts({ now }), narrowed),
  ]
  expect(given.map(summarize)).toEqual(Array(2).fill('ignored: the branch is not served here'))
})
