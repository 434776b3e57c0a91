/** A delete on a real machine: the work in it is saved first, proven, and comes back by the commands of the note. */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { unsavedWorkScript } from '../../src/runner/rescue/scripts.ts'
import { ensureBase, everything, home, program, swarm } from './cli.ts'

beforeAll(ensureBase)
afterAll(async () => {
  await swarm('delete', 'SAVE-1', '--force')
})

const inside = async (command: string) => {
  const ran = await swarm('ssh', 'SAVE-1', '--', command)
  if (ran.code !== 0) throw new Error(`SAVE-1: ${command}: ${ran.code} ${ran.stderr}`)
  return ran.stdout.trim()
}

test('a dirty repository of a user, and one of another: all of both comes back', async () => {
  expect(await swarm('create', 'SAVE-1')).toMatchObject({ code: 0 })
  await inside(`set -e
    git config --global user.name a; git config --global user.email a@b.c; git config --global init.defaultBranch main
    git init -q shop; cd shop; mkdir src; echo 1 > src/a; echo 1 > b; printf '*.log\\n' > .gitignore; git add .; git commit -qm one
    git remote add origin git@example.org:acme/shop; git update-ref refs/remotes/origin/main HEAD
    git checkout -q -b feature; echo 2 > src/a; git commit -qam two
    echo stashed > b; git stash -q
    echo staged > b; git add b; echo unstaged > b; echo 3 > src/a
    head -c 3000000 /dev/urandom > 'bin ary'; echo no > x.log
    printf '#!/bin/sh\\nid -un >> /tmp/ran\\n' > .git/evil; chmod +x .git/evil
    git config filter.f.clean .git/evil; git config core.fsmonitor .git/evil; printf 'b filter=f\\n' > .git/info/attributes
    sudo git init -q /srv/root; echo r | sudo tee /srv/root/f >/dev/null; sudo chmod 600 /srv/root/f`)
  // What a repository says to run is run as its owner, and never as root.
  const asRoot = Buffer.from(unsavedWorkScript()).toString('base64')
  expect(await inside(`echo ${asRoot} | base64 -d | sudo -n sh -s; sort -u /tmp/ran`)).toMatch(/\nend\nagent$/)
  const sum = await inside("sha256sum < 'shop/bin ary'")
  const deleted = await swarm('delete', 'SAVE-1')
  expect(deleted).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(
      /^SAVE-1 is deleted: its machine, its disk and its checkpoints are gone; its unsaved work \(2 uncommitted changes, 1 untracked file, 1 stash, 1 unpushed commit in \/home\/agent\/shop; 1 untracked file in \/srv\/root\) is kept in (\S+)/,
    ),
  })
  expect(deleted.stderr).toMatch(
    /looking for unsaved work[\s\S]*saving unsaved work[\s\S]*checking the saved work[\s\S]*delete/,
  )
  expect(JSON.stringify(await everything())).not.toMatch(/save-1/i)

  const [name = ''] = readdirSync(join(home, 'rescued')).filter(one => one.startsWith('SAVE-1-'))
  const folder = join(home, 'rescued', name)
  expect(readdirSync(folder)).toEqual(['1-shop.bundle', '2-root.bundle', 'rescued.json'])
  const note = JSON.parse(readFileSync(join(folder, 'rescued.json'), 'utf8'))
  const place = join(home, 'save-back')
  mkdirSync(place)
  const shell = async (script: string) => {
    const ran = await program('sh', ['-ec', `cd '${place}'\n${script}`], { HOME: place })
    if (ran.code !== 0) throw new Error(ran.stderr)
    return ran.stdout.trim()
  }
  for (const { getBack } of note.repositories)
    await shell(`git config --global user.name n; git config --global user.email e\n${getBack.join('\n')}`)
  expect(await shell('cd shop; git status --porcelain; git log --format=%s')).toBe(
    'MM b\n M src/a\n?? "bin ary"\ntwo\none',
  )
  expect(await shell('cd shop; cat b; git show :b; git show stash:b; cat src/a')).toBe('unstaged\nstaged\nstashed\n3')
  expect(await shell("sha256sum < 'shop/bin ary'")).toBe(sum)
  expect(await shell('cat root/f')).toBe('r')
  rmSync(folder, { recursive: true })
  rmSync(place, { recursive: true })
})

test('a machine that was stopped with work in it is started, and its work saved', async () => {
  expect(await swarm('create', 'SAVE-1')).toMatchObject({ code: 0 })
  await inside('git init -q shop; echo x > shop/file; sync')
  expect(await swarm('stop', 'SAVE-1')).toMatchObject({ code: 0 })
  expect(await swarm('delete', 'SAVE-1')).toMatchObject({
    code: 0,
    stderr: expect.stringContaining('starting it to save its work'),
    stdout: expect.stringMatching(/1 untracked file in \/home\/agent\/shop\) is kept in/),
  })
  expect(JSON.stringify(await everything())).not.toMatch(/save-1/i)
  for (const one of readdirSync(join(home, 'rescued'))) rmSync(join(home, 'rescued', one), { recursive: true })
})
