/** Commits that only reflogs hold, and work that comes while other work is being saved. Real git, synthetic machines. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { recoverAll } from '../../../src/runner/recovery.ts'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'
import { isLong, some } from '../../support/samples.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext({ guest: 'shell' })
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

const PERSON = `export GIT_CONFIG_NOSYSTEM=1
g() { git -c user.name=n -c user.email=e -c init.defaultBranch=main "$@"; }
c() { g commit -q --allow-empty -m "$1"; }
set -e;`
const PUSHED =
  'g init -q shop; cd shop; c one; g remote add origin https://example.org/shop; g update-ref refs/remotes/origin/main HEAD;'
const inside = (script: string, deadline?: number) => it.inside('DROP-1', `${PERSON} ${script}`, deadline)
const rescued = () => (existsSync(join(it.home, 'rescued')) ? readdirSync(join(it.home, 'rescued')) : [])
type Note = { repositories: { path: string; bundle: string; refs: Record<string, string> }[] }
const note = (): Note => JSON.parse(readFileSync(join(it.home, 'rescued', rescued()[0] ?? '', 'rescued.json'), 'utf8'))
const lostRefs = () => Object.keys(note().repositories[0]?.refs ?? {}).filter(name => name.includes('/reflog-'))

describe('commits that only reflogs hold', () => {
  test.for<[string, string, count: number, tips: number]>(
    some(
      [
        ['that were reset', `${PUSHED} c two; c three; g reset -q --hard HEAD~2`, 2, 1],
        [
          'that were amended, each time',
          `${PUSHED} c a; g update-ref refs/remotes/origin/x HEAD; for n in 1 2 3; do g commit -q --allow-empty --amend -m $n; done; g update-ref refs/remotes/origin/y HEAD`,
          2,
          2,
        ],
        [
          'of a branch that was deleted',
          `${PUSHED} g checkout -q -b x; c two; g checkout -q main; g branch -q -D x`,
          1,
          1,
        ],
        ['of a detached head that was left', `${PUSHED} g checkout -q --detach; c two; g checkout -q main`, 1, 1],
        [
          'of a branch that was moved, in its own log',
          `${PUSHED} g branch x; g branch -f x $(g commit-tree -p HEAD -m two 'HEAD^{tree}'); g branch -f x main`,
          1,
          1,
        ],
        [
          'of a work tree whose folder is gone',
          `${PUSHED} g worktree add -q --detach ../t; g -C ../t commit -q --allow-empty -m two; rm -r ../t`,
          1,
          1,
        ],
        ['before an orphan branch', `${PUSHED} c two; g reset -q --hard HEAD~1; g checkout -q --orphan new`, 1, 1],
      ],
      2,
    ),
  )('%s', async ([, script, count, tips]) => {
    await inside(script)
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({
      result: 'done',
      rescued: expect.stringContaining(`${count} commit${count === 1 ? '' : 's'} in the reflog alone in `),
    })
    expect(lostRefs()).toHaveLength(tips)
  })

  test.for<[string, string]>([
    ['what a remote has', `${PUSHED} c two; g update-ref refs/remotes/origin/x HEAD; g reset -q --hard HEAD~1`],
    [
      'what a remote had once',
      `${PUSHED} g update-ref refs/remotes/origin/main $(g commit-tree -m theirs 'HEAD^{tree}'); g update-ref refs/remotes/origin/main HEAD`,
    ],
    ['a stash that was dropped', `${PUSHED} echo x > f; g add f; g stash -q; g stash drop -q`],
    [
      'a reflog without its commits',
      `${PUSHED} printf '%s %s n <e> 1 +0000\\tx\\n' $(printf '1%.0s' $(seq 40)) $(printf '2%.0s' $(seq 40)) >> .git/logs/HEAD`,
    ],
  ])('%s is none of them', async ([, script]) => {
    await inside(script)
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
    expect(rescued()).toEqual([])
  })

  test('an ancestor of a commit that a merged pull request holds is none of them', async () => {
    const ids = await inside(`${PUSHED} c two; c three; g rev-parse HEAD; g reset -q --hard HEAD~2`)
    const outcome = await it.do({ ...actions.delete('DROP-1'), mergedCommits: [ids ?? ''] } as ReturnType<
      typeof actions.delete
    >)
    expect(outcome).toMatchObject({ result: 'done' })
    expect(rescued()).toEqual([])
  })

  test.runIf(isLong)('more than 50,000 of them are not read: the machine is kept', async () => {
    // Git alone takes half a minute for that.
    await inside(
      `${PUSHED}
      { for n in $(seq 50001); do echo "commit refs/heads/many"; echo "committer n <e> $n +0000"; echo "data 0"; [ $n != 1 ] || echo "from refs/heads/main^0"; done; } | g fast-import --quiet
      g rev-list many | sed "s/.*/& & n <e> 1 +0000\\tx/" >> .git/logs/HEAD; g branch -q -D many`,
      600_000,
    )
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({
      failure: { kind: 'unsaved-work', message: expect.stringContaining('git could not read a repository') },
    })
  })
})

describe('work that comes while other work is being saved', () => {
  /** Works in the machine whenever the bundle was checked, at most `times` times. */
  const working = (script: (round: number) => string, times: number) => {
    let round = 0
    let work: Promise<unknown> = Promise.resolve()
    // The next script in the guest waits for the person.
    const { provider: open } = it.context
    it.context.provider = async name => {
      const opened = await open(name)
      return {
        ...opened,
        runInGuest: async (...values) => {
          await work
          return opened.runInGuest?.(...values) ?? Promise.reject(new Error('no guest'))
        },
      }
    }
    return (phase: string) => {
      if (phase !== 'checking the saved work' || round === times) return
      round += 1
      work = open('synthetic').then(opened => opened.runInGuest?.(it.vmIdOf('DROP-1'), `${PERSON} ${script(round)}`))
    }
  }
  const back = (script: string) => {
    const bundle = join(it.home, 'rescued', rescued()[0] ?? '', note().repositories[0]?.bundle ?? '')
    const commands = `git init -q b; cd b; git fetch -q '${bundle}' '+refs/*:refs/x/*'; ${script}`
    return execFileSync('sh', ['-ec', commands], { cwd: it.home, encoding: 'utf8' }).trim()
  }

  test.for(
    some(
      [
        ['a commit', 'cd shop; c new', 'git log -1 --format=%s refs/x/heads/main', 'new'],
        [
          'another change of the same file',
          'cd shop; echo 3 > f',
          'git show refs/x/agent-swarm/rescued/worktree:f',
          '3',
        ],
        [
          'an amended commit',
          'cd shop; g commit -q --allow-empty --amend -m amended',
          'git log -1 --format=%s refs/x/heads/main',
          'amended',
        ],
      ] as const,
      2,
    ),
  )('%s is saved too', async ([, script, question, answer]) => {
    await inside(`${PUSHED} c two; echo 2 > f`)
    const onPhase = working(() => script, 1)
    expect(await it.do(actions.delete('DROP-1'), { onPhase })).toMatchObject({ result: 'done' })
    expect(note().repositories).toMatchObject([{ bundle: '2-shop.bundle' }])
    expect(readdirSync(join(it.home, 'rescued', rescued()[0] ?? ''))).toEqual(['2-shop.bundle', 'rescued.json'])
    expect(back(question)).toBe(answer)
  })

  test('another repository is saved too, and told', async () => {
    await inside(`${PUSHED} echo 2 > f`)
    const onPhase = working(() => 'g init -q lib; echo x > lib/f; echo y > lib/g', 1)
    expect(await it.do(actions.delete('DROP-1'), { onPhase })).toMatchObject({
      rescued: expect.stringMatching(/2 untracked files in .*lib; 1 untracked file in .*shop\) is rescued/),
    })
    expect(note().repositories.map(({ bundle }) => bundle)).toEqual(['1-shop.bundle', '2-lib.bundle'])
  })

  test.skipIf(!isLong)('without an end keeps the machine', async () => {
    await inside(`${PUSHED} echo 0 > f`)
    const onPhase = working(round => `cd shop; echo ${round} > f`, 99)
    expect(await it.do(actions.delete('DROP-1'), { onPhase })).toMatchObject({
      failure: {
        kind: 'unsaved-work',
        message: expect.stringMatching(/work in .*shop still changed after it was saved 4 times/),
      },
      environment: { status: 'stopped' },
    })
    expect(rescued()).toEqual([])
    expect(it.machines()).toHaveLength(1)
  })
})

test('a delete that recovery finishes tells where the rescued work is, and so does another delete', async () => {
  await inside(`${PUSHED} echo x > f`)
  expect(await it.dieAt('delete', actions.delete('DROP-1'))).toBe(true)
  const finished: string[] = []
  await recoverAll(it.context, (_, summary) => finished.push(summary))
  const where = /unsaved work \(1 untracked file in .*\) is rescued in ~\/rescued\/DROP-1-\d{8}-\d{6}$/
  expect(finished).toEqual([expect.stringMatching(where)])
  expect(it.context.registry.manualOperations(9)).toMatchObject([
    { kind: 'delete', outcome: { result: 'done', rescued: expect.stringMatching(where) } },
  ])
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({
    result: 'skipped',
    reason: expect.stringMatching(where),
  })
})

test('the work of a machine that somebody else removed is saved from its disk', async () => {
  await inside(`${PUSHED} echo x > f`)
  it.forgetMachine('DROP-1')
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({
    result: 'done',
    rescued: expect.stringContaining('1 untracked file in '),
  })
  expect(it.machines()).toEqual([])
})
