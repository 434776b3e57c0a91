import { expect, test } from 'vitest'
import { describeUnsavedWork, isNothingUnsaved, parseUnsavedWork } from '../../../src/runner/rescue/unsaved-work.ts'

test.for([
  ['nothing to look at', 'end', { known: true, repositories: [] }],
  ['a clean repository', '0\t0\t0\t0\t/home/agent/shop\nend', { known: true, repositories: [] }],
  [
    'one with work',
    '0\t0\t0\t0\t/home/agent/lib\n2\t1\t0\t3\t/home/agent/shop\nend',
    {
      known: true,
      repositories: [{ line: 2, path: '/home/agent/shop', uncommitted: 2, untracked: 1, stashes: 0, unpushed: 3 }],
    },
  ],
  [
    'an answer that was cut off',
    '0\t0\t0\t0\t/home/agent/shop',
    { known: false, because: 'the machine gave no whole answer' },
  ],
  ['no answer', '', { known: false, because: 'the machine gave no whole answer' }],
  ['too many', 'too-many', { known: false, because: 'there are more than 200 repositories' }],
  ['no git', 'no-git', { known: false, because: 'there are repositories, and the machine has no git to look at them' }],
  [
    'a repository that git cannot read',
    '?\t0\t0\t0\t/home/agent/shop\nend',
    { known: false, because: 'a repository could not be read' },
  ],
  ['something else in between', 'hello\nend', { known: false, because: 'a repository could not be read' }],
  [
    'terminal codes in a path',
    '1\t0\t0\t0\t/home/\u001b[31m\nend',
    { known: false, because: 'a repository could not be read' },
  ],
] as const)('%s', ([, stdout, expected]) => expect(parseUnsavedWork(stdout)).toEqual(expected))

test('what is not known is never nothing', () => {
  expect(isNothingUnsaved({ known: false, reason: 'silence' })).toBe(false)
  expect(isNothingUnsaved({ known: true, repositories: [] })).toBe(true)
})

test('a finding is said in words', () => {
  expect(describeUnsavedWork(parseUnsavedWork('2\t1\t0\t3\t/home/agent/shop\n0\t0\t1\t0\t/srv/x\nend'))).toBe(
    '2 uncommitted changes, 1 untracked file, 3 unpushed commits in /home/agent/shop; 1 stash in /srv/x',
  )
  const many = Array.from({ length: 7 }, (_, n) => `1\t0\t0\t0\t/home/agent/r${n}\n`).join('')
  expect(describeUnsavedWork(parseUnsavedWork(`${many}end`))).toMatch(
    /in \/home\/agent\/r4; work in 2 other repositories$/,
  )
})
