/** Deletes of machines with real repositories, which the guest's own shell and git look at. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext({ guest: 'shell' })
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

const repository = 'git init -q w; cd w; git config user.email a@b.c; git config user.name n; '
const rescued = () => {
  const folder = join(it.home, 'rescued')
  return existsSync(folder) ? readdirSync(folder) : []
}

test('what is pushed, ignored or empty is not unsaved', async () => {
  await it.inside(
    'DROP-1',
    `${repository} echo ignored > .gitignore; echo 1 > ignored; git add .gitignore; git commit -q -m one; git remote add o https://example.org/o; git update-ref refs/remotes/o/x HEAD`,
  )
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
})

test('a machine with a repository that git cannot read is kept', async () => {
  await it.inside(
    'DROP-1',
    `${repository} git commit -q --allow-empty -m one; echo broken > .git/HEAD; rm -rf .git/objects`,
  )
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({
    result: 'failed',
    failure: { kind: 'unsaved-work', message: expect.stringContaining('could not check for unsaved work') },
    environment: { status: 'stopped' },
  })
  // The result stays while the machine is stopped.
  expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'failed', failure: { kind: 'unsaved-work' } })
  expect(it.machines()).toHaveLength(1)
  expect(await it.do(actions.delete('DROP-1', true))).toMatchObject({ result: 'done' })
  expect(it.context.registry.operations('DROP-1', 1)).toMatchObject([
    { kind: 'delete', detail: { force: true }, by: { who: 'tester' }, result: 'done' },
  ])
})

describe('after a delete that failed, work is looked for again', () => {
  test.for([
    ['by another delete', true, null],
    ['by another attempt, while people work in the machine', false, 'github:1:0'],
  ] as const)('%s', async ([, force, actionId]) => {
    const allowDelete = it.preventDelete('DROP-1')
    expect(await it.do(actions.delete('DROP-1', force), { actionId })).toMatchObject({ result: 'failed' })
    allowDelete()
    await it.inside('DROP-1', `${repository} echo x > f`)
    expect(await it.do(actions.delete('DROP-1'), { actionId: 'github:1:0' })).toMatchObject({
      result: 'done',
      summary: expect.stringContaining('1 untracked file'),
      rescued: expect.stringContaining('1 untracked file'),
    })
    expect(rescued()).toHaveLength(1)
  })
})
