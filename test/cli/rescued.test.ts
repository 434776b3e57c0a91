/** `rescued list`, `show` and `restore`, as a person sees them. What comes back is in test/runner/rescue/restore.process.test.ts. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openCli } from '../support/cli.ts'

const cli = openCli()
const swarm = (...words: string[]) => cli.swarm(words)
let name = ''
beforeAll(async () => {
  expect((await swarm('rescued', 'list')).stderr).toBe('Nothing was rescued.\n')
  for (const ticket of ['DROP-1', 'DROP-2']) expect(await swarm('create', ticket)).toMatchObject({ code: 0 })
  await cli.inside('DROP-1', 'git init -q shop; echo x > shop/f')
  await cli.inside(
    'DROP-2',
    'git init -q shop; git -C shop -c user.name=n -c user.email=e commit -q --allow-empty -m one',
  )
  expect(await swarm('delete', 'DROP-1')).toMatchObject({ code: 0 })
  name = readdirSync(join(cli.home, 'state', 'rescued'))[0] ?? ''
})
afterAll(() => cli.close())

test('status counts them, with their size and place', async () => {
  const { stdout } = await cli.swarm(['status'], { COLUMNS: '300' })
  const folder = join(cli.home, 'state', 'rescued')
  expect(stdout).toMatch(
    new RegExp(
      `RESCUED[\\s\\S]*DROP-1 [\\s\\S]*\\n1 rescue, \\d+ KiB, in ${folder}. To bring one back: agent-swarm rescued restore NAME`,
    ),
  )
})

test('list and show name it, what is in it, and the way back', async () => {
  expect((await swarm('rescued', 'list')).stdout).toMatch(new RegExp(`NAME +SAVED[\\s\\S]*${name} .*/shop`))
  const { stdout, stderr } = await swarm('rescued', 'show', name)
  expect(stdout).toMatch(
    /ticket +DROP-1\n[\s\S]*before a delete by [\s\S]*unsaved work +1 untracked file\n[\s\S]*bundle +1-shop\.bundle, /,
  )
  expect(stderr).toContain(`agent-swarm rescued restore ${name}`)
})

test('restore brings it back once, and overwrites nothing', async () => {
  const into = join(cli.home, 'back')
  expect(await swarm('rescued', 'restore', name, into)).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(new RegExp(`/shop is in ${into}/shop\\.\n$`)),
  })
  expect(readFileSync(join(into, 'shop', 'f'), 'utf8')).toBe('x\n')
  expect(await swarm('rescued', 'restore', name, into)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('it exists, and nothing is overwritten'),
  })
})

test('what is being brought back is not removed: its ticket is locked', async () => {
  const db = new DatabaseSync(join(cli.home, 'state', 'locks', 'DROP-1.lock'))
  db.exec('begin exclusive')
  const restoring = cli.begin(['rescued', 'restore', name, join(cli.home, 'later')])
  await restoring.says('waiting for another command on this ticket')
  db.close()
  expect(await restoring.ended).toMatchObject({ code: 0 })
})

test('restore into a machine needs its project', async () => {
  const into = () => swarm('rescued', 'restore', name, '--into', 'DROP-2')
  expect(await into()).toMatchObject({ code: 1, stderr: expect.stringContaining('its machine has no project') })
  const project = {
    ...{ repo: 'acme/shop', branch: 'DROP-2', summary: null, path: '~/shop', ports: [], save: [] },
    ...{ setup: null, start: null, problem: null, prepared: true },
  }
  cli.know(registry => registry.setProject('DROP-2', project))
  expect(await into()).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(`1 new ref in the machine of DROP-2:\n  rescued/${name}/worktree\n`),
  })
  expect(await cli.inside('DROP-2', `git -C shop show rescued/${name}/worktree:f`)).toBe('x')
  expect(await swarm('stop', 'DROP-2')).toMatchObject({ code: 0 })
  expect(await into()).toMatchObject({ code: 1, stderr: expect.stringMatching(/is stopped\nagent-swarm start DROP-2/) })
})

test.for([
  [['rescued', 'show', '../..'], 1, 'there is none of this name'],
  [['rescued', 'restore', 'DROP-9-20260101-000000'], 1, 'See: agent-swarm rescued list'],
  [['rescued', 'restore', 'DROP-1-20260101-000000', 'x', '--into', 'DROP-2'], 2, 'cannot be used together'],
] as const)('%j is refused', async ([words, code, text]) => {
  expect(await swarm(...words)).toMatchObject({ code, stderr: expect.stringContaining(text) })
})

test('a note that a machine made unreadable is told, and the list shows the rest', async () => {
  const folder = join(cli.home, 'state', 'rescued', 'DROP-3-20260101-000000')
  mkdirSync(folder)
  writeFileSync(join(folder, 'rescued.json'), '{"repositories":[{"path":"\\u001b[2J","bytes":1}]}')
  expect((await swarm('rescued', 'list')).stdout).toMatch(/DROP-3-20260101-000000 .*\?\[2J/)
  expect(await swarm('rescued', 'show', 'DROP-3-20260101-000000')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`The bundles are in ${folder}`),
  })
})
