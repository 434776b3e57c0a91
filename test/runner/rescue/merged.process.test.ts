/** Commits of merged pull requests, which are saved on GitHub, and those that only look like them. Real git, synthetic machines. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { unsavedWorkScript } from '../../../src/runner/rescue/scripts.ts'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext({ guest: 'shell' })
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

const rescued = () => (existsSync(join(it.home, 'rescued')) ? readdirSync(join(it.home, 'rescued')) : [])
const inside = async (script: string) =>
  (
    (await it.inside(
      'DROP-1',
      `export GIT_CONFIG_NOSYSTEM=1
      g() { git -c user.name=n -c user.email=e -c init.defaultBranch=main -c protocol.file.allow=always "$@"; }
      set -e; ${script}`,
    )) ?? ''
  ).trim()

/**
 * A branch of three commits that GitHub squashed into one and then deleted: the clone has fetched with --prune, so that no remote
 * branch holds the three. Its remote is outside the machine. Prints their ids, the newest first.
 */
const squashMerged = (inClone = '') =>
  inside(`g init -q --bare hub; g clone -q hub shop 2>/dev/null; cd shop
    g commit -q --allow-empty -m base; g push -q origin main; g checkout -q -b DROP-1-work
    for n in 1 2 3; do echo $n > f; g add f; g commit -qm "work $n"; done; g push -q origin DROP-1-work
    g clone -q ../hub ../merger; cd ../merger; g merge -q --squash origin/DROP-1-work >/dev/null; g commit -qm squash
    g push -q origin main; g push -q origin :DROP-1-work; cd ../shop; g rev-list main..DROP-1-work
    g fetch -q --prune; g remote set-url origin https://example.org/shop; ${inClone || ':'}; cd ..; rm -rf hub merger`).then(
    text => text.split('\n'),
  )

const deleteMerged = (mergedCommits: string[]) =>
  it.do({ ...actions.delete('DROP-1'), mergedCommits } as ReturnType<typeof actions.delete>)

test('without its commits, a squashed and pruned branch is unsaved work; with them it is not', async () => {
  const ids = await squashMerged()
  expect(ids).toHaveLength(3)
  expect(await it.do(actions.stop('DROP-1'))).toMatchObject({ result: 'done' })
  expect(it.context.registry.environment('DROP-1')?.unsavedWork).toMatchObject({ repositories: [{ unpushed: 3 }] })
  const outcome = await deleteMerged(ids)
  expect(outcome).toMatchObject({ result: 'done', summary: expect.not.stringContaining('rescued') })
  expect(rescued()).toEqual([])
})

test('a stop that knows them records nothing unsaved', async () => {
  const mergedCommits = await squashMerged()
  await it.do({ ...actions.stop('DROP-1'), mergedCommits } as ReturnType<typeof actions.stop>)
  expect(it.context.registry.environment('DROP-1')?.unsavedWork).toEqual({ known: true, repositories: [] })
})

test.for([
  ['the head alone is enough: its ancestors go along', (ids: string[]) => ids.slice(0, 1), null],
  ['an older commit alone leaves the newer ones', (ids: string[]) => ids.slice(1), '1 unpushed commit in'],
  ['ids that the machine does not have change nothing', () => ['a'.repeat(40), 'b'.repeat(64)], '3 unpushed commits'],
] as const)('%s', async ([, choose, expected]) => {
  const outcome = await deleteMerged(choose(await squashMerged()))
  expect(outcome).toMatchObject({ result: 'done' })
  if (expected === null) expect(rescued()).toEqual([])
  else expect(outcome).toMatchObject({ summary: expect.stringContaining(expected) })
})

test('one more commit on the merged branch is rescued', async () => {
  const ids = await squashMerged('echo more > f; g commit -qam more')
  expect(await deleteMerged(ids)).toMatchObject({
    summary: expect.stringMatching(/unsaved work \(1 unpushed commit in .*\) is rescued/),
  })
  expect(rescued()).toHaveLength(1)
})

test('the same patches under other ids are rescued', async () => {
  const ids = await squashMerged(
    'export GIT_COMMITTER_DATE=2030-01-01T00:00:00Z; g checkout -q -b again main; for n in 2 1 0; do g cherry-pick --allow-empty "DROP-1-work~$n" >/dev/null; done; g branch -q -D DROP-1-work',
  )
  expect(await deleteMerged(ids)).toMatchObject({ summary: expect.stringContaining('3 unpushed commits') })
})

test('a tree, a file and a tag are not commits, and make nothing saved', async () => {
  await squashMerged('g tag -a -m v v DROP-1-work')
  const other = await inside('cd shop; g rev-parse "DROP-1-work^{tree}" DROP-1-work:f v')
  expect(await deleteMerged(other.split('\n'))).toMatchObject({
    summary: expect.stringContaining('3 unpushed commits'),
  })
})

test.for([
  ['--all'],
  ['HEAD'],
  ["'; touch x; '"],
  ['$(touch x)'],
  ['abc1234'],
  ['A'.repeat(40)],
  [`${'a'.repeat(40)}\n`],
])('the script takes no %j for a commit', ([id = '']) =>
  expect(() => unsavedWorkScript([id])).toThrow('must be a whole id'),
)
