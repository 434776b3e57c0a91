/**
 * The process dies at each command, before AWS gets it or before its answer arrives. From then on it does nothing more. What the
 * next start does, finishing the create or undoing it, leaves one machine or nothing, and nothing without an owner.
 */
import { expect, onTestFinished, test } from 'vitest'
import type { ForkTarget, Provider } from '../../../providers/provider.ts'
import { allow } from '../../../src/errors.ts'
import { awsOptions, BASE, HOME_ID, openUnit, type Unit } from '../../support/ec2/bench.ts'
import { tagValue } from '../../support/ec2/ec2.ts'
import { some } from '../../support/samples.ts'

const ID = 'as-ab-1-00000001'
const DIED = 'the process died here'

/** Runs the work until its n-th command. False: it ended before. */
const dieAt = async (
  unit: Unit,
  at: number,
  when: 'before' | 'after',
  work: (provider: Provider) => Promise<unknown>,
) => {
  const from = unit.ec2.calls.length
  let isDead = false
  unit.ec2.watch(call => {
    isDead ||= call.at - from === at && call.when === when
    if (isDead) throw new Error(DIED)
  })
  const error = await work(unit.open()).then(
    () => null,
    thrown => thrown,
  )
  unit.ec2.watch(() => {})
  if (error !== null && !String(error).includes(DIED)) throw error
  return isDead
}

const create = (provider: Provider) => provider.createVm('AB-1', BASE, awsOptions(ID))
const running = async (): Promise<Unit> => {
  const unit = openUnit({ looks: { change: 1, shown: 2 }, settings: { awsMarket: 'spot' } })
  await create(unit.provider)
  await unit.provider.startVm(ID)
  return unit
}
const saved = async (): Promise<Unit> => {
  const unit = await running()
  await unit.ec2.script(ID, 'echo saved >state')
  await unit.provider.checkpoint(ID, 'one')
  await unit.ec2.script(ID, 'echo later >state')
  return unit
}
/** What exists and is not ours by its mark. An image has it in its name until it has tags. */
const withoutOwner = ({ ec2 }: Unit): string[] => {
  const { instances, volumes, snapshots, requests, images } = ec2.state
  const present = [...instances.values()].filter(({ state }) => state !== 'terminated')
  const things = [...present, ...volumes.values(), ...snapshots.values(), ...requests.values()]
  const isOurs = (vmId: string | null, home: string | null) =>
    [ID, ...FORKS.map(fork => fork.vmId)].includes(vmId ?? '') && home === HOME_ID
  return [
    ...things.filter(({ tags }) => !isOurs(tagValue(tags, 'agent-swarm:vm'), tagValue(tags, 'agent-swarm:home'))),
    ...[...images.values()].filter(({ isRegistered, name }) => {
      const [, home = null, vmId = null] = name.split('/')
      return isRegistered && !isOurs(vmId, home)
    }),
  ].map(({ id }) => id)
}

type Case = {
  begin: () => Promise<Unit>
  work: (provider: Provider) => Promise<unknown>
  /** What the next start does, and what there is then. */
  next: (provider: Provider) => Promise<unknown>
  check: (unit: Unit) => unknown
}
const FORKS: ForkTarget[] = [1, 2].map(n => {
  const { vmId, publicKey, hostKey } = awsOptions(`as-ab-1-${n}-0000000${n}`)
  return { vmId, publicKey, hostKey, ticket: `AB-1~${n}` }
})
const fork =
  (checkpoint: string | null) =>
  async (provider: Provider): Promise<void> =>
    provider.fork?.(ID, checkpoint, FORKS)
/** The same one, forked and with its source as it was; nothing that a fork needs for a while is left. */
const checkForks = async (unit: Unit, state: string): Promise<void> => {
  const { ec2 } = unit
  for (const { vmId } of FORKS) {
    expect(await ec2.script(vmId, 'cat state')).toBe(state)
    await unit.open().deleteVm(vmId)
  }
  expect(await ec2.script(ID, 'cat state')).toBe('later')
  expect([ec2.state.volumes.size, ec2.state.snapshots.size, ec2.state.images.size]).toEqual([1, 1, 1])
}
const fresh = async () => openUnit({ looks: { change: 1, shown: 2 }, settings: { awsMarket: 'spot' } })
/** Instances of any machine. */
const aliveOf = ({ ec2 }: Unit) =>
  [...ec2.state.instances.values()].filter(({ state }) => state !== 'terminated').length

const cases: Readonly<Record<string, Case>> = {
  'create, which is done again': {
    begin: fresh,
    work: create,
    next: create,
    check: unit => expect(aliveOf(unit)).toBe(1),
  },
  'create, which is undone': {
    begin: fresh,
    work: create,
    next: provider => provider.deleteVm(ID),
    check: ({ ec2 }) => expect(ec2.everything()).toEqual([]),
  },
  'checkpoint, which is made again': {
    begin: running,
    work: provider => provider.checkpoint(ID, 'one'),
    next: async provider => {
      if ((await provider.listCheckpoints(ID)).includes('one')) return
      await provider.checkpoint(ID, 'one').catch(allow('already-exists'))
    },
    check: async unit => expect(await unit.open().listCheckpoints(ID)).toEqual(['one']),
  },
  'restore, which is done again': {
    begin: saved,
    work: provider => provider.restore(ID, 'one'),
    next: provider => provider.restore(ID, 'one'),
    check: async unit => {
      expect(await unit.ec2.script(ID, 'cat state')).toBe('saved')
      expect(unit.ec2.state.volumes.size).toBe(1)
    },
  },
  'restore, after which the mark is written again': {
    begin: saved,
    work: provider => provider.restore(ID, 'one'),
    // What the runner does when it recovers a restore, and then AWS has as much time as it wants.
    next: async provider => {
      await provider.assign?.(ID, 'AB-1')
      for (let n = 0; n < 10; n += 1) await provider.listVms()
    },
    check: async unit => {
      expect(['saved', 'later']).toContain(await unit.ec2.script(ID, 'cat state'))
      // The disk that AWS replaced goes with the next checkpoint.
      await unit.open().checkpoint(ID, 'next')
      expect(unit.ec2.state.volumes.size).toBe(1)
    },
  },
  'fork, which is done again': {
    begin: saved,
    work: fork(null),
    next: fork(null),
    check: unit => checkForks(unit, 'later'),
  },
  'fork of a checkpoint, which is done again': {
    begin: saved,
    work: fork('one'),
    next: fork('one'),
    check: unit => checkForks(unit, 'saved'),
  },
  'fork, which is undone': {
    begin: saved,
    work: fork(null),
    // What the runner does with attempts that were not handed out.
    next: provider => Promise.all(FORKS.map(({ vmId }) => provider.deleteVm(vmId))),
    check: unit => {
      const { volumes, snapshots, images } = unit.ec2.state
      expect([volumes.size, snapshots.size, images.size, aliveOf(unit)]).toEqual([1, 1, 1, 1])
    },
  },
  'delete, which is done again': {
    begin: saved,
    work: provider => provider.deleteVm(ID),
    next: provider => provider.deleteVm(ID),
    check: ({ ec2 }) => expect(ec2.everything()).toEqual([]),
  },
}

for (const [name, { begin, work, next, check }] of Object.entries(cases))
  for (const when of some(['before', 'after'] as const, 2))
    test(`${name}, ${when} each command`, { timeout: 120_000 }, async () => {
      let points = 0
      for (let at = 0; ; at += 1) {
        const unit = await begin()
        onTestFinished(unit.ec2.close)
        if (!(await dieAt(unit, at, when, work))) break
        points += 1
        await next(unit.open())
        await check(unit)
        expect(withoutOwner(unit), `${name}: ${when} command ${at}`).toEqual([])
      }
      expect(points).toBeGreaterThan(2)
    })
