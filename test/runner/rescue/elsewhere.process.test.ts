/** Work that is neither in a plain change nor on a branch: git keeps it elsewhere. Real git, synthetic machines. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { restoreIntoFolder } from '../../../src/runner/rescue/restore.ts'
import { unsavedWorkScript } from '../../../src/runner/rescue/scripts.ts'
import { describeUnsavedWork, parseUnsavedWork } from '../../../src/runner/rescue/unsaved-work.ts'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'
import { some } from '../../support/samples.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext({ guest: 'shell' })
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

const PERSON = `export GIT_CONFIG_NOSYSTEM=1
g() { git -c user.name=n -c user.email=e -c init.defaultBranch=main -c protocol.file.allow=always "$@"; }
set -e;`
/** Two commits that a remote has. */
const PUSHED = `g init -q shop; cd shop; echo 1 > a; echo 1 > b; g add .; g commit -qm zero; g commit -q --allow-empty -m one
  g remote add origin https://example.org/shop; g update-ref refs/remotes/origin/main HEAD;`
const REBASE = `GIT_SEQUENCE_EDITOR='sed -i s/^pick/edit/' g rebase -q -i --autostash HEAD~1 >/dev/null 2>&1;`
const MERGE = `g branch x; g commit -q --allow-empty -m here; g checkout -q x; echo x > b; g commit -qam there; g checkout -q main
  g update-ref refs/remotes/origin/main HEAD; g update-ref refs/remotes/origin/x x; echo 2 > a
  g merge -q --autostash --no-commit x >/dev/null 2>&1;`
const SUBMODULE = `g init -q lib; echo 1 > lib/l; g -C lib add .; g -C lib commit -qm lib; ${PUSHED}
  g submodule --quiet add "$PWD/../lib" sub; rm -rf ../lib; g -C sub remote set-url origin https://example.org/lib
  g commit -qm sub; g update-ref refs/remotes/origin/main HEAD;`

const inside = async (script: string): Promise<string> => {
  const ran = await (await it.provider()).runInGuest?.(it.vmIdOf('DROP-1'), `${PERSON} ${script}`)
  if (ran?.exitCode !== 0) throw new Error(`in the guest: ${ran?.exitCode} ${ran?.stderr}`)
  return ran.stdout
}
const search = async () => parseUnsavedWork((await it.inside('DROP-1', unsavedWorkScript())) ?? '')
/** Each script in a folder of its own. */
const insideAll = (rows: readonly (readonly [name: string, script: string, ...unknown[]])[]) =>
  inside(rows.map(([name, script]) => `(mkdir '${name}'; cd '${name}'; ${script})`).join('\n'))

/** Work that is found, and what the repository that comes back answers. */
const FOUND: [name: string, script: string, work: string, question: string, answer: string][] = [
  ['autostash of a rebase', `${PUSHED} echo 2 > a; ${REBASE}`, '1 stash in', 'git show stash:a', '2'],
  [
    'autostash beside stashes',
    `${PUSHED} echo s > a; g stash -q; echo 2 > a; ${REBASE}`,
    '2 stashes in',
    'git show stash@{0}:a; git show stash@{1}:a',
    's\n2',
  ],
  ['autostash of a merge', `${PUSHED} ${MERGE}`, '1 stash', 'git show stash:a; git diff --cached --name-only', '2\nb'],
  [
    'autostash in a work tree',
    `${PUSHED} g worktree add -q -b w ../tree; cd ../tree; echo 2 > a; ${REBASE}`,
    '1 stash in',
    'git show stash:a',
    '2',
  ],
  [
    'autostash of a work tree that is gone',
    `${PUSHED} g worktree add -q -b w ../tree; cd ../tree; echo 2 > a; ${REBASE} rm -r ../tree`,
    '1 stash in',
    'git show stash:a',
    '2',
  ],
  [
    'skip-worktree',
    `${PUSHED} g update-index --skip-worktree a; echo 2 > a`,
    '1 uncommitted change in',
    'git diff --name-only; cat a',
    'a\n2',
  ],
  [
    'assume-unchanged',
    `${PUSHED} g update-index --assume-unchanged a; echo 2 > a`,
    '1 uncommitted change',
    'cat a',
    '2',
  ],
  [
    'both marks, a link, and a name with a line break',
    `${PUSHED} printf 1 > 'n
w'; ln -s a l; g add .; g commit -qm n; g update-ref refs/remotes/origin/main HEAD
     g update-index --skip-worktree 'n
w' l b; g update-index --assume-unchanged 'n
w'; printf 2 > 'n
w'; ln -sfn b l`,
    '2 uncommitted changes in',
    'cat n?w; readlink l || cat l; git diff --name-only | wc -l',
    '2b2',
  ],
  [
    'skip-worktree in an index in two parts',
    `${PUSHED} g update-index --split-index; g update-index --skip-worktree a; echo 2 > a`,
    '1 uncommitted change in',
    'cat a',
    '2',
  ],
  [
    'a file of a sparse checkout that is there all the same',
    `${PUSHED} mkdir d e; echo 1 > d/f; echo 1 > e/f; g add .; g commit -qm d; g update-ref refs/remotes/origin/main HEAD
     g sparse-checkout set e 2>/dev/null; mkdir d; echo 2 > d/f; rm b`,
    '2 uncommitted changes in',
    'git diff --name-only; cat d/f',
    'b\nd/f\n2',
  ],
  ['notes', `${PUSHED} g notes add -m words`, '1 unpushed commit in', 'git notes show HEAD', 'words'],
  [
    'refs of another tool',
    `${PUSHED} g update-ref refs/jj/keep/x $(g commit-tree -p HEAD -m kept 'HEAD^{tree}')`,
    '1 unpushed commit in',
    'git log -1 --format=%s refs/jj/keep/x',
    'kept',
  ],
  [
    'commits on a remote inside the machine',
    `${PUSHED} g init -q --bare /var/tmp/as-$$; g remote add backup /var/tmp/as-$$; g checkout -q -b work; g commit -q --allow-empty -m two
     g push -q backup work; rm -rf /var/tmp/as-$$`,
    '1 unpushed commit in',
    'git log -1 --format=%s work',
    'two',
  ],
  [
    'commits that only a bare repository has',
    `${PUSHED} g init -q --bare ../backup.git; g checkout -q -b work; g commit -q --allow-empty -m two
     g push -q "file://$PWD/../backup.git" work; g checkout -q main; g branch -q -D work; rm -r .git/logs`,
    '1 unpushed commit in',
    'git log -1 --format=%s work',
    'two',
  ],
  [
    'commits of a submodule without its files',
    `${SUBMODULE} g -C sub commit -q --allow-empty -m two; g submodule --quiet deinit -f sub 2>/dev/null`,
    '1 unpushed commit in',
    'git log -1 --format=%s',
    'two',
  ],
  [
    'commits of a submodule whose folder is gone',
    `${SUBMODULE} g -C sub commit -q --allow-empty -m two; rm -r sub; mkdir sub; g update-index -q --refresh`,
    '1 unpushed commit in',
    'git log -1 --format=%s',
    'two',
  ],
]

test('work that git keeps elsewhere is found, saved and restored', async () => {
  const rows = some(FOUND, 3)
  await insideAll(rows)
  const found = await search()
  for (const [name, , work] of rows) {
    const repositories = found.known ? found.repositories.filter(({ path }) => path.includes(`/disk/${name}/`)) : []
    expect(describeUnsavedWork({ known: true, repositories }), name).toContain(work)
    expect(repositories, name).toHaveLength(1)
  }
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
  const [rescued = ''] = readdirSync(join(it.home, 'rescued'))
  const into = join(it.home, 'back')
  mkdirSync(into)
  const tools = { home: it.home, run: it.context.run, signal: new AbortController().signal, onPhase: () => {} }
  const restored = await restoreIntoFolder(tools, rescued, into)
  for (const [name, , , question, answer] of rows) {
    const folder = restored.find(({ path }) => path.includes(`/disk/${name}/`))?.folder
    const env = { PATH: process.env.PATH, HOME: it.home }
    expect(execFileSync('sh', ['-ec', question], { cwd: folder, env, encoding: 'utf8' }).trim(), name).toBe(answer)
  }
})

test('the commands of a note bring other refs back too', async () => {
  await inside(`${PUSHED} g notes add -m words`)
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
  const [rescued = ''] = readdirSync(join(it.home, 'rescued'))
  const note = JSON.parse(readFileSync(join(it.home, 'rescued', rescued, 'rescued.json'), 'utf8'))
  const commands = [...note.repositories[0].getBack, 'git -C shop show refs/rescued/notes/commits']
  const env = { PATH: process.env.PATH, HOME: it.home }
  expect(execFileSync('sh', ['-ec', commands.join('\n')], { cwd: it.home, env, encoding: 'utf8' })).toMatch(
    /\+words\n$/,
  )
})

test('what is outside the machine all the same is not unsaved', async () => {
  await insideAll(
    some(
      [
        [
          'a marked file without changes',
          `${PUSHED} g update-index --skip-worktree a; g update-index --assume-unchanged b`,
        ],
        [
          'a sparse checkout',
          `${PUSHED} mkdir d e; echo 1 > d/f; echo 1 > e/f; g add .; g commit -qm d; g update-ref refs/remotes/origin/main HEAD
           g sparse-checkout set e 2>/dev/null; [ ! -e d ]`,
        ],
        [
          'a sparse index',
          `${PUSHED} mkdir d e; echo 1 > d/f; echo 1 > e/f; g add .; g commit -qm d
           g update-ref refs/remotes/origin/main HEAD; g sparse-checkout set --cone --sparse-index e 2>/dev/null; [ ! -e d ]`,
        ],
        [
          'what a fetch ahead of time got',
          `${PUSHED} g update-ref refs/prefetch/x $(g commit-tree -m x 'HEAD^{tree}')`,
        ],
        ['a replacement', `${PUSHED} g replace -f HEAD $(g commit-tree -m faked 'HEAD^{tree}')`],
        ['a clone of another repository of the machine', `${PUSHED} cd ..; g clone -q shop other`],
        ['a bare clone of it', `${PUSHED} cd ..; g clone -q --bare shop other.git`],
        [
          'a remote that another one replaces',
          `${PUSHED} g remote set-url origin gh:shop; g config url.https://example.org/.insteadOf gh:`,
        ],
        ['a remote over SSH', `${PUSHED} g remote set-url origin git@example.org:acme/shop`],
        [
          'a push through the link',
          `${PUSHED} g remote set-url origin http://127.0.0.1:4000/x/shop; g config remote.origin.pushUrl agent-swarm::http://127.0.0.1:4000/x/shop`,
        ],
        ['remote branches without a remote', `${PUSHED} g config --remove-section remote.origin`],
        [
          "a tool's bare repository",
          'mkdir .cargo; cd .cargo; g init -q w; g -C w commit -q --allow-empty -m w; g clone -q --bare w db; rm -rf w',
        ],
        [
          'a bare copy of a remote outside',
          'g init -q w; g -C w commit -q --allow-empty -m w; g clone -q --bare w copy; rm -rf w; g -C copy remote set-url origin https://example.org/w',
        ],
        ['a submodule', SUBMODULE],
        ['a submodule without its files', `${SUBMODULE} g submodule --quiet deinit -f sub 2>/dev/null`],
      ] as const,
      3,
    ),
  )
  expect(await search()).toEqual({ known: true, repositories: [] })
})

test('the search changes nothing in a repository with marked files, and leaves nothing', async () => {
  await inside(`${PUSHED} g update-index --split-index; g update-index --skip-worktree a; echo 2 > a`)
  const fingerprint = () => inside('find shop -type f -print0 | sort -z | xargs -0 sha256sum; ls shop/.git')
  const before = await fingerprint()
  await inside('mkdir tmp')
  expect(await it.inside('DROP-1', `export TMPDIR=$PWD/tmp\n${unsavedWorkScript()}`)).toMatch(
    /^1\t0\t0\t0\t0\t.*shop\nend$/,
  )
  await inside('rmdir tmp')
  expect(await fingerprint()).toBe(before)
})

describe('content that git has only a pointer to', () => {
  const OID = 'c'.repeat(64)
  const LFS = `mkdir -p .git/lfs/objects/cc/cc; echo large > .git/lfs/objects/cc/cc/${OID}
    printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:${OID}\\nsize 6\\n' > big;`
  const ANNEX = `mkdir -p .git/annex/objects/x; echo large > .git/annex/objects/x/KEY; ln -s .git/annex/objects/x/KEY big;`
  const UPLOADED = 'g update-ref refs/remotes/origin/main HEAD;'

  test.for<[string, string]>(
    some(
      [
        ['of Git LFS in a commit', `${PUSHED} ${LFS} g add big; g commit -qm big`],
        ['of Git LFS in a stash', `${PUSHED} ${LFS} g add big; g stash -q`],
        ['of Git LFS that is staged', `${PUSHED} ${LFS} g add big`],
        ['of Git LFS in a reflog', `${PUSHED} ${LFS} g add big; g commit -qm big; g reset -q --hard HEAD~1`],
        [
          'of Git LFS in another folder',
          `${PUSHED} ${LFS} mv .git/lfs .git/other; g config lfs.storage other; g add big; g commit -qm big`,
        ],
        ['of git-annex', `${PUSHED} ${ANNEX} g add big; g commit -qm big`],
      ],
      3,
    ),
  )('%s keeps the machine', async ([, script]) => {
    await inside(script)
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({
      result: 'failed',
      failure: { kind: 'unsaved-work', message: expect.stringContaining('content of Git LFS or git-annex') },
      environment: { status: 'stopped' },
    })
    expect(existsSync(join(it.home, 'rescued')) ? readdirSync(join(it.home, 'rescued')) : []).toEqual([])
  })

  test.for<[string, string]>(
    some(
      [
        ['that is pushed', `${PUSHED} ${LFS} g add big; g commit -qm big; ${UPLOADED} echo 2 > a`],
        ['that was never here', `${PUSHED} ${LFS} rm -r .git/lfs/objects/cc; g add big; g commit -qm big`],
        ['that is pushed to an annex', `${PUSHED} ${ANNEX} g add big; g commit -qm big; ${UPLOADED} echo 2 > a`],
      ],
      2,
    ),
  )('%s does not', async ([, script]) => {
    await inside(script)
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done', rescued: expect.any(String) })
  })
})
