import { expect, test } from 'vitest'
import { describeUnsavedWork, isNothingUnsaved, parseUnsavedWork } from '../../../src/runner/rescue/unsaved-work.ts'

const unknown = (reason: string) => ({ known: false, reason })

test.for([
  ['no repository', 'end', { known: true, repositories: [] }],
  ['a clean repository', '0\t0\t0\t0\t0\t/home/agent/shop\nend', { known: true, repositories: [] }],
  [
    'a repository with unsaved work',
    '0\t0\t0\t0\t0\t/home/agent/lib\n2\t1\t0\t3\t4\t/home/agent/shop\nend',
    {
      known: true,
      repositories: [
        { line: 2, path: '/home/agent/shop', uncommitted: 2, untracked: 1, stashes: 0, unpushed: 3, reflog: 4 },
      ],
    },
  ],
  ['an answer that was cut off', '0\t0\t0\t0\t0\t/home/agent/shop', unknown("the machine's answer was incomplete")],
  ['no answer', '', unknown("the machine's answer was incomplete")],
  ['too many repositories', 'too-many', unknown('the machine has more than 200 git repositories')],
  ['no git', 'no-git', unknown('the machine has git repositories, but git is not installed in it')],
  ['an unreadable repository', '?\t0\t0\t0\t0\t/home/agent/shop\nend', unknown('git could not read a repository')],
  ['another line', 'hello\nend', unknown('git could not read a repository')],
  ['terminal codes in a path', '1\t0\t0\t0\t0\t/home/\u001b[31m\nend', unknown('git could not read a repository')],
] as const)('the answer of a guest: %s', ([, stdout, expected]) => expect(parseUnsavedWork(stdout)).toEqual(expected))

test('unknown is not nothing', () => {
  expect(isNothingUnsaved({ known: false, reason: 'silence' })).toBe(false)
  expect(isNothingUnsaved({ known: true, repositories: [] })).toBe(true)
})

const manyRepositories = (count: number) =>
  `${Array.from({ length: count }, (_, index) => `1\t0\t0\t0\t0\t/r${index}\n`).join('')}end`

test.for([
  [
    '2\t1\t0\t3\t0\t/home/agent/shop\n0\t0\t1\t0\t2\t/srv/x\nend',
    '2 uncommitted changes, 1 untracked file, 3 unpushed commits in /home/agent/shop; 1 stash, 2 commits in the reflog alone in /srv/x',
  ],
  [manyRepositories(6), expect.stringMatching(/ in \/r4; work in 1 more repository$/)],
  [manyRepositories(7), expect.stringMatching(/ in \/r4; work in 2 more repositories$/)],
  ['', "could not check for unsaved work: the machine's answer was incomplete"],
] as const)('unsaved work in words: %j', ([stdout, expected]) =>
  expect(describeUnsavedWork(parseUnsavedWork(stdout))).toEqual(expected),
)
