/**
 * The process dies at each command, before AWS gets it or before its answer arrives. From then on it does nothing more. What the
 * next start does, finishing the create or undoing it, leaves one machine or nothing, and nothing without an owner.
 */
import { expect, onTestFinished, test } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
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
/** What exists and is not ours by its mark. */
const withoutOwner = ({ ec2 }: Unit): string[] => {
  const { instances, volumes, snapshots, requests } = ec2.state
  const present = [...instances.values()].filter(({ state }) => state !== 'terminated')
  return [...present, ...volumes.values(), ...snapshots.values(), ...requests.values()]
    .filter(({ tags }) => tagValue(tags, 'agent-swarm:vm') !== ID || tagValue(tags, 'agent-swarm:home') !== HOME_ID)
    .map(({ id }) => id)
}

type Case = {
  begin: () => Promise<Unit>
  work: (provider: Provider) => Promise<unknown>
  /** What the next start does, and what there is then. */
  next: (provider: Provider) => Promise<unknown>
  check: (unit: Unit) => unknown
}
const fresh = async () => openUnit({ looks: { change: 1, shown: 2 }, settings: { awsMarket: 'spot' } })
const aliveOf = ({ ec2 }: Unit) => ec2.instancesOf(ID).filter(({ state }) => state !== 'terminated').length

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
