/**
 * Each action, with a hypervisor whose n-th call fails once, for every n; and with the fault after the call did its work, as when
 * its answer is lost. Then the same action is repeated, as the queue does: it succeeds, and nothing is left over.
 */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Provider } from '../../providers/provider.ts'
import { fail } from '../../src/errors.ts'
import { execute } from '../../src/runner/executor.ts'
import { recoverAll } from '../../src/runner/recovery.ts'
import type { Action } from '../../src/schema/action.ts'
import { actions, openTestContext, type TestContext } from '../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
})
afterEach(() => it.close())

type Fault = 'before' | 'after'

/** The provider, whose `nth` call (from 0) fails once. */
const faulty = (provider: Provider, nth: number, fault: Fault): { provider: Provider; calls: () => number } => {
  let calls = 0
  const fails = () => fail('hypervisor-unreachable', 'virsh: failed to connect to the hypervisor')
  const wrap = (method: unknown) =>
    typeof method !== 'function'
      ? method
      : async (...parameters: unknown[]) => {
          const isNow = calls === nth
          calls += 1
          if (isNow && fault === 'before') throw fails()
          const result: unknown = await method.apply(provider, parameters)
          if (isNow) throw fails()
          return result
        }
  const wrapped = Object.fromEntries(Object.entries(provider).map(([name, member]) => [name, wrap(member)]))
  return { provider: wrapped as Provider, calls: () => calls }
}

const perform = async (action: Action, provider: Provider, actionId: string) => {
  const signal = new AbortController().signal
  const context = { ...it.context, provider: async () => provider, chosenProvider: async () => provider }
  return execute(context, action, { actionId, correlation: null, signal, onPhase: () => {} })
}

const cases: readonly [name: string, before: Action[], action: Action, expected: string | null][] = [
  ['create', [], actions.create('DROP-1'), 'running'],
  ['checkpoint', [actions.create('DROP-1')], actions.checkpoint('DROP-1', 'one'), 'running'],
  [
    'restore',
    [actions.create('DROP-1'), actions.checkpoint('DROP-1', 'one')],
    actions.restore('DROP-1', 'one'),
    'running',
  ],
  ['stop', [actions.create('DROP-1')], actions.stop('DROP-1'), 'stopped'],
  ['start', [actions.create('DROP-1'), actions.stop('DROP-1')], actions.start('DROP-1'), 'running'],
  ['delete', [actions.create('DROP-1')], actions.delete('DROP-1'), null],
]
const faults = cases.flatMap(each => (['before', 'after'] as const).map(fault => [each[0], fault, each] as const))

test.for(faults)(
  '%s, with a fault %s each call of the hypervisor in turn',
  async ([kind, fault, [, before, action, expected]]) => {
    const real = await it.provider()
    let reached = 0
    for (let nth = 0; ; nth += 1) {
      for (const each of before) expect(await it.do(each)).toMatchObject({ result: 'done' })
      const { provider, calls } = faulty(real, nth, fault)
      const actionId = `${kind}:${nth}`
      const first = await perform(action, provider, actionId)
      const isOver = calls() <= nth
      if (first.result === 'failed') {
        reached += 1
        expect(first.failure.message, `call ${nth}`).not.toBe('')
        await recoverAll(it.context)
        // A machine that could not be asked for its work is kept, stopped: a person starts it, and deletes it again.
        const isKept = first.failure.kind === 'unsaved-work'
        if (isKept) expect(await it.do(actions.start('DROP-1'))).toMatchObject({ result: 'done' })
        // Anything else the queue repeats.
        const again = await it.do(action, isKept ? {} : { actionId })
        expect(again.result, `call ${nth}: ${JSON.stringify([first, again])}`).not.toBe('failed')
      }
      const [environment] = it.context.registry.environments()
      expect(environment?.status ?? null, `call ${nth}`).toBe(expected)
      expect(it.machines(), `call ${nth}`).toHaveLength(expected === null ? 0 : 1)
      expect(it.context.registry.openOperations('DROP-1')).toEqual([])
      if (kind === 'checkpoint')
        expect(it.context.registry.checkpoints('DROP-1').map(({ name }) => name)).toEqual(
          await real.listCheckpoints(it.vmIdOf('DROP-1')),
        )
      // Begins anew.
      if (expected !== null) expect(await it.do(actions.delete('DROP-1', true))).toMatchObject({ result: 'done' })
      expect(it.machines()).toEqual([])
      if (isOver) break
    }
    expect(reached).toBeGreaterThan(0)
  },
)
