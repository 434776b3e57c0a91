import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fail } from '../../../src/errors.ts'
import { planAction } from '../../../src/runner/plan.ts'
import { reconcile } from '../../../src/runner/reconciler/reconcile.ts'
import { recoverAll } from '../../../src/runner/recovery.ts'
import type { Action } from '../../../src/schema/action.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'

let it: TestContext
let former: string
let chosen: string
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
  await it.do(actions.fork('DROP-1', 3))
  former = it.vmIdOf('DROP-1')
  chosen = it.vmIdOf('DROP-1~2')
})
afterEach(() => it.close())

const promote = actions.promote('DROP-1', 2)
const signal = new AbortController().signal
const keys = () => it.context.registry.environments().map(({ ticket }) => ticket)
const expectPromoted = async () => {
  expect(it.context.registry.environments()).toMatchObject([{ ticket: 'DROP-1', vmId: chosen, status: 'running' }])
  expect(it.context.registry.environment('DROP-1')).not.toHaveProperty('attempt')
  expect(it.machines()).toEqual([chosen])
  expect(await it.markedTicket(chosen)).toBe('DROP-1')
  expect(it.context.registry.openOperations()).toEqual([])
  expect((await reconcile(it.context, { dryRun: true, signal })).findings).toEqual([])
}

test('the attempt becomes the machine of its ticket, and the former machine and the others go', async () => {
  expect(await planAction(it.context, promote)).toEqual({
    would: [
      `make ${chosen} the machine of DROP-1`,
      'look for unsaved work in what it deletes; save it first, or keep the machine',
      `delete the former machine of DROP-1, ${former}, DROP-1~1 and DROP-1~3`,
    ],
  })
  expect(await it.do(promote)).toMatchObject({
    result: 'done',
    summary: 'DROP-1~2 is now the machine of DROP-1. Deleted: the former machine of DROP-1, DROP-1~1, DROP-1~3',
    deleted: [{ ticket: 'DROP-1', vmId: former }, { ticket: 'DROP-1~1' }, { ticket: 'DROP-1~3' }],
    environment: { ticket: 'DROP-1', vmId: chosen },
  })
  await expectPromoted()
  const history = it.context.registry.operations('DROP-1', 10)
  expect(history.map(({ kind }) => kind)).toEqual(['promote', 'fork', 'fork', 'create'])
  const phases = history[0]?.phases.map(({ phase }) => phase) ?? []
  expect(phases.filter(phase => phase.endsWith(': delete'))).toEqual([
    'the former machine of DROP-1: delete',
    'DROP-1~1: delete',
    'DROP-1~3: delete',
  ])
})

test('one that is stopped says how to start the machine of the ticket', async () => {
  await it.do(actions.stop('DROP-1~2'))
  expect(await it.do(promote)).toMatchObject({
    summary:
      'DROP-1~2 is now the machine of DROP-1. Deleted: the former machine of DROP-1, DROP-1~1, DROP-1~3. It is stopped. Start it: agent-swarm start DROP-1',
  })
})

test('a machine whose work is not known to be saved is kept and stopped, and told', async () => {
  it.addUnsavedWork('DROP-1')
  const outcome = await it.do(promote)
  expect(outcome).toMatchObject({
    result: 'done',
    summary: expect.stringMatching(
      /^DROP-1~2 is now the machine of DROP-1\. Deleted: DROP-1~1, DROP-1~3\. The former machine of DROP-1 is now DROP-1~4\. DROP-1~4 is kept and stopped: /,
    ),
  })
  expect(it.context.registry.environments()).toMatchObject([
    { ticket: 'DROP-1', vmId: chosen },
    { ticket: 'DROP-1~4', vmId: former, status: 'stopped', unsavedWork: { known: true } },
  ])
  expect(await it.markedTicket(former)).toBe('DROP-1~4')
  // Nobody tries it again.
  expect((await reconcile(it.context, { dryRun: false, signal })).findings).toEqual([])
  expect(keys()).toEqual(['DROP-1', 'DROP-1~4'])
})

test('what cannot be deleted at the moment is deleted later, and the answer says so', async () => {
  let isBusy = true
  wrapProviders(it.context, provider => ({
    ...provider,
    deleteVm: async id => {
      if (isBusy && id === former)
        throw fail('hypervisor-unreachable', `deleting ${id}: the hypervisor does not answer`)
      await provider.deleteVm(id)
    },
  }))
  expect(await it.do(promote)).toMatchObject({
    summary: `DROP-1~2 is now the machine of DROP-1. Deleted: DROP-1~1, DROP-1~3. The former machine of DROP-1, now DROP-1~4, is still there: deleting ${former}: the hypervisor does not answer. Its delete is tried again, and it is kept if its unsaved work cannot be saved`,
  })
  await reconcile(it.context, { dryRun: false, signal })
  expect(keys()).toEqual(['DROP-1', 'DROP-1~4'])
  isBusy = false
  await reconcile(it.context, { dryRun: false, signal })
  await expectPromoted()
})

test.for([
  [
    'an attempt that is not there',
    9,
    'no-such-environment',
    "Its ticket's attempts: DROP-1~1, DROP-1~2, DROP-1~3. To make more: agent-swarm fork DROP-1",
  ],
] as const)('%s', async ([, attempt, kind, remedy]) => {
  expect(await it.do(actions.promote('DROP-1', attempt))).toMatchObject({ result: 'failed', failure: { kind, remedy } })
  expect(keys()).toHaveLength(4)
})

test('a ticket without attempts', async () => {
  await it.do(actions.create('DROP-2'))
  expect(await it.do(actions.promote('DROP-2', 1))).toMatchObject({
    failure: { kind: 'no-such-environment', remedy: 'DROP-2 has no attempts. To make one: agent-swarm fork DROP-2' },
  })
})

test('an attempt of a ticket whose machine was deleted', async () => {
  await it.do(actions.delete('DROP-1', true))
  expect(keys()).toEqual(['DROP-1~1', 'DROP-1~2', 'DROP-1~3'])
  await it.do(promote)
  await expectPromoted()
})

test('of two promotes at once, one wins, and the other attempt is gone', async () => {
  const outcomes = await Promise.all([it.do(promote), it.do(actions.promote('DROP-1', 3))])
  expect(outcomes.map(({ result }) => result).toSorted()).toEqual(['done', 'failed'])
  expect(outcomes.find(({ result }) => result === 'failed')).toMatchObject({ failure: { kind: 'no-such-environment' } })
  expect(keys()).toEqual(['DROP-1'])
})

test('a ticket that moved takes its attempts along; one of them is promoted by the old key, too', async () => {
  const moved = await it.do(actions.move('DROP-1', 'WEB-7'))
  expect(moved).toMatchObject({ result: 'done', environment: { ticket: 'WEB-7' } })
  expect(keys()).toEqual(['WEB-7', 'WEB-7~1', 'WEB-7~2', 'WEB-7~3'])
  expect(await it.markedTicket(chosen)).toBe('WEB-7~2')
  expect(await it.do(actions.stop('DROP-1~3'))).toMatchObject({ environment: { ticket: 'WEB-7~3' } })
  expect(await it.do(promote)).toMatchObject({ result: 'done', environment: { ticket: 'WEB-7', vmId: chosen } })
  expect(it.machines()).toEqual([chosen])
})

test('attempts move without a machine of their ticket, too', async () => {
  await it.do(actions.delete('DROP-1', true))
  expect(await it.do(actions.move('DROP-1', 'WEB-7'))).toMatchObject({
    summary: 'DROP-1 is now WEB-7: its attempts, checkpoints and history moved with it',
  })
  expect(keys()).toEqual(['WEB-7~1', 'WEB-7~2', 'WEB-7~3'])
  expect(await it.do(actions.promote('DROP-1', 2))).toMatchObject({ environment: { ticket: 'WEB-7', vmId: chosen } })
})

test.for(['promote', 'DROP-1~1: looking for unsaved work', 'the former machine of DROP-1: delete'])(
  'a promote that is killed at %s is finished',
  async phase => {
    expect(await it.dieAt(phase, promote)).toBe(true)
    const finished: string[] = []
    await recoverAll(it.context, (ticket, summary) => finished.push(`${ticket}: ${summary}`))
    expect(finished).toContain(
      'DROP-1: An attempt is now the machine of DROP-1; DROP-1~1, DROP-1~3, the former machine (now DROP-1~4) will be deleted',
    )
    await reconcile(it.context, { dryRun: false, signal })
    await expectPromoted()
  },
)

test.for(['promote', 'looking for unsaved work', 'delete'])(
  'a promote that is cancelled at %s says so, and is finished by reconcile',
  async phase => {
    const cancelling = new AbortController()
    const onPhase = (reached: string) => void (reached.endsWith(phase) && cancelling.abort())
    expect(await it.do(promote, { signal: cancelling.signal, onPhase })).toMatchObject({
      result: 'failed',
      failure: { kind: 'cancelled' },
    })
    expect(keys().length).toBeGreaterThan(1)
    await reconcile(it.context, { dryRun: false, signal })
    await expectPromoted()
  },
)

test('a promote of the queue that was killed is finished by another try', async () => {
  expect(await it.dieAt('DROP-1~1: delete', promote, 'github:1:0')).toBe(true)
  expect(await it.do(promote, { actionId: 'github:1:0' })).toMatchObject({ result: 'done' })
  await expectPromoted()
})

test('what a killed try deleted, and the work that it rescued, is in the answer of the next one', async () => {
  const { registry } = it.context
  await it.dieAt('DROP-1~3: looking for unsaved work', promote, 'github:1:0')
  const [part] = registry.operations('DROP-1~1', 1)
  const outcome = part?.outcome?.result === 'done' ? part.outcome : null
  expect(outcome).not.toBeNull()
  if (part === undefined || outcome === null) return
  registry.endOperation(part.id, part.startedAt, 'done', { ...outcome, rescued: 'work is in ~/x' })
  expect(await it.do(promote, { actionId: 'github:1:0' })).toMatchObject({
    summary: expect.stringMatching(/Deleted: .*DROP-1~1, DROP-1~3\. Rescued: DROP-1~1: work is in ~\/x$/),
    rescued: 'DROP-1~1: work is in ~/x',
  })
})

test('what a dead promote left is reported by reconcile', async () => {
  await it.dieAt('promote', promote)
  await recoverAll(it.context)
  const { findings } = await reconcile(it.context, { dryRun: true, signal })
  expect(findings).toMatchObject(
    ['DROP-1~1', 'DROP-1~3', 'DROP-1~4'].map(ticket => ({
      ...{ ticket, finding: 'another attempt became the machine of its ticket' },
      step: 'save its unsaved work, and delete it',
    })),
  )
})

describe('an attempt that an earlier promote dismissed', () => {
  const earlier = actions.promote('DROP-1', 1)
  beforeEach(async () => {
    await it.dieAt('promote', earlier, 'github:2:0')
    expect(it.context.registry.environment('DROP-1~2')).toMatchObject({ dismissed: true })
  })

  test('is kept when somebody promotes it before it is deleted', async () => {
    expect(await it.do(promote)).toMatchObject({ result: 'done', environment: { vmId: chosen } })
    expect(it.context.registry.environment('DROP-1')).not.toHaveProperty('dismissed')
    await reconcile(it.context, { dryRun: false, signal })
    await expectPromoted()
  })

  test.for([
    ['the command line', { via: 'cli', who: 'ann' }],
    ['a comment', { via: 'github', who: 'ann', cause: 'command' }],
  ] as const)('is kept when somebody goes on with it by %s, and the others go', async ([, by]) => {
    expect(await it.do({ ...actions.checkpoint('DROP-1~2', 'mine'), by })).toMatchObject({ result: 'done' })
    expect(await it.do(earlier, { actionId: 'github:2:0' })).toMatchObject({
      summary: 'DROP-1~1 is now the machine of DROP-1. Deleted: the former machine of DROP-1, DROP-1~3',
    })
    await reconcile(it.context, { dryRun: false, signal })
    expect(keys()).toEqual(['DROP-1', 'DROP-1~2'])
  })

  test.for([
    ['an event', { via: 'jira', who: 'ann', cause: 'ticket moved' }],
    ['the clock', { via: 'clock', who: null }],
    ['a program in it', { via: 'machine', who: null }],
  ] as const)('is not kept by %s', async ([, by]) => {
    await it.do({ ...actions.stop('DROP-1~2'), by })
    expect(it.context.registry.environment('DROP-1~2')).toMatchObject({ status: 'stopped', dismissed: true })
    expect(await it.do(earlier, { actionId: 'github:2:0' })).toMatchObject({ result: 'done' })
    expect(keys()).toEqual(['DROP-1'])
  })
})

test('a merge deletes the ticket’s machine only when the attempt was promoted', async () => {
  const ofMerge = (kind: 'stop' | 'delete', promoted: number) => ({ ...actions[kind]('DROP-1'), promoted }) as Action
  const refused = {
    result: 'failed',
    failure: { kind: 'refused', message: expect.stringMatching(/DROP-1~[12] is not its machine/) },
  }
  expect(await it.do(ofMerge('delete', 2))).toMatchObject(refused)
  expect(await it.do(ofMerge('stop', 2))).toMatchObject(refused)
  // Another attempt became the machine of the ticket.
  await it.do(actions.promote('DROP-1', 1))
  expect(await it.do(ofMerge('delete', 2))).toMatchObject(refused)
  expect(it.context.registry.environment('DROP-1')).toMatchObject({ status: 'running' })
  expect(await it.do(ofMerge('delete', 1))).toMatchObject({ result: 'done' })
  // One that was made since is none of it.
  await it.do(actions.create('DROP-1'))
  expect(await it.do(ofMerge('delete', 1))).toMatchObject(refused)
})
