/** Rescued work comes back: real git, and bundles that a hostile machine made. */
import { execFileSync } from 'node:child_process'
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readRescued } from '../../../src/runner/rescue/list.ts'
import { restoreIntoFolder } from '../../../src/runner/rescue/restore.ts'
import { restoreIntoMachine } from '../../../src/runner/rescue/restore-into.ts'
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
const inside = (script: string, ticket = 'DROP-1') => it.inside(ticket, `${PERSON} ${script}`)
const tools = () => ({
  ...{ home: it.home, run: it.context.run, signal: new AbortController().signal },
  onPhase: () => {},
})
const here = (folder: string, script: string): string =>
  execFileSync('sh', ['-c', `${PERSON} cd '${folder}'; ${script}`], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, HOME: it.home },
  }).trimEnd()
const names = () => readdirSync(join(it.home, 'rescued'))
const rescue = async (script: string): Promise<string> => {
  await inside(script)
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
  return names()[0] ?? ''
}
const back = () => join(it.home, 'back')
const restore = (name: string) => restoreIntoFolder(tools(), name, back())

const PUSHED =
  'g init -q shop; cd shop; echo 1 > a; echo 1 > b; g add .; g commit -qm one; g remote add origin https://example.org/shop; g update-ref refs/remotes/origin/main HEAD;'
const STATE =
  'git symbolic-ref -q HEAD || git rev-parse HEAD; git status --porcelain; git stash list --format=%gd:%s; git for-each-ref --format="%(refname) %(objectname)" refs/heads refs/tags; git log --format=%s 2>/dev/null || :; git diff; git diff --cached'

describe('into a folder', () => {
  test.for(
    some(
      [
        [
          'staged, unstaged, untracked, two stashes, a tag and a branch beside',
          `${PUSHED} g checkout -q -b feature; g commit -q --allow-empty -m two; g branch other HEAD~1; g tag -a -m v v1
       echo first > b; g stash -q; echo second > b; echo new > s; g stash -q -u -m 'my words'
       echo staged > b; g add b; echo unstaged > b; rm a; echo x > run.sh; chmod +x run.sh; printf 'a\\r\\n' > crlf`,
        ],
        ['all staged', `${PUSHED} echo 2 > a; g add a; echo new > n; g add n`],
        ['staged and changed back', `${PUSHED} echo 2 > a; g add a; echo 1 > a`],
        ['detached', `${PUSHED} g checkout -q --detach; g commit -q --allow-empty -m two`],
        ['before its first commit', 'g init -q shop; cd shop; echo x > f; g add f; echo y > g'],
        ['of SHA-256', 'g init -q --object-format=sha256 shop; cd shop; g commit -q --allow-empty -m one; echo x > f'],
        [
          'shallow, with attributes that convert',
          `g init -q o; for n in 1 2; do g -C o commit -q --allow-empty -m $n; done; g clone -q --depth 1 "file://$PWD/o" shop
       rm -rf o; cd shop; g branch -q -D none 2>/dev/null || :; printf '* text eol=crlf\\n' > .gitattributes; printf 'a\\n' > f`,
        ],
      ] as const,
      3,
    ),
  )('%s: as it was', async ([, script]) => {
    const before = await inside(`${script}; ${STATE}`)
    const name = await rescue(':')
    const [restored] = await restore(name)
    expect(restored).toMatchObject({ folder: join(back(), 'shop'), links: 0 })
    expect(here(join(back(), 'shop'), STATE)).toBe(before)
    expect(readdirSync(back())).toEqual(['shop'])
  })

  test('commits that only the reflog holds have names', async () => {
    const lost = await inside(`${PUSHED} g commit -q --allow-empty -m lost; g rev-parse HEAD; g reset -q --hard HEAD~1`)
    await restore(await rescue(':'))
    expect(here(join(back(), 'shop'), 'git rev-parse refs/agent-swarm/rescued/reflog-0')).toBe(lost)
  })

  test('nothing is overwritten, and a failure leaves nothing', async () => {
    const name = await rescue(`${PUSHED} echo 2 > a`)
    mkdirSync(join(back(), 'shop'), { recursive: true })
    writeFileSync(join(back(), 'shop', 'mine'), 'mine')
    await expect(restore(name)).rejects.toThrow(/it exists, and nothing is overwritten/)
    expect(readdirSync(join(back(), 'shop'))).toEqual(['mine'])
    const bundle = join(it.home, 'rescued', name, '1-shop.bundle')
    const bytes = readFileSync(bundle)
    bytes.write('damage', bytes.length - 60)
    writeFileSync(bundle, bytes)
    await expect(restoreIntoFolder(tools(), name, join(it.home, 'other'))).rejects.toThrow(/restoring .*shop: /)
    expect(readdirSync(join(it.home, 'other'))).toEqual([])
  })

  test('two repositories of one name stand side by side', async () => {
    const name = await rescue('for d in x y; do mkdir $d; g init -q $d/shop; echo $d > $d/shop/f; done')
    await restore(name)
    expect(readdirSync(back())).toEqual(['2-shop', 'shop'])
    expect(readFileSync(join(back(), '2-shop', 'f'), 'utf8')).toBe('y\n')
  })
})

describe('a hostile bundle', () => {
  test('a symbolic link becomes a file, and nothing is written through it', async () => {
    const name = await rescue(
      `${PUSHED} ln -s '${it.home}' out; g add out; g commit -qm link; ln -s /etc/passwd secrets`,
    )
    const [restored] = await restore(name)
    expect(restored).toMatchObject({ links: 2 })
    const file = (part: string) => join(back(), 'shop', part)
    for (const part of ['out', 'secrets']) expect(lstatSync(file(part)).isFile()).toBe(true)
    expect(readFileSync(file('secrets'), 'utf8')).toBe('/etc/passwd')
    expect(here(join(back(), 'shop'), 'git status --porcelain')).toBe('?? secrets')
  })

  const blob = '$(echo "#!/bin/sh" | g hash-object -w --stdin)'
  const evilTree = (entries: string) => `${PUSHED} B=${blob}; T=$(printf "${entries}" | g mktree --missing)
    g update-ref refs/heads/evil $(g commit-tree -p HEAD -m evil $T); g symbolic-ref HEAD refs/heads/evil; g read-tree HEAD 2>/dev/null || :`
  test.for(
    some(
      [
        ['.git', 'hasDotgit', evilTree('100755 blob $B\\t.git\\n')],
        ['.GIT on a Mac', 'hasDotgit', evilTree('100755 blob $B\\t.GI\\342\\200\\214T\\n')],
        ['git~1', 'hasDotgit', evilTree('100755 blob $B\\tgit~1\\n')],
        ['..', 'hasDotdot', evilTree('100755 blob $B\\t..\\n')],
        [
          'a submodule whose url is an option',
          'gitmodulesUrl',
          `${PUSHED} printf '[submodule "x"]\\n\\tpath = x\\n\\turl = -u./evil\\n' > .gitmodules; g add .gitmodules; g commit -qm evil`,
        ],
      ],
      2,
    ),
  )('with %s in a tree is refused: %s', async ([, reason, script]) => {
    await inside(`${script}; echo new > untracked`)
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
    await expect(restore(names()[0] ?? '')).rejects.toThrow(new RegExp(reason ?? ''))
    expect(readdirSync(back())).toEqual([])
  })

  test('hooks, filters, submodules and configuration of the machine do nothing', async () => {
    const ran = join(it.home, 'ran')
    const name = await rescue(`${PUSHED} printf '#!/bin/sh\\ntouch ${ran}\\n' > evil; chmod +x evil
      g config filter.f.smudge "touch ${ran}"; g config core.fsmonitor "touch ${ran}"; printf '* filter=f\\n' > .gitattributes
      mkdir hooks; cp evil hooks/post-checkout; g config core.hooksPath hooks; g add .; g commit -qm evil -n 2>/dev/null || :
      rm -f ${ran}; g init -q sub; g -C sub commit -q --allow-empty -m s; g -c advice.addEmbeddedRepo=false add sub; g commit -qnm sub; rm -f ${ran}; echo x > f`)
    if (existsSync(ran)) execFileSync('rm', [ran])
    await restore(name)
    here(join(back(), 'shop'), 'git status; git checkout -q HEAD')
    expect(existsSync(ran)).toBe(false)
    expect(readdirSync(join(back(), 'shop', '.git'))).not.toContain('hooks')
    expect(readFileSync(join(back(), 'shop', '.git', 'config'), 'utf8')).not.toContain('filter')
  })

  test('replaced objects stay out', async () => {
    const name = await rescue(
      `${PUSHED} g commit -q --allow-empty -m honest; H=$(g rev-parse HEAD); g replace -f $H $(g commit-tree -m faked 'HEAD^{tree}'); echo x > f`,
    )
    await restore(name)
    expect(here(join(back(), 'shop'), 'git log -1 --format=%s; git replace -l')).toBe('honest')
  })

  test.for([
    ['a bundle elsewhere', { bundle: '../../ssh/login/key.bundle' }],
    ['a path with control characters', { path: '/home/\u001b[2J' }],
    ['a path that is not absolute', { path: '--upload-pack=evil' }],
    ['a ref with a space', { refs: { 'refs/heads/a b': 'a'.repeat(40) } }],
  ] as const)('a note with %s is refused', async ([, change]) => {
    const name = await rescue(`${PUSHED} echo 2 > a`)
    const file = join(it.home, 'rescued', name, 'rescued.json')
    const note = JSON.parse(readFileSync(file, 'utf8'))
    Object.assign(note.repositories[0], change)
    writeFileSync(file, JSON.stringify(note))
    await expect(restore(name)).rejects.toThrow(/rescued\.json: /)
    expect(existsSync(back())).toBe(false)
  })

  test.for(['..', '.', '../ssh', 'DROP-1-20261124-100000/../..', 'DROP-1-20261124-100000', '', '-x', 'a\0b'])(
    'the name %j is refused',
    async name => expect(readRescued(it.home, name)).rejects.toThrow(/there is none of this name/),
  )
})

describe('into a machine', () => {
  const PROJECT = {
    ...{ repo: 'acme/shop', branch: 'DROP-2', summary: null, path: '~/shop', ports: [], save: [] },
    ...{ setup: null, start: null, problem: null, prepared: true },
  }
  /** A machine of DROP-2 with a clone of the project, which has `main` of the other one. */
  const secondMachine = async () => {
    await it.do(actions.create('DROP-2'))
    it.context.registry.setProject('DROP-2', PROJECT)
    await inside('g init -q shop; cd shop; g commit -q --allow-empty -m other; echo mine > a', 'DROP-2')
  }
  const restoreInto = async (name: string) => {
    const row = it.context.registry.environment('DROP-2')
    if (row === null) throw new Error('DROP-2 has no machine')
    return restoreIntoMachine(tools(), name, { provider: await it.provider(), row, projectPath: PROJECT.path })
  }

  test('its branches, stashes and changes are branches; the clone stays as it is; again changes nothing', async () => {
    await secondMachine()
    const name = await rescue(
      `${PUSHED} g checkout -q -b feature; g commit -q --allow-empty -m two; echo s > b; g stash -q; echo 2 > a; g tag v1; g notes add -m n`,
    )
    const before = await inside('cd shop; git status --porcelain; git rev-parse HEAD', 'DROP-2')
    const [restored] = await restoreInto(name)
    const prefix = `rescued/${name}`
    expect(restored?.branches.toSorted()).toEqual([
      ...['head', 'heads/feature', 'heads/main', 'notes/commits', 'stash-0', 'worktree'].map(
        part => `${prefix}/${part}`,
      ),
      `tags/${prefix}/v1`,
    ])
    expect(
      await inside(`cd shop; git show ${prefix}/worktree:a; git log -1 --format=%s ${prefix}/heads/feature`, 'DROP-2'),
    ).toBe('2\ntwo')
    expect(await inside('cd shop; git status --porcelain; git rev-parse HEAD', 'DROP-2')).toBe(before)
    expect(await restoreInto(name)).toMatchObject([{ branches: restored?.branches }])
    expect(names()).toEqual([name])
  })

  test('a branch of the same name with other work is not overwritten', async () => {
    await secondMachine()
    const name = await rescue(`${PUSHED} echo 2 > a`)
    await inside(`cd shop; git branch rescued/${name}/worktree`, 'DROP-2')
    await expect(restoreInto(name)).rejects.toThrow(/the machine has another .*worktree, and nothing is overwritten/)
    expect(names()).toEqual([name])
  })

  test('a shallow history is taken as far as it goes', async () => {
    await secondMachine()
    const name = await rescue(
      'g init -q o; for n in 1 2 3; do g -C o commit -q --allow-empty -m $n; done; g clone -q --depth 1 "file://$PWD/o" s; rm -rf o; cd s; echo x > f',
    )
    await restoreInto(name)
    expect(await inside(`cd shop; git show rescued/${name}/worktree:f`, 'DROP-2')).toBe('x')
  })
})
