import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { actions, openTestWorld } from '../../support/world.ts'

let it: Awaited<ReturnType<typeof openTestWorld>>
beforeEach(async () => {
  it = await openTestWorld()
})
afterEach(() => it.close())

const repository = 'git init -q w; cd w; git config user.email a@b.c; git config user.name n; '

describe('work at risk', () => {
  test('what is pushed, ignored or empty is no work at risk', async () => {
    await it.do(actions.create('DROP-1'))
    await it.inside(
      'DROP-1',
      `${repository} echo ignored > .gitignore; echo 1 > ignored; git add .gitignore; git commit -q -m one; git remote add o .; git update-ref refs/remotes/o/x HEAD`,
    )
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
  })

  test('a repository that cannot be read is not known to be safe', async () => {
    await it.do(actions.create('DROP-1'))
    await it.inside(
      'DROP-1',
      `${repository} git commit -q --allow-empty -m one; echo broken > .git/HEAD; rm -rf .git/objects`,
    )
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({
      result: 'failed',
      failure: { kind: 'work-at-risk', message: expect.stringContaining('not known') },
      environment: { status: 'stopped' },
    })
    // The finding is kept: asking again while it is stopped deletes nothing either.
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'failed', failure: { kind: 'work-at-risk' } })
    expect(it.machines()).toHaveLength(1)
    expect(await it.do(actions.delete('DROP-1', true))).toMatchObject({ result: 'done' })
    expect(it.world.registry.operations('DROP-1', 1)).toMatchObject([
      { kind: 'delete', detail: { force: true }, by: { who: 'tester' }, result: 'done' },
    ])
  })

  test('a stop keeps what it found, and a machine that was stopped clean can be deleted', async () => {
    await it.do(actions.create('DROP-1'))
    expect(await it.do(actions.stop('DROP-1'))).toMatchObject({
      environment: { workAtRisk: { known: true, repositories: [] } },
    })
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
    await it.do(actions.create('DROP-2'))
    await it.inside('DROP-2', `${repository} echo x > f`)
    expect(await it.do(actions.stop('DROP-2'))).toMatchObject({
      environment: { workAtRisk: { known: true, repositories: [{ untracked: 1 }] } },
    })
  })
})

describe('who lets go of a delete', () => {
  test('before it began, keeps the machine: with --force too', async () => {
    await it.do(actions.create('DROP-1'))
    expect(await it.do(actions.delete('DROP-1', true), { signal: AbortSignal.abort() })).toMatchObject({
      result: 'failed',
      failure: { kind: 'cancelled', message: 'delete of DROP-1: cancelled; nothing was begun' },
    })
    expect(it.machines()).toHaveLength(1)
  })

  test('while its work is looked for, keeps the machine', async () => {
    await it.do(actions.create('DROP-1'))
    const cancel = new AbortController()
    const onPhase = (phase: string) => phase === 'looking for work at risk' && cancel.abort()
    expect(await it.do(actions.delete('DROP-1'), { signal: cancel.signal, onPhase })).toMatchObject({
      failure: { kind: 'cancelled', message: expect.stringContaining('the machine is still there') },
    })
    expect(it.machines()).toHaveLength(1)
  })

  test('when it cannot be ended, hears that', async () => {
    await it.do(actions.create('DROP-1'))
    it.cannotDelete('DROP-1')
    const cancel = new AbortController()
    const onPhase = (phase: string) => phase === 'delete' && cancel.abort()
    expect(await it.do(actions.delete('DROP-1'), { signal: cancel.signal, onPhase })).toMatchObject({
      failure: { kind: 'unknown', message: expect.stringMatching(/^deleting DROP-1, which was begun: /) },
    })
  })
})
