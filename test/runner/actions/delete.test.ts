import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { actions, openTestWorld } from '../../support/context.ts'

let it: Awaited<ReturnType<typeof openTestWorld>>
beforeEach(async () => {
  it = await openTestWorld()
})
afterEach(() => it.close())

const repository = 'git init -q w; cd w; git config user.email a@b.c; git config user.name n; '

const rescued = () => {
  const folder = join(it.home, 'rescued')
  return existsSync(folder) ? readdirSync(folder) : []
}
const notKnown = { result: 'failed', failure: { kind: 'unsaved-work', message: expect.stringContaining('not known') } }

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
      failure: { kind: 'unsaved-work', message: expect.stringContaining('not known') },
      environment: { status: 'stopped' },
    })
    // The finding is kept: asking again while it is stopped deletes nothing either.
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'failed', failure: { kind: 'unsaved-work' } })
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

describe('that nothing was at risk in a machine that is off holds only when it was off ever since', () => {
  const workAndPowerCut = async () => {
    await it.inside('DROP-1', `${repository} echo x > f`)
    await it.loseItsPower('DROP-1')
  }
  const kept = async () => {
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject(notKnown)
    expect(it.machines()).toHaveLength(1)
  }
  beforeEach(() => it.do(actions.create('DROP-1')))

  test('a stop that was let go of after its look', async () => {
    const cancel = new AbortController()
    const onPhase = (phase: string) => phase === 'looking for work at risk' && cancel.abort()
    expect(await it.do(actions.stop('DROP-1'), { signal: cancel.signal, onPhase })).toMatchObject({
      failure: { kind: 'cancelled' },
      environment: { status: 'running' },
    })
    await workAndPowerCut()
    await kept()
  })

  test('a start that did not come to its end', async () => {
    await it.do(actions.stop('DROP-1'))
    expect(await it.dieAt('address', actions.start('DROP-1'))).toBe(true)
    await workAndPowerCut()
    await kept()
  })

  test('a restore that did not come to its end', async () => {
    await it.inside('DROP-1', `${repository} echo x > f`)
    await it.do(actions.checkpoint('DROP-1', 'one'))
    await it.inside('DROP-1', 'rm -r w')
    await it.do(actions.stop('DROP-1'))
    expect(await it.dieAt('address', actions.restore('DROP-1', 'one'))).toBe(true)
    await it.loseItsPower('DROP-1')
    await kept()
  })

  test('a delete that failed', async () => {
    const mend = it.cannotDelete('DROP-1')
    expect(await it.do(actions.delete('DROP-1'))).toMatchObject({ result: 'failed' })
    mend()
    await workAndPowerCut()
    await kept()
  })

  test('a start by somebody else', async () => {
    await it.do(actions.stop('DROP-1'))
    await (await it.world.provider('synthetic')).startVm(it.world.registry.environment('DROP-1')?.vmId ?? '')
    await it.do(actions.status('DROP-1'))
    await workAndPowerCut()
    await kept()
  })
})

describe('a delete that failed is no leave to delete without a look', () => {
  const failed = async (force: boolean, actionId: string | null) => {
    await it.do(actions.create('DROP-1'))
    const mend = it.cannotDelete('DROP-1')
    expect(await it.do(actions.delete('DROP-1', force), { actionId })).toMatchObject({ result: 'failed' })
    mend()
    await it.inside('DROP-1', `${repository} echo x > f`)
  }

  test.for([
    ['to another one', true, null],
    ['to the same one, tried again while people work in the machine', false, 'github:1:0'],
  ] as const)('%s', async ([, force, actionId]) => {
    await failed(force, actionId)
    expect(await it.do(actions.delete('DROP-1'), { actionId: 'github:1:0' })).toMatchObject({
      result: 'done',
      said: expect.stringContaining('1 untracked file'),
    })
    expect(rescued()).toHaveLength(1)
  })

  test('and the same one ends what it had begun, when the machine is off', async () => {
    await failed(false, 'github:1:0')
    await it.loseItsPower('DROP-1')
    expect(await it.do(actions.delete('DROP-1'), { actionId: 'github:1:0' })).toMatchObject({ result: 'done' })
    expect(it.machines()).toEqual([])
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
