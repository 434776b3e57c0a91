import { expect, test } from 'vitest'
import { parseBundleReport } from '../../../src/runner/rescue/bundle-report.ts'

const ID = '1'.repeat(40)
const PATH = '/home/agent/shop'
const report = (...lines: string[]) => [`path\t${PATH}`, `ref\t${ID}\trefs/heads/main`, ...lines, 'end', ''].join('\n')

test('a complete report is read, among messages of other programs', () => {
  expect(parseBundleReport(`sudo: unable to resolve host x\n${report(`shallow\t${ID}`)}`, PATH)).toEqual({
    branch: null,
    refs: new Map([['refs/heads/main', ID]]),
    shallow: [ID],
  })
})

test.for([
  ['no last line', report().replace(/end\n$/, ''), 'incomplete'],
  ['no ref', `path\t${PATH}\nend\n`, 'invalid line'],
  ['another repository', report().replace(PATH, '/home/agent/other'), 'changed during the search'],
  ['two repositories', report(`path\t${PATH}`), 'changed during the search'],
  ['a ref with a space', report(`ref\t${ID}\trefs/heads/../../x y`), 'invalid line'],
  ['a ref with a short id', report('ref\t1234567\trefs/heads/x'), 'invalid line'],
  ['a shallow commit with a short id', report('shallow\t1234567'), 'invalid line'],
  ['a failure', 'failed\tgit cannot write the bundle\n', 'git cannot write the bundle'],
  ['a failure with terminal codes', 'failed\t\u001b[31mred\n', 'the machine reported no readable reason'],
] as const)('a report is refused: %s', ([, stderr, message]) =>
  expect(() => parseBundleReport(stderr, PATH)).toThrow(message),
)
