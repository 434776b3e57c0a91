/** Deletes. The work in a machine is saved first, proven, and restored by the commands of its note. This file runs last. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { unsavedWorkScript } from '../../src/runner/rescue/scripts.ts'
import {
  ensureMachines,
  everything,
  FIRST,
  home,
  inside,
  list,
  listed,
  program,
  SECOND,
  succeed,
  swarm,
  swarmWith,
  virsh,
} from './cli.ts'
import { interruptAt } from './terminal.ts'

/** A domain and a volume with names like ours, which we did not make. */
const FOREIGN = 'as-life-9-0badcafe'
const foreignXml = `<domain type="qemu"><name>${FOREIGN}</name><memory unit="MiB">64</memory><os><type>hvm</type></os></domain>`
let before: Awaited<ReturnType<typeof everything>>

beforeAll(async () => {
  await ensureMachines(FIRST, SECOND)
  const file = join(home, 'foreign.xml')
  writeFileSync(file, foreignXml)
  await virsh('define', file)
  await virsh('vol-create-as', 'agent-swarm', `${FOREIGN}.qcow2`, '1M', '--format', 'qcow2')
  before = await everything()
})
afterAll(async () => {
  for (const { ticket } of await list()) await swarm('delete', ticket, '--force')
  await virsh('undefine', FOREIGN)
  await virsh('vol-delete', '--pool', 'agent-swarm', `${FOREIGN}.qcow2`)
})

/** How many times `list --json` runs virsh. */
const virshCalls = async (): Promise<number> => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-trace-'))
  const log = join(folder, 'calls')
  writeFileSync(join(folder, 'virsh'), `#!/bin/sh\necho call >> '${log}'\nexec /usr/bin/virsh "$@"\n`, { mode: 0o755 })
  await succeed(swarmWith({ PATH: `${folder}:${process.env.PATH}` }, 'list', '--json'))
  const calls = readFileSync(log, 'utf8').trim().split('\n').length
  rmSync(folder, { recursive: true })
  return calls
}

test('work that git cannot read keeps the machine; --force deletes it, even after Ctrl-C', async () => {
  const callsForTwo = await virshCalls()
  await inside(SECOND, 'git init -q shop && echo x > shop/file && echo broken > shop/.git/HEAD')
  expect(await swarm('delete', SECOND)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`${SECOND} is kept and stopped`),
  })
  expect(await listed(SECOND)).toMatchObject({ status: 'stopped', ip: null })
  expect(await swarm('delete', SECOND)).toMatchObject({ code: 1 })
  const { code, screen } = await interruptAt(['delete'], 'delete', '--yes', '--force', SECOND)
  expect(screen).toContain('Interrupted: ')
  expect(screen).toContain(`Deleted the machine of ${SECOND}`)
  expect(code).toBe(0)
  expect((await list()).map(({ ticket }) => ticket)).toEqual([FIRST])
  // The number of virsh calls does not depend on the number of machines.
  expect(await virshCalls()).toBe(callsForTwo)
})

/** A repository of the user's with all kinds of unsaved work, and one of root's. */
const makeWork = `set -e
  git config --global user.name a; git config --global user.email a@b.c; git config --global init.defaultBranch main
  git init -q shop; cd shop; mkdir src; echo 1 > src/a; echo 1 > b; printf '*.log\\n' > .gitignore; git add .; git commit -qm one
  git remote add origin git@example.org:acme/shop; git update-ref refs/remotes/origin/main HEAD
  git checkout -q -b feature; echo 2 > src/a; git commit -qam two
  echo stashed > b; git stash -q
  echo staged > b; git add b; echo unstaged > b; echo 3 > src/a
  head -c 3000000 /dev/urandom > 'bin ary'; echo no > x.log
  printf '#!/bin/sh\\nid -un >> /tmp/ran\\n' > .git/evil; chmod +x .git/evil
  git config filter.f.clean .git/evil; git config core.fsmonitor .git/evil; printf 'b filter=f\\n' > .git/info/attributes
  sudo git init -q /srv/root; echo r | sudo tee /srv/root/f >/dev/null; sudo chmod 600 /srv/root/f; sync`

const rescued = () =>
  existsSync(join(home, 'rescued'))
    ? readdirSync(join(home, 'rescued')).filter(each => each.startsWith(`${FIRST}-`))
    : []

test('a delete saves the work in a stopped machine, and all of it can be restored', async () => {
  await inside(FIRST, makeWork)
  // The programs that a repository names run as its owner, never as root.
  const script = Buffer.from(unsavedWorkScript()).toString('base64')
  expect(await inside(FIRST, `echo ${script} | base64 -d | sudo -n sh -s; sort -u /tmp/ran`)).toMatch(/\nend\nagent$/)
  const sum = await inside(FIRST, "sha256sum < 'shop/bin ary'")
  const person = mkdtempSync(join(tmpdir(), 'agent-swarm-person-'))
  await succeed(swarmWith({ HOME: person }, 'ssh', '--config', '--install'))
  const hosts = () => readFileSync(join(person, '.ssh', 'agent-swarm.config'), 'utf8')
  expect(hosts()).toContain(`Host ${FIRST}`)
  await succeed(swarm('stop', FIRST))

  // Other tests of this run have rescued work of this ticket, too.
  const earlier = rescued()
  const deleted = await swarm('delete', FIRST)
  expect(deleted).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(
      new RegExp(
        `^Deleted the machine of ${FIRST}.*\\(2 uncommitted changes, 1 untracked file, 1 stash, 1 unpushed commit in /home/agent/shop; 1 untracked file in /srv/root\\) is rescued in \\S+`,
      ),
    ),
  })
  expect(deleted.stderr).toMatch(/starting it[\s\S]*unsaved work[\s\S]*saving[\s\S]*checking[\s\S]*delete/)
  expect(hosts()).not.toContain(FIRST)
  await succeed(swarmWith({ HOME: person }, 'ssh', '--config', '--uninstall'))
  rmSync(person, { recursive: true })

  const [name = ''] = rescued().filter(each => !earlier.includes(each))
  const folder = join(home, 'rescued', name)
  expect(readdirSync(folder)).toEqual(['1-shop.bundle', '2-root.bundle', 'rescued.json'])
  const note = JSON.parse(readFileSync(join(folder, 'rescued.json'), 'utf8'))
  const place = join(home, 'restored')
  mkdirSync(place)
  const shell = (text: string) => succeed(program('sh', ['-ec', `cd '${place}'\n${text}`], { HOME: place }))
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

test('afterwards nothing is left of them, and what is not ours was never touched', async () => {
  const isOurs = (name: string) => /^as-keep-/.test(name)
  expect(await everything()).toEqual({
    domains: before.domains.filter(name => !isOurs(name)),
    volumes: before.volumes.filter(name => !isOurs(name)),
    environments: [],
  })
  expect(await virsh('domstate', FOREIGN)).toBe('shut off')
  expect(before.volumes).toContain(`${FOREIGN}.qcow2`)
})
