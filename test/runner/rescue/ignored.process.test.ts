/** Files that git ignores and a project names (`workspace.save`): counted, rescued and proven with the other work. */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext({ guest: 'shell' })
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

const REPOSITORY = `
export GIT_CONFIG_NOSYSTEM=1; git init -q shop; cd shop
printf '.env\\nnotes/\\ndist/\\n' > .gitignore; git add .
git -c user.name=n -c user.email=e commit -qm one; git update-ref refs/remotes/origin/main HEAD
mkdir -p notes/a dist; echo secret > .env; echo two > "notes/a/t w
o"; echo -- > "notes/-- .md"; echo built > dist/out
`
const saving = (save: string[], path = '~/shop') =>
  it.context.registry.setProject('DROP-1', {
    ...{ repo: 'acme/shop', branch: 'DROP-1', summary: null, path, ports: [], setup: null, start: null, problem: null },
    prepared: true,
    save,
  })

test('only those that match are saved, whatever their names', async () => {
  await it.inside('DROP-1', REPOSITORY)
  saving(['.env', 'notes/**'])
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({
    result: 'done',
    rescued: expect.stringContaining('3 untracked files in '),
  })
  const [folder = ''] = readdirSync(join(it.home, 'rescued'))
  const note = JSON.parse(readFileSync(join(it.home, 'rescued', folder, 'rescued.json'), 'utf8'))
  expect(note.repositories).toMatchObject([{ untracked: 3, files: 3 }])
  execFileSync('sh', ['-ec', note.repositories[0].getBack.join('\n')], { cwd: it.home })
  const back = (name: string) => readFileSync(join(it.home, 'shop', name), 'utf8')
  expect([back('.env'), back('notes/a/t w\no'), back('notes/-- .md')]).toEqual(['secret\n', 'two\n', '--\n'])
  expect(readdirSync(join(it.home, 'shop'))).not.toContain('dist')
})

test.for([
  ['a pattern that matches nothing', ['*.key'], '~/shop'],
  ['a pattern with words of a shell', ['$(touch ../ran)', '`touch ../ran`', "'; touch ../ran; '"], '~/shop'],
  ['a project that is elsewhere', ['**'], '~/other'],
] as const)('%s: nothing is unsaved', async ([, save, path]) => {
  await it.inside('DROP-1', REPOSITORY)
  saving([...save], path)
  const outcome = await it.do(actions.delete('DROP-1'))
  expect(outcome).toMatchObject({ result: 'done' })
  expect(outcome).not.toHaveProperty('rescued')
  expect(readdirSync(it.home)).not.toContain('rescued')
})
