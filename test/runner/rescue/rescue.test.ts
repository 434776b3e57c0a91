import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openRun } from '../../../src/exec.ts'
import { recoverAll } from '../../../src/runner/recovery.ts'
import { listRescued, parseSaid, rescue, rescueScript } from '../../../src/runner/rescue/rescue.ts'
import { describeUnsavedWork, parseUnsavedWork, unsavedWorkScript } from '../../../src/runner/rescue/unsaved-work.ts'
import type { Action } from '../../../src/schema/action.ts'
import { actions, openTestWorld } from '../../support/context.ts'

let it: Awaited<ReturnType<typeof openTestWorld>>
beforeEach(async () => {
  it = await openTestWorld()
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

const run = promisify(execFile)
const names = (folder: string) => (existsSync(folder) ? readdirSync(folder) : [])
const machines = () => names(join(it.home, 'synthetic'))
const rescued = () => names(join(it.home, 'rescued'))
const vmId = () => it.world.registry.environment('DROP-1')?.vmId ?? ''
const disk = (...rest: string[]) => join(it.home, 'synthetic', vmId(), 'disk', ...rest)
/** A git that a person in the machine has: a name, and stable settings. */
const PERSON = `
export GIT_CONFIG_NOSYSTEM=1
g() { git -c user.name=n -c user.email=e -c init.defaultBranch=main -c protocol.file.allow=always "$@"; }
`
const inside = async (script: string): Promise<string> => {
  const provider = await it.world.provider('synthetic')
  const ran = await provider.runInGuest?.(vmId(), `${PERSON} set -e; ${script}`)
  if (ran?.exitCode !== 0) throw new Error(`in the guest: ${ran?.exitCode} ${ran?.stderr}`)
  return ran.stdout
}
/** `shop` with one commit that is on a remote. */
const PUSHED =
  'g init -q shop; cd shop; echo 1 > a; echo 1 > b; g add .; g commit -qm one; g remote add origin .; g update-ref refs/remotes/origin/main HEAD;'

const LOSES_AN_OBJECT =
  'echo lost > l; g add l; g commit -qm l; lost=$(g rev-parse HEAD:l); g rm -q l; g commit -qm m; rm -f .git/objects/$(echo $lost | cut -c 1-2)/*;'

type Risk = { path: string; uncommitted: number; untracked: number; stashes: number; unpushed: number }
type Note = { repositories: (Risk & { bundle: string; refs: Record<string, string>; getBack: string[] })[] }
const noteOf = (folder: string): Note => JSON.parse(readFileSync(join(folder, 'rescued.json'), 'utf8'))
const newest = async () => {
  const [one] = await listRescued(it.home)
  if (one === undefined) throw new Error('nothing was rescued')
  return one.folder
}
/** Does what the note says, in a folder of its own; answers questions to the result. */
const getBack = async (folder: string, n = 0) => {
  const place = join(it.home, `back-${n}`)
  mkdirSync(place)
  const env = { PATH: process.env.PATH ?? '', HOME: it.home }
  writeFileSync(join(it.home, '.gitconfig'), '[user]\nname = n\nemail = e\n[init]\ndefaultBranch = main\n')
  const shell = async (script: string) =>
    (await run('/bin/sh', ['-ec', `${PERSON} ${script}`], { cwd: place, env })).stdout
  await shell(noteOf(folder).repositories[n]?.getBack.join('\n') ?? 'false')
  return (script: string) => shell(`cd */; ${script}`)
}

describe('a delete saves first', () => {
  test('all that git knows and what it does not: it is proven, and the commands of the note bring it back', async () => {
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
      said: expect.stringMatching(
        /^DROP-1 is deleted: its machine, its disk and its checkpoints are gone; its unsaved work \(2 uncommitted changes, 4 untracked files, 2 stashes, 1 unpushed commit in \/.*\/shop\) is kept in ~\/rescued\/DROP-1-\d{8}-\d{6}$/,
      ),
    })
    expect(phases).toEqual(['looking for work at risk', 'saving work', 'proving it', 'delete'])
    expect(machines()).toEqual([])
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

  test('whatever state a repository is in', async () => {
    const states: Record<string, [script: string, said: string, back: string, reads: string]> = {
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
        `g init -q o; for n in 1 2 3; do g -C o commit -q --allow-empty -m $n; done; g clone -q --depth 1 "file://$PWD/o" s; rm -rf o; cd s; echo x > f`,
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
    const all = Object.entries(states).sort()
    await inside(all.map(([name, [script]]) => `(mkdir '${name}'; cd '${name}'; ${script})`).join('\n'))
    const outcome = await it.do(actions.delete('DROP-1'))
    expect(outcome).toMatchObject({
      result: 'done',
      said: expect.stringContaining(`; work in ${all.length - 5} other`),
    })
    const folder = await newest()
    const note = noteOf(folder)
    for (const [n, [name, [, said, back, reads]]] of all.entries()) {
      const one = note.repositories[n]
      expect(one?.path, name).toContain(`/${name}/`)
      expect(describeUnsavedWork({ known: true, repositories: one === undefined ? [] : [one] }), name).toContain(
        `${said} in `,
      )
      expect((await (await getBack(folder, n))(back)).trim(), name).toBe(reads)
    }
  }, 180_000)

  test('a submodule, another work tree and a repository inside another one have bundles of their own', async () => {
    await inside(`g init -q lib; echo 1 > lib/l; g -C lib add .; g -C lib commit -qm lib; g -C lib update-ref refs/remotes/o/m HEAD
      ${PUSHED} g submodule --quiet add "$PWD/../lib" sub; g commit -qm sub; echo dirty > sub/l
      g worktree add -q ../tree; echo 2 > ../tree/a
      mkdir -p deep/e/e/e/e/e/e/inner; cd deep/e/e/e/e/e/e/inner; g init -q; echo in > f`)
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
    const folder = await newest()
    expect(noteOf(folder).repositories.map(one => [one.path.replace(/.*\/disk/, ''), one.bundle])).toEqual([
      ['/shop', '1-shop.bundle'],
      ['/shop/deep/e/e/e/e/e/e/inner', '2-inner.bundle'],
      ['/shop/sub', '3-sub.bundle'],
      ['/tree', '4-tree.bundle'],
    ])
    expect(await (await getBack(folder, 1))('cat f')).toBe('in\n')
    expect(await (await getBack(folder, 2))('cat l')).toBe('dirty\n')
    expect(await (await getBack(folder, 3))('cat a')).toBe('2\n')
  })

  test('of a machine that was stopped with work in it: it is started for that', async () => {
    await inside(`${PUSHED} echo x > f`)
    await it.do(actions.stop('DROP-1'))
    expect(rescued()).toEqual([])
    const phases: string[] = []
    expect(await it.do(actions.delete('DROP-1'), { onPhase: phase => phases.push(phase) })).toMatchObject({
      result: 'done',
    })
    expect(phases[0]).toBe('starting it to save its work')
    expect(await (await getBack(await newest()))('cat f')).toBe('x\n')
  })

  test('with --force, or with nothing at risk, nothing is saved', async () => {
    await inside(`${PUSHED} echo x > f`)
    expect(await it.do(actions.delete('DROP-1', true))).toMatchObject({
      result: 'done',
      said: expect.not.stringContaining('kept'),
    })
    expect(rescued()).toEqual([])
  })
})

describe('what cannot be saved keeps the machine, stopped, and leaves nothing half-made', () => {
  test.for([
    ['a repository that lacks an object', `${PUSHED} ${LOSES_AN_OBJECT}`],
    ['a branch that points nowhere', `${PUSHED} echo x > f; echo ${'1'.repeat(40)} > .git/refs/heads/lost`],
  ])('%s', async ([, script = '']) => {
    await inside(script)
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({
      result: 'failed',
      failure: {
        kind: 'unsaved-work',
        message: expect.stringMatching(/^DROP-1 is kept and stopped: .*(could not be saved|not known)/),
        remedy: expect.stringContaining('--force'),
      },
      environment: { status: 'stopped' },
    })
    expect(machines()).toHaveLength(1)
    expect(rescued()).toEqual([])
  })

  test('a host without git cannot prove anything', async () => {
    await inside(`${PUSHED} echo x > f`)
    const world = { home: it.home, run: openRun({ PATH: '/nowhere' }), clock: () => new Date() }
    const machine = { ticket: 'DROP-1', provider: 'synthetic', vmId: vmId(), baseImage: 'x' }
    await expect(
      rescue(world, machine, [], {
        stream: () => Promise.reject(new Error('it must not be asked')),
        by: { via: 'cli', who: null },
        signal: new AbortController().signal,
        onPhase: () => {},
      }),
    ).rejects.toMatchObject({
      failure: { kind: 'provider-missing', message: expect.stringContaining('git is not installed') },
    })
  })

  test("the guest's repository is as it was: index, refs, objects and files", async () => {
    await inside(`${PUSHED} ${LOSES_AN_OBJECT} echo 2 > a; g add a; echo 3 > a; echo x > f`)
    // Of an object that it would write again, git renews the time.
    const look = () =>
      inside(
        'cd shop; find . -type f -print0 | sort -z | xargs -0 sha256sum; find . -not -path "*/objects/*" -printf "%p %T@\\n" | sort',
      )
    const before = await look()
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'failed' })
    await it.do(actions.start('DROP-1'))
    expect(await look()).toBe(before)
  })
})

describe('a hostile guest', () => {
  const found = { line: 1, path: '/home/agent/shop', uncommitted: 0, untracked: 1, stashes: 0, unpushed: 0 }
  /** What an honest guest answers. */
  const honest = async () => {
    await inside(`${PUSHED} echo x > f`)
    const file = join(it.home, 'honest.bundle')
    const provider = await it.world.provider('synthetic')
    const ran = await provider.runInGuest?.(vmId(), rescueScript(1), { into: { file, limit: 1e6 } })
    return { bundle: readFileSync(file), said: ran?.stderr.replace(/^path\t.*$/m, `path\t${found.path}`) ?? '' }
  }
  const saving = (bundle: Buffer | string, said: string, one = found) =>
    rescue(it.world, { ticket: 'DROP-1', provider: 'synthetic', vmId: vmId(), baseImage: 'x' }, [one], {
      stream: async (_script, { file }) => {
        writeFileSync(file, bundle)
        return { stderr: said }
      },
      by: { via: 'cli', who: null },
      signal: new AbortController().signal,
      onPhase: () => {},
    })

  test('an honest answer is taken, with noise beside it', async () => {
    const { bundle, said } = await honest()
    expect(await saving(bundle, `sudo: unable to resolve host x\n${said}`)).toContain(
      join(it.home, 'rescued', 'DROP-1-'),
    )
  })

  test('lies, half answers and broken bundles are refused, and leave nothing', async () => {
    const { bundle, said } = await honest()
    const broken = Buffer.from(bundle)
    broken[bundle.length - 30] = (broken[bundle.length - 30] ?? 0) ^ 1
    const text = bundle.toString('latin1')
    const header = '# v2 git bundle\n'
    const latin = (changed: string) => Buffer.from(changed, 'latin1')
    const cases: [string, Buffer | string, string, Partial<typeof found>?][] = [
      ['nothing', '', said],
      ['no bundle', 'hello', said],
      ['one cut off', bundle.subarray(0, bundle.length - 40), said],
      ['one with a bit turned', broken, said],
      ['one that needs what is not in it', latin(text.replace(header, `${header}-${'1'.repeat(40)} x\n`)), said],
      ['one whose objects may be missing', latin(text.replace(header, '# v3 git bundle\n@filter=blob:none\n')), said],
      ['a repository in its place', join(it.home), said],
      ['refs that are not in it', bundle, said.replace('refs/heads/main', 'refs/heads/other')],
      ['fewer refs than are in it', bundle, said.replace(/^ref\t.*refs\/heads\/main\n/m, '')],
      ['commits that are not in it', bundle, said.replace(/^ref\t[0-9a-f]{40}/m, `ref\t${'1'.repeat(40)}`)],
      ['no end', bundle, said.replace(/end\n?$/, '')],
      ['no refs', bundle, said.replaceAll(/^ref\t.*\n/gm, '')],
      ['another repository', bundle, said.replace(found.path, '/home/agent/other')],
      ['a ref that leads out', bundle, `ref\t${'1'.repeat(40)}\trefs/heads/../../x y\n${said}`],
      ['fewer files than were found', bundle, said, { untracked: 2 }],
      ['fewer stashes than were found', bundle, said, { stashes: 1 }],
      ['fewer commits than were found', bundle, said, { unpushed: 100 }],
    ]
    for (const [what, sent, told, more] of cases) {
      await expect(saving(sent, told, { ...found, ...more }), what).rejects.toMatchObject({
        failure: { message: expect.stringContaining('/home/agent/shop: ') },
      })
      expect(rescued(), what).toEqual([])
    }
  })

  test('a path that leads out stays a name, and a command of the note stays a command', async () => {
    const { bundle, said } = await honest()
    for (const path of ['/home/../../..', '/x/$(reboot);`id`', "/x/a'b c", '/', '/x/-rf']) {
      const folder = await saving(
        bundle,
        said.replace(found.path, () => path),
        { ...found, path },
      )
      const [one] = noteOf(folder).repositories
      expect(one?.bundle).toMatch(/^1-[A-Za-z0-9_][A-Za-z0-9._-]*\.bundle$/)
      expect(existsSync(join(folder, one?.bundle ?? ''))).toBe(true)
      expect(one?.getBack.join('\n')).not.toMatch(/[$`;]|reboot\)/)
    }
    expect(rescued().every(name => /^DROP-1-\d{8}-\d{6}(-\d)?$/.test(name))).toBe(true)
  })

  test('a reason of its own is shown only when it is plain', () => {
    expect(() => parseSaid('unsaved\tgit cannot read it\n', '/x')).toThrow('git cannot read it')
    expect(() => parseSaid('unsaved\t\u001b[31mred\n', '/x')).toThrow('the machine could not do it')
  })

  test('hooks, monitors, filters and signers of a repository do not run', async () => {
    await inside(`${PUSHED} printf 'a filter=f diff=d\\n' > .gitattributes; g add .gitattributes; g commit -qm attributes
      for hook in reference-transaction post-index-change pre-auto-gc fsmonitor-watchman; do printf '#!/bin/sh\\ntouch ../ran-hook\\n' > .git/hooks/$hook; chmod +x .git/hooks/$hook; done
      echo 2 > a; g stash -q 2>/dev/null; rm -f ../ran-hook; echo 22 > a; echo x > f
      printf '#!/bin/sh\\ntouch ${disk()}/ran-$1\\n' > ../evil; chmod +x ../evil
      for key in core.fsmonitor filter.f.clean filter.f.process diff.external diff.d.textconv gpg.program core.pager core.sshCommand; do g config $key "${disk()}/evil $key"; done
      g config log.showSignature true; g config filter.f.required true`)
    const provider = await it.world.provider('synthetic')
    const file = join(it.home, 'out')
    const ran = await provider.runInGuest?.(vmId(), rescueScript(1), { into: { file, limit: 1e6 } })
    expect(ran?.stderr).toMatch(/end$/)
    expect(readdirSync(disk()).filter(name => name.startsWith('ran'))).toEqual([])
    const looked = await provider.runInGuest?.(vmId(), unsavedWorkScript)
    expect(looked?.stdout).toMatch(/end$/)
    // To tell whether a file differs, git cleans it first: as the repository's owner.
    expect(readdirSync(disk()).filter(name => /^ran-(?!filter)/.test(name))).toEqual([])
  })

  test('of more repositories than are looked at, it is not known', async () => {
    await inside('for n in $(seq 201); do mkdir -p r$n/.git; done')
    const provider = await it.world.provider('synthetic')
    const ran = await provider.runInGuest?.(vmId(), unsavedWorkScript)
    expect(parseUnsavedWork(ran?.stdout ?? '')).toEqual({
      known: false,
      because: 'there are more than 200 repositories',
    })
  })
})

describe('kill -9', () => {
  const dieAt = async (phase: string, action: Action, actionId = '') => {
    const script = join(import.meta.dirname, '../../support/die-at.ts')
    const died = await run(process.execPath, [script, it.home, phase, actionId, JSON.stringify(action)]).then(
      () => null,
      error => error.signal,
    )
    expect(died).toBe('SIGKILL')
  }
  const digest = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex')

  test.for(['looking for work at risk', 'saving work', 'proving it'])(
    'at "%s": the machine is kept, and nothing half-written after the next start',
    async phase => {
      await inside(`${PUSHED} echo x > f`)
      await dieAt(phase, actions.delete('DROP-1'))
      expect(machines()).toHaveLength(1)
      await recoverAll(it.world)
      expect(machines()).toHaveLength(1)
      expect(rescued()).toEqual([])
      expect(it.world.registry.environments()).toMatchObject([{ ticket: 'DROP-1', status: 'running' }])
      expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
    },
  )

  test('at "delete", by the CLI: the next start ends it, and the work is there', async () => {
    await inside(`${PUSHED} echo x > f`)
    await dieAt('delete', actions.delete('DROP-1'))
    const saved = digest(join(await newest(), '1-shop.bundle'))
    await recoverAll(it.world)
    expect(machines()).toEqual([])
    expect(digest(join(await newest(), '1-shop.bundle'))).toBe(saved)
    expect(await (await getBack(await newest()))('cat f')).toBe('x\n')
  })

  test('at "delete", by the queue: the same action ends it, tells where the work is, and saves it once', async () => {
    await inside(`${PUSHED} echo x > f`)
    await dieAt('delete', actions.delete('DROP-1'), 'github:1:0')
    expect(await it.do(actions.delete('DROP-1'), { actionId: 'github:1:0' })).toMatchObject({
      result: 'done',
      said: expect.stringMatching(/1 untracked file in .*\) is kept in ~\/rescued\/DROP-1-/),
    })
    expect(rescued()).toHaveLength(1)
    expect(machines()).toEqual([])
  })

  test('what another process has under way is not swept', async () => {
    await inside(`${PUSHED} echo x > f`)
    let seen: string[] = []
    await it.do(actions.delete('DROP-1'), {
      onPhase: phase => {
        if (phase === 'proving it') {
          void recoverAll(it.world)
          seen = rescued()
        }
      },
    })
    expect(seen).toEqual([expect.stringMatching(/^\.new-DROP-1-[0-9a-f]{8}$/)])
    expect(rescued()).toEqual([expect.stringMatching(/^DROP-1-/)])
  })
})

describe('the list of what was rescued', () => {
  test('is empty at first, newest first later, and stands what else lies there', async () => {
    expect(await listRescued(it.home)).toEqual([])
    const folder = join(it.home, 'rescued')
    const place = (name: string, note: string | null) => {
      mkdirSync(join(folder, name), { recursive: true })
      if (note !== null) writeFileSync(join(folder, name, 'rescued.json'), note)
    }
    place(
      'DROP-1-20261124-100000',
      JSON.stringify({
        repositories: [
          { path: '/a', bytes: 2 },
          { path: '/b', bytes: 3 },
        ],
      }),
    )
    place('DROP-2-20261124-110000', 'not json')
    place('DROP-3-20261124-090000-2', null)
    place('.new-DROP-1-01234567', null)
    place('else', null)
    writeFileSync(join(folder, 'DROP-4-20261124-080000'), 'a file')
    expect(await listRescued(it.home)).toEqual([
      {
        ticket: 'DROP-2',
        savedAt: '2026-11-24T11:00:00Z',
        folder: join(folder, 'DROP-2-20261124-110000'),
        bytes: null,
        repositories: null,
      },
      {
        ticket: 'DROP-1',
        savedAt: '2026-11-24T10:00:00Z',
        folder: join(folder, 'DROP-1-20261124-100000'),
        bytes: 5,
        repositories: ['/a', '/b'],
      },
      {
        ticket: 'DROP-3',
        savedAt: '2026-11-24T09:00:00Z',
        folder: join(folder, 'DROP-3-20261124-090000-2'),
        bytes: null,
        repositories: null,
      },
      {
        ticket: 'DROP-4',
        savedAt: '2026-11-24T08:00:00Z',
        folder: join(folder, 'DROP-4-20261124-080000'),
        bytes: null,
        repositories: null,
      },
    ])
  })
})
