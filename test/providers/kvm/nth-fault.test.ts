/**
 * Each action of kvm, with a virsh whose n-th process fails once, for every n: before it did anything, or after, so that only its
 * answer is lost. The same call repeated succeeds, and a delete leaves nothing.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
import { isFailure } from '../../../src/errors.ts'
import { fakeKvm, options, VM } from './fake-virsh.ts'
import { statefulVirsh } from './stateful-virsh.ts'

const IMAGE = 'agent-swarm-base'
let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-nth-'))
})
afterEach(() => rmSync(home, { recursive: true }))

type Act = (provider: Provider) => Promise<unknown>
const create: Act = provider => provider.createVm('A-1', IMAGE, options)
const start: Act = provider => provider.startVm(VM)
/** The runner looks for the name when it repeats a checkpoint: it is not idempotent. */
const checkpoint: Act = async provider =>
  (await provider.listCheckpoints(VM)).includes('one') || provider.checkpoint(VM, 'one')
const cases: readonly [name: string, before: Act[], act: Act, expected: string | null][] = [
  ['create', [], create, 'stopped'],
  ['start', [create], start, 'running'],
  ['checkpoint', [create, start], checkpoint, 'running'],
  ['restore', [create, start, checkpoint], provider => provider.restore(VM, 'one'), 'running'],
  ['stop', [create, start], provider => provider.stopVm(VM), 'stopped'],
  ['delete', [create, start, checkpoint], provider => provider.deleteVm(VM), null],
]
const faults = (['before', 'after'] as const).flatMap(when =>
  (['refused', 'timeout'] as const).map(as => ({ when, as })),
)

test.for(cases.flatMap(each => faults.map(fault => [each[0], fault.when, fault.as, each] as const)))(
  '%s, with a fault %s each call of virsh in turn (%s)',
  async ([name, when, as, [, before, act, expected]]) => {
    let failures = 0
    for (let nth = 0; ; nth += 1) {
      const virsh = statefulVirsh(`${IMAGE}.qcow2`)
      const { provider } = fakeKvm([], { home, run: virsh.run })
      for (const each of before) await each(provider)
      virsh.failAt({ nth, when, as })
      const failure = await act(provider).then(
        () => null,
        (error: unknown) => error,
      )
      const isOver = virsh.calls() <= nth
      virsh.failAt(null)
      if (failure !== null) {
        failures += 1
        expect(isFailure(failure), `call ${nth}: ${failure}`).toBe(true)
        // A create that fails leaves nothing behind.
        if (name === 'create') expect([virsh.domains(), virsh.volumes()], `call ${nth}`).toEqual([{}, []])
        await act(provider)
      }
      expect(virsh.domains(), `call ${nth}`).toEqual(expected === null ? {} : { [VM]: expected })
      if (name === 'checkpoint' || name === 'restore')
        expect(await provider.listCheckpoints(VM), `call ${nth}`).toEqual(['one'])
      // Whatever failed, the next look finds a guest that runs.
      if (expected === 'running')
        expect(await provider.listVms(), `call ${nth}`).toEqual([expect.not.objectContaining({ paused: 'by a user' })])
      await provider.deleteVm(VM)
      expect([virsh.domains(), virsh.volumes()], `call ${nth}`).toEqual([{}, []])
      if (isOver) break
    }
    // A start whose answer is lost finds that the machine runs.
    expect(failures).toBeGreaterThan(0)
  },
)
