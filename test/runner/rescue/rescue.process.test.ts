/** The scripts in a guest (a shell on this host), and deletes that save unsaved work with them. */
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { recoverAll } from '../../../src/runner/recovery.ts'
import { listRescued } from '../../../src/runner/rescue/list.ts'
import { bundleScript, unsavedWorkScript } from '../../../src/runner/rescue/scripts.ts'
import { describeUnsavedWork, parseUnsavedWork } from '../../../src/runner/rescue/unsaved-work.ts'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'
import { some } from '../../support/samples.ts'

const LOOKING = 'looking for unsaved work'
const SAVING = 'saving unsaved work'
const CHECKING = 'checking the saved work'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext({ guest: 'shell' })
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

const run = promisify(execFile)
const rescued = () => (existsSync(join(it.home, 'rescued')) ? readdirSync(join(it.home, 'rescued')) : [])
const disk = () => join(it.home, 'synthetic', it.vmIdOf('DROP-1'), 'disk')
/** `g` is git for a person in the machine: with a name, and no settings of this host. */
const PERSON = `
export GIT_CONFIG_NOSYSTEM=1
g() { git -c user.name=n -c user.email=e -c init.defaultBranch=main -c protocol.file.allow=always "$@"; }
`
const runInGuest = async (script: string, into?: { file: string; limit: number }) => {
  const ran = await (await it.provider()).runInGuest?.(it.vmIdOf('DROP-1'), script, into === undefined ? {} : { into })
  if (ran === undefined) throw new Error('the provider runs nothing in its guests')
  return ran
}
const inside = async (script: string): Promise<string> => {
  const ran = await runInGuest(`${PERSON} set -e; ${script}`)
  if (ran.exitCode !== 0) throw new Error(`in the guest: ${ran.exitCode} ${ran.stderr}`)
  return ran.stdout
}
/** `shop` with one commit that is on a remote. */
const PUSHED =
  'g init -q shop; cd shop; echo 1 > a; echo 1 > b; g add .; g commit -qm one; g remote add origin https://example.org/shop; g update-ref refs/remotes/origin/main HEAD;'

const LOSES_AN_OBJECT =
  'echo lost > l; g add l; g commit -qm l; lost=$(g rev-parse HEAD:l); g rm -q l; g commit -qm m; rm -f .git/objects/$(echo $lost | cut -c 1-2)/*;'

type Work = { path: string; uncommitted: number; untracked: number; stashes: number; unpushed: number }
type Note = { repositories: (Work & { bundle: string; refs: Record<string, string>; getBack: string[] })[] }
const noteIn = (folder: string): Note => JSON.parse(readFileSync(join(folder, 'rescued.json'), 'utf8'))
const newest = async () => {
  const [entry] = await listRescued(it.home)
  if (entry === undefined) throw new Error('nothing was rescued')
  return entry.folder
}
/** Runs the commands of the note in a folder of their own. The result runs a script in the repository that they made. */
const getBack = async (folder: string, index = 0) => {
  const cwd = mkdtempSync(join(it.home, 'back-'))
  const env = { PATH: process.env.PATH ?? '', HOME: it.home }
  writeFileSync(join(it.home, '.gitconfig'), '[user]\nname = n\nemail = e\n[init]\ndefaultBranch = main\n')
  const shell = async (script: string) => (await run('/bin/sh', ['-ec', `${PERSON} ${script}`], { cwd, env })).stdout
  await shell(noteIn(folder).repositories[index]?.getBack.join('\n') ?? 'false')
  return (script: string) => shell(`cd */; ${script}`)
}

describe('a delete saves unsaved work first', () => {
  test('the commands of the note bring back commits, stashes, staged and unstaged changes and untracked files', async () => {
    await inside(`${PUSHED}
      printf '*.log\\n' > .gitignore; g add .gitignore; g checkout -q -b feature; g commit -qm two
      echo first > b; g stash -q; echo second > b; echo new > s; g stash -q --include-untracked
      echo staged > b; g add b; echo unstaged > b; rm a; echo x > run.sh; chmod +x run.sh; ln -s nowhere link
      head -c 100000 /dev/zero | tr '\\0' '\\377' > 'bin ary'; printf 'a\\r\\n' > 'b
ad'; echo no > x.log; g tag v1 HEAD~1`)
    const phases: string[] = []
    const outcome = await it.do(actions.delete('DROP-1'), { onPhase: phase => phases.push(phase) })
    expect(outcome).toMatchObject({
      result: 'done',
      summary: expect.stringMatching(
        /^Deleted the machine of DROP-1, its disk and its checkpoints; unsaved work \(2 uncommitted changes, 4 untracked files, 2 stashes, 1 unpushed commit in \/.*\/shop\) is rescued in ~\/rescued\/DROP-1-\d{8}-\d{6}$/,
      ),
    })
    expect(phases).toEqual([LOOKING, SAVING, CHECKING, LOOKING, 'delete'])
    expect(it.machines()).toEqual([])
    const folder = await newest()
    expect(readdirSync(folder)).toEqual(['1-shop.bundle', 'rescued.json'])
    expect(statSync(folder).mode & 0o777).toBe(0o700)
    for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600)
    const back = await getBack(folder)
    expect(await back('git status --porcelain=v1 -z')).toBe(' D a\0MM b\0?? b\nad\0?? bin ary\0?? link\0?? run.sh\0')
    expect(
      await back('cat b; git show :b; git log --format=%s; readlink link; ls -l run.sh; wc -c < "bin ary"; od -c b?ad'),
    ).toMatch(/^unstaged\nstaged\ntwo\none\nnowhere\n-rwx.*\n\s*100000\n.*a +\\r +\\n/)
    expect(
      await back('git show stash@{0}:b; git show "stash@{0}^3:s"; git show stash@{1}:b; git rev-parse v1'),
    ).toMatch(/^second\nnew\nfirst\n[0-9a-f]{40}\n$/)
    expect(await back('ls')).not.toContain('x.log')
  })

  test('the state of a repository does not matter', async () => {
    const states: Record<string, [script: string, work: string, question: string, answer: string]> = {
      untracked: ['g init -q w; cd w; echo x > f', '1 untracked file', 'cat f', 'x'],
      staged: [`${PUSHED} echo x > f; g add f`, '1 uncommitted change', 'cat f', 'x'],
      'staged and changed back': [
        `${PUSHED} echo 2 > a; g add a; echo 1 > a`,
        '1 uncommitted change',
        'g show :a',
        '2',
      ],
      'out of the index': [`${PUSHED} g rm -q --cached a; echo 2 > a`, '1 uncommitted change', 'cat a', '2'],
      'changed at once to the same size': [`${PUSHED} echo 2 > a`, '1 uncommitted change', 'cat a', '2'],
      'a folder that became a link': [
        `${PUSHED} mkdir d; echo 1 > d/f; g add d; g commit -qm d; rm -r d; ln -s a d`,
        '1 uncommitted change, 1 untracked file, 1 unpushed commit',
        'readlink d',
        'a',
      ],
      'on a detached head': [
        `${PUSHED} g checkout -q --detach; g commit -q --allow-empty -m two`,
        '1 unpushed commit',
        'git log -1 --format=%s',
        'two',
      ],
      stashed: [`${PUSHED} echo 2 > a; g stash -q`, '1 stash', 'g show stash:a', '2'],
      merging: [
        `${PUSHED} g checkout -q -b x; echo 2 > a; g commit -qam x; g checkout -q main; echo 3 > a; g commit -qam y; g merge -q x >/dev/null || true`,
        '1 uncommitted change, 2 unpushed commits',
        'head -1 a',
        '<<<<<<< HEAD',
      ],
      shallow: [
        `g init -q o; for n in 1 2 3; do g -C o commit -q --allow-empty -m $n; done; g clone -q --depth 1 "file://$PWD/o" s; rm -rf o; cd s; g remote set-url origin https://example.org/o; echo x > f`,
        '1 untracked file',
        'cat f; git log --format=%s',
        'x\n3',
      ],
      'of SHA-256': [
        'g init -q --object-format=sha256 w; cd w; g commit -q --allow-empty -m one; echo x > f',
        '1 untracked file, 1 unpushed commit',
        'cat f',
        'x',
      ],
      'an index in two parts': [
        `${PUSHED} g update-index --split-index; echo 2 > a; g add a; echo 3 > a`,
        '1 uncommitted change',
        'cat a; g show :a',
        '3\n2',
      ],
    }
    const all = some(Object.entries(states).sort(), 2)
    await inside(all.map(([name, [script]]) => `(mkdir '${name}'; cd '${name}'; ${script})`).join('\n'))
    const outcome = await it.do(actions.delete('DROP-1'))
    expect(outcome).toMatchObject({
      result: 'done',
      summary: expect.stringContaining(`; work in ${all.length - 5} more repositor`),
    })
    const folder = await newest()
    const { repositories } = noteIn(folder)
    for (const [index, [name, [, work, question, answer]]] of all.entries()) {
      const repository = repositories[index]
      expect(repository?.path, name).toContain(`/${name}/`)
      expect(describeUnsavedWork({ known: true, repositories: repositories.slice(index, index + 1) }), name).toContain(
        `${work} in `,
      )
      expect((await (await getBack(folder, index))(question)).trim(), name).toBe(answer)
    }
  })

  test('a submodule, another work tree and an inner repository have bundles of their own', async () => {
    await inside(`g init -q lib; echo 1 > lib/l; g -C lib add .; g -C lib commit -qm lib; g -C lib update-ref refs/remotes/o/m HEAD
      ${PUSHED} g submodule --quiet add "$PWD/../lib" sub; g commit -qm sub; echo dirty > sub/l
      g worktree add -q ../tree; echo 2 > ../tree/a
      mkdir -p deep/e/e/e/e/e/e/inner; cd deep/e/e/e/e/e/e/inner; g init -q; echo in > f`)
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
    const folder = await newest()
    expect(noteIn(folder).repositories.map(({ path, bundle }) => [path.replace(/.*\/disk/, ''), bundle])).toEqual([
      ['/shop', '1-shop.bundle'],
      ['/shop/deep/e/e/e/e/e/e/inner', '2-inner.bundle'],
      ['/shop/sub', '3-sub.bundle'],
      ['/tree', '4-tree.bundle'],
    ])
    expect(await (await getBack(folder, 1))('cat f')).toBe('in\n')
    expect(await (await getBack(folder, 2))('cat l')).toBe('dirty\n')
    expect(await (await getBack(folder, 3))('cat a')).toBe('2\n')
  })

  test('a machine that was stopped with unsaved work is started to save it', async () => {
    await inside(`${PUSHED} echo x > f`)
    await it.do(actions.stop('DROP-1'))
    expect(rescued()).toEqual([])
    const phases: string[] = []
    expect(await it.do(actions.delete('DROP-1'), { onPhase: phase => phases.push(phase) })).toMatchObject({
      result: 'done',
    })
    expect(phases[0]).toBe('starting it to look for unsaved work')
    expect(await (await getBack(await newest()))('cat f')).toBe('x\n')
  })

  test('with --force, nothing is saved', async () => {
    await inside(`${PUSHED} echo x > f`)
    expect(await it.do(actions.delete('DROP-1', true))).toMatchObject({
      result: 'done',
      summary: expect.not.stringContaining('kept'),
    })
    expect(rescued()).toEqual([])
  })
})

describe('work that cannot be saved keeps the machine, stopped, and leaves nothing half-made', () => {
  test.for([
    ['a repository that lacks an object', `${PUSHED} ${LOSES_AN_OBJECT}`],
    ['a branch that points to a missing commit', `${PUSHED} echo x > f; echo ${'1'.repeat(40)} > .git/refs/heads/lost`],
  ])('%s', async ([, script = '']) => {
    await inside(script)
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({
      result: 'failed',
      failure: {
        kind: 'unsaved-work',
        message: expect.stringMatching(/^DROP-1 is kept and stopped: .*(could not be saved|could not check)/),
        remedy: expect.stringContaining('--force'),
      },
      environment: { status: 'stopped' },
    })
    expect(it.machines()).toHaveLength(1)
    expect(rescued()).toEqual([])
  })

  test("a rescue changes nothing in the guest's repository: index, refs, objects and files", async () => {
    await inside(`${PUSHED} ${LOSES_AN_OBJECT} echo 2 > a; g add a; echo 3 > a; echo x > f`)
    // Times of objects do not count: git renews the time of an object that it would write again.
    const fingerprint = () =>
      inside(
        'cd shop; find . -type f -print0 | sort -z | xargs -0 sha256sum; find . -not -path "*/objects/*" -printf "%p %T@\\n" | sort',
      )
    const before = await fingerprint()
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'failed' })
    await it.do(actions.start('DROP-1'))
    expect(await fingerprint()).toBe(before)
  })
})

describe('the scripts in a guest', () => {
  test('run no hook, monitor, filter or signer that a repository configures', async () => {
    await inside(`${PUSHED} printf 'a filter=f diff=d\\n' > .gitattributes; g add .gitattributes; g commit -qm attributes
      for hook in reference-transaction post-index-change pre-auto-gc fsmonitor-watchman; do printf '#!/bin/sh\\ntouch ../ran-hook\\n' > .git/hooks/$hook; chmod +x .git/hooks/$hook; done
      echo 2 > a; g stash -q 2>/dev/null; rm -f ../ran-hook; echo 22 > a; echo x > f
      printf '#!/bin/sh\\ntouch ${disk()}/ran-$1\\n' > ../evil; chmod +x ../evil
      for key in core.fsmonitor filter.f.clean filter.f.process diff.external diff.d.textconv gpg.program core.pager core.sshCommand; do g config $key "${disk()}/evil $key"; done
      g config log.showSignature true; g config filter.f.required true`)
    const bundled = await runInGuest(bundleScript(1, null, new Date()), { file: join(it.home, 'out'), limit: 1e6 })
    expect(bundled.stderr).toMatch(/end$/)
    expect(readdirSync(disk()).filter(name => name.startsWith('ran'))).toEqual([])
    expect((await runInGuest(unsavedWorkScript())).stdout).toMatch(/end$/)
    // To find out whether a file differs, git runs its clean filter, as the owner of the repository.
    expect(readdirSync(disk()).filter(name => /^ran-(?!filter)/.test(name))).toEqual([])
  })

  test('more than 200 repositories are not searched', async () => {
    await inside('for n in $(seq 201); do mkdir -p r$n/.git; done')
    expect(parseUnsavedWork((await runInGuest(unsavedWorkScript())).stdout)).toEqual({
      known: false,
      reason: 'the machine has more than 200 git repositories',
    })
  })

  test('a repository that disappeared since the search is reported', async () => {
    const { stderr } = await runInGuest(bundleScript(3, null, new Date()), { file: join(it.home, 'out'), limit: 1e6 })
    expect(stderr).toBe('failed\tthe repository no longer exists')
  })

  const hasShellcheck = () => {
    try {
      execFileSync('shellcheck', ['--version'])
      return true
    } catch {
      return false
    }
  }
  test.skipIf(!hasShellcheck())('shellcheck finds nothing in the scripts', () => {
    const folder = join(import.meta.dirname, '../../../src/runner/rescue')
    const scripts = readdirSync(folder).filter(name => name.endsWith('.sh'))
    expect(scripts).toHaveLength(3)
    expect(execFileSync('shellcheck', scripts, { cwd: folder, encoding: 'utf8' })).toBe('')
  })
})

describe('the death of the process during a delete', () => {
  beforeEach(() => inside(`${PUSHED} echo x > f`))

  test.for([
    [LOOKING, 'dieAt'],
    [SAVING, 'dieAt'],
    [CHECKING, 'killAt'],
  ] as const)('at "%s": the machine is kept, and recovery removes the unfinished folder (%s)', async ([phase, how]) => {
    expect(await it[how](phase, actions.delete('DROP-1'))).toBe(true)
    expect(rescued()).toHaveLength(how === 'killAt' ? 1 : 0)
    expect(it.machines()).toHaveLength(1)
    await recoverAll(it.context)
    expect(it.machines()).toHaveLength(1)
    expect(rescued()).toEqual([])
    expect(it.context.registry.environments()).toMatchObject([{ ticket: 'DROP-1', status: 'running' }])
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
  })

  test('at "delete", by the CLI: recovery saves what came since as well, and finishes the delete', async () => {
    expect(await it.killAt('delete', actions.delete('DROP-1'))).toBe(true)
    const first = await newest()
    await inside('cd shop; echo later > g')
    await recoverAll(it.context)
    expect(it.machines()).toEqual([])
    expect(await (await getBack(first))('cat f')).toBe('x\n')
    expect(await newest()).not.toBe(first)
    expect(await (await getBack(await newest()))('cat f g')).toBe('x\nlater\n')
  })

  test('at "delete", by the queue: the same action looks again, and names every place of the work', async () => {
    expect(await it.dieAt('delete', actions.delete('DROP-1'), 'github:1:0')).toBe(true)
    const outcome = await it.do(actions.delete('DROP-1'), { actionId: 'github:1:0' })
    expect(outcome).toMatchObject({ result: 'done' })
    const folders = rescued()
    expect(folders).toHaveLength(2)
    for (const folder of folders) expect(JSON.stringify(outcome)).toContain(`~/rescued/${folder}`)
    expect(it.machines()).toEqual([])
  })

  test('recovery does not remove the unfinished folder of a delete that runs', async () => {
    let during: string[] = []
    await it.do(actions.delete('DROP-1'), {
      onPhase: phase => {
        if (phase !== CHECKING) return
        void recoverAll(it.context)
        during = rescued()
      },
    })
    expect(during).toEqual([expect.stringMatching(/^\.new-DROP-1-[0-9a-f]{8}$/)])
    expect(rescued()).toEqual([expect.stringMatching(/^DROP-1-/)])
  })
})
