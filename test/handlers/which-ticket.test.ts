/** The rule which ticket a pull request or a push is about, as a table of branches and titles. */
import { describe, expect, test } from 'vitest'
import { ticketOfBranch, ticketOfPullRequest } from '../../src/branches.ts'

const projects = ['DROP', 'WEB_2', 'JS', 'PR', 'UTF']
const rules = { projects, branches: [] }

/** Branch, title, ticket. */
type Row = [branch: string, title: string, ticket: string | null]

const inTheBranch: Row[] = [
  ['DROP-2100', '', 'DROP-2100'],
  ['DROP-2100-login', '', 'DROP-2100'],
  ['drop-7', '', 'DROP-7'],
  ['Drop-7-mixed-case', '', 'DROP-7'],
  ['feature/DROP-12-login', '', 'DROP-12'],
  ['feature/drop-12', '', 'DROP-12'],
  ['users/dev/fix/DROP-9', '', 'DROP-9'],
  ['x_DROP-7_y', '', 'DROP-7'],
  ['fix-DROP-7', '', 'DROP-7'],
  ['fix.DROP-7', '', 'DROP-7'],
  ['(DROP-7)', '', 'DROP-7'],
  ['DROP-7/part-2', '', 'DROP-7'],
  ['DROP-7_part', '', 'DROP-7'],
  ['DROP-7--x', '', 'DROP-7'],
  ['DROP-7.', '', 'DROP-7'],
  ['DROP-7.x', '', 'DROP-7'],
  ['DROP-7.patch', '', 'DROP-7'],
  ['DROP-7+DROP-8', '', 'DROP-7'],
  ['DROP-5-and-DROP-4', '', 'DROP-5'],
  ['web_2-3', '', 'WEB_2-3'],
  ['feature/WEB_2-3-x', '', 'WEB_2-3'],
  ['DROP-1234567', '', 'DROP-1234567'],
  ['🎉DROP-7🎉', '', 'DROP-7'],
  ['DROP-7–dash', '', 'DROP-7'],
  ['DROP-71', '', 'DROP-71'],
  ['jira/UTF-8', '', 'UTF-8'],
]

const noKey: Row[] = [
  ['main', '', null],
  ['', '', null],
  ['DROP', '', null],
  ['DROP-', '', null],
  ['DROP-0', '', null],
  ['DROP-07', '', null],
  ['DROP-12345678', '', null],
  ['DROP-7a', '', null],
  ['DROP-7th', '', null],
  ['DROP-7é', '', null],
  ['DROP-7ß', '', null],
  ['DROP-7٣', '', null],
  ['XDROP-7', '', null],
  ['1DROP-7', '', null],
  ['éDROP-7', '', null],
  ['дDROP-7', '', null],
  ['DROP_7', '', null],
  ['DROP7', '', null],
  ['DROP--7', '', null],
  ['DROP–7', '', null],
  ['DROP -7', '', null],
  ['WEB-3', '', null],
  ['OTHER-7', '', null],
  ['DRОP-7', '', null],
  ['JſS-7', '', null],
  ['Jſ-7', '', null],
  ['D-ROP-7', '', null],
]

const versions: Row[] = [
  ['core-js-3.30.1', '', null],
  ['bump-js-3.30', '', null],
  ['js-3.0', '', null],
  ['DROP-7.5', '', null],
  ['DROP-7.0.1', '', null],
  ['release/DROP-7.2', '', null],
  ['utf-8.1', '', null],
  ['core-js-3.30.1', 'JS-4: update core-js', 'JS-4'],
  ['js-3.30-for-DROP-7', '', 'DROP-7'],
  ['chore', 'Bump core-js-3.30.1 to 3.31', null],
  ['chore', 'Support UTF-8.', 'UTF-8'],
  ['chore', 'DROP-7.', 'DROP-7'],
]

const inTheTitle: Row[] = [
  ['main', 'DROP-2: login', 'DROP-2'],
  ['patch-1', '[DROP-2] login', 'DROP-2'],
  ['patch-1', 'feat(DROP-2): login', 'DROP-2'],
  ['patch-1', 'drop-2 login', 'DROP-2'],
  ['patch-1', 'Fix login (DROP-2)', 'DROP-2'],
  ['patch-1', 'Fix DROP-2, DROP-3', 'DROP-2'],
  ['patch-1', 'See https://x.atlassian.net/browse/DROP-2', 'DROP-2'],
  ['patch-1', 'Fix DROP-2’s login', 'DROP-2'],
  ['patch-1', '“DROP-2”', 'DROP-2'],
  ['patch-1', 'DROP-2\nDROP-3', 'DROP-2'],
  ['patch-1', 'Revert "DROP-2: login"', 'DROP-2'],
  ['patch-1', 'login', null],
  ['patch-1', 'XDROP-2', null],
  ['patch-1', 'DROP-2b', null],
  ['DROP-1', 'DROP-2: x', 'DROP-1'],
  ['DROP-1-x', 'WEB_2-2', 'DROP-1'],
  ['DROP-7a', 'DROP-2: x', 'DROP-2'],
  ['WEB-1', 'DROP-2: x', 'DROP-2'],
]

const ofBots: Row[] = [
  ['dependabot/npm_and_yarn/core-js-3.30.1', 'Bump core-js', null],
  ['dependabot/npm/DROP-7', 'Bump DROP-7', null],
  ['dependabot/pip/web_2-3', 'Bump web_2 from 2 to 3', null],
  ['renovate/js-3', 'Update dependency js', null],
  ['renovate/DROP-7', 'DROP-7: x', null],
  ['revert-12-DROP-7', 'Revert "DROP-7: login"', null],
  ['revert-12-feature/DROP-7-x', '', null],
  ['revert-1-main', 'DROP-7: revert it', null],
  ['gh-readonly-queue/main/pr-104-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '', null],
  ['gh-readonly-queue/DROP-7-epic/pr-11-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '', null],
  ['gh-readonly-queue/DROP-7/pr-11-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'DROP-8', null],
  // Names that only look like those.
  ['feature/dependabot/DROP-7', '', 'DROP-7'],
  ['dependabot-DROP-7', '', 'DROP-7'],
  ['renovate-kitchen-DROP-7', '', 'DROP-7'],
  ['revert-DROP-7', '', 'DROP-7'],
  ['fix/revert-12-DROP-7', '', 'DROP-7'],
  ['revert-12', 'DROP-7', 'DROP-7'],
  ['DROP-7-gh-readonly-queue/main', '', 'DROP-7'],
]

describe.for([
  ['a key in the branch', inTheBranch],
  ['no key', noKey],
  ['a version is no key', versions],
  ['the title, when the branch has none', inTheTitle],
  ['branches of bots', ofBots],
] as const)('%s', ([, table]) => {
  test.for(table)('%j with the title %j is about %j', ([branch, title, ticket]) =>
    expect(ticketOfPullRequest({ branch, title }, rules)).toBe(ticket),
  )
})

test('the table has a hundred rows', () =>
  expect([inTheBranch, noKey, versions, inTheTitle, ofBots].flat().length).toBeGreaterThanOrEqual(100))

test('a push is about the key of its branch, by the same rule', () => {
  for (const [branch, , ticket] of [...inTheBranch, ...noKey]) expect(ticketOfBranch(branch, rules)).toBe(ticket)
  for (const [branch] of ofBots.slice(0, 11)) expect(ticketOfBranch(branch, rules)).toBeNull()
})

test('only keys of the projects that the repository serves count', () => {
  const given = { branch: 'WEB-1-for-DROP-2', title: 'DROP-3' }
  expect(ticketOfPullRequest(given, { projects: ['DROP'], branches: [] })).toBe('DROP-2')
  expect(ticketOfPullRequest(given, { projects: ['WEB'], branches: [] })).toBe('WEB-1')
  expect(ticketOfPullRequest(given, { projects: [], branches: [] })).toBeNull()
  expect(ticketOfPullRequest(given, { projects: ['DROP'], branches: ['feature/*'] })).toBeNull()
})

test('hostile branches and titles take no longer than plain ones of their length', () => {
  const many = { projects: Array.from({ length: 100 }, (_, n) => `A${'A'.repeat(n % 8)}${n}`), branches: [] }
  const cost = (text: string) => {
    const before = process.cpuUsage().user
    for (let n = 0; n < 200; n += 1) ticketOfPullRequest({ branch: text, title: text }, many)
    return process.cpuUsage().user - before
  }
  const plain = 'plain text '.repeat(91).slice(0, 1_000)
  cost(plain)
  const allowed = 20 * Math.max(cost(plain), 1_000)
  for (const piece of ['A', 'AA1', 'AAAAAAA7-', 'A1-1a', 'AA9-1.1', '-', 'A-1', '😀A', 'dependabot', 'revert-1'])
    expect(cost(piece.repeat(1_000 / piece.length)), piece).toBeLessThan(allowed)
})
