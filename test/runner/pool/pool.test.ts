/** Machines that are kept ready, on synthetic ones: what is handed out, told and given up. */
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { hostPage, hostStatus } from '../../../src/cli/status/host.ts'
import { fail } from '../../../src/errors.ts'
import { tryRunnerLock } from '../../../src/registry/lock.ts'
import { guestHash } from '../../../src/runner/link/guest-files.ts'
import { poolStandings, readyText, standingText } from '../../../src/runner/pool/standing.ts'
import { findAll, reconcile } from '../../../src/runner/reconciler/reconcile.ts'
import { recoverAll } from '../../../src/runner/recovery.ts'
import type { Action } from '../../../src/schema/action.ts'
import { actions } from '../../support/context.ts'
import { poolOf, setPools } from '../../support/pools.ts'
import { openStage, type Stage } from './stage.ts'

const T = 'DROP-1'
const HOUR = 60 * 60_000
const REPO = 'acme/shop'

let it: Stage['it']
let filler: Stage['filler']
let machines: Stage['machines']
let states: Stage['states']
let problem: Stage['problem']
let listed: Stage['listed']
let savedMachines: Stage['savedMachines']
let later: Stage['later']
let wrap: Stage['wrap']
let clean: Stage['clean']
beforeEach(async () => {
  ;({ it, filler, machines, states, problem, listed, savedMachines, later, wrap, clean } = await openStage())
})
afterEach(() => it.close())

describe('a create', () => {
  test('takes a ready machine, which gets its ticket, and the pool is filled again', async () => {
    setPools(it.context, poolOf())
    await filler.fill()
    const [ready] = machines()
    const outcome = await it.do(actions.create(T))
    expect(outcome).toMatchObject({
      result: 'done',
      summary: `${T} has a machine: ${ready?.vmId} on synthetic, a ready machine of the pool agent-swarm-base`,
      environment: { vmId: ready?.vmId, status: 'running', baseImage: 'agent-swarm-base' },
    })
    expect(await listed(ready?.vmId ?? '')).toMatchObject({ ticket: T, status: 'running' })
    expect((await listed(ready?.vmId ?? ''))?.paused).toBeUndefined()
    expect(machines()).toEqual([])
    await clean()
    await filler.fill()
    expect(states()).toEqual(['ready'])
    expect(await it.do(actions.delete(T))).toMatchObject({ result: 'done' })
    expect(it.machines()).toEqual(machines().map(({ vmId }) => vmId))
  })

  test('makes a machine where none is ready, or none is of its size', async () => {
    setPools(it.context, poolOf())
    expect(await it.do(actions.create(T))).toMatchObject({ summary: expect.not.stringContaining('kept ready') })
    await filler.fill()
    it.context.config = { ...it.context.config, limits: { cpus: 8, memoryMiB: 65_536, diskGiB: 100 } }
    const larger = { ...actions.create('DROP-2'), machine: { cpus: 8 } } as Action
    expect(await it.do(larger)).toMatchObject({ summary: expect.not.stringContaining('kept ready') })
    expect(states()).toEqual(['ready'])
  })

  test('takes no machine that is more than a day old, and the filler makes it anew', async () => {
    setPools(it.context, poolOf())
    await filler.fill()
    const [old] = machines()
    later(25 * HOUR)
    await it.do(actions.create(T))
    expect(it.vmIdOf(T)).not.toBe(old?.vmId)
    await filler.fill()
    expect(machines().map(({ vmId }) => vmId)).not.toContain(old?.vmId)
    expect(states()).toEqual(['ready'])
    expect(await listed(old?.vmId ?? '')).toBeUndefined()
  })

  test('takes no machine that somebody woke, or whose mark has a ticket', async () => {
    setPools(it.context, poolOf({ ready: 2 }))
    await filler.fill()
    const [woken, marked] = machines()
    await (await it.provider()).startVm(woken?.vmId ?? '')
    await (await it.provider()).assign?.(marked?.vmId ?? '', 'DROP-9')
    await it.do(actions.create(T))
    expect([woken?.vmId, marked?.vmId]).not.toContain(it.vmIdOf(T))
    await filler.fill()
    // One with a ticket is not the pool's to delete.
    expect(await listed(marked?.vmId ?? '')).toMatchObject({ ticket: 'DROP-9' })
    expect(await listed(woken?.vmId ?? '')).toBeUndefined()
  })

  test('one that cannot be brought up is removed, and another machine is made, which is told', async () => {
    setPools(it.context, poolOf())
    await filler.fill()
    const [ready] = machines()
    wrap(provider => ({
      ...provider,
      startVm: async (id, options) => {
        if (id === ready?.vmId) throw fail('unknown', 'starting it: its memory cannot be read')
        await provider.startVm(id, options)
      },
    }))
    expect(await it.do(actions.create(T))).toMatchObject({
      result: 'done',
      summary: expect.stringContaining(
        '. A ready machine could not be used, and this one was made anew: starting it: its memory cannot be read',
      ),
      environment: { status: 'running' },
    })
    expect(it.machines()).toEqual([it.vmIdOf(T)])
    expect(it.vmIdOf(T)).not.toBe(ready?.vmId)
    expect(machines()).toEqual([])
    await clean()
  })

  test('that is cancelled removes what it took', async () => {
    setPools(it.context, poolOf())
    await filler.fill()
    const cancelling = new AbortController()
    const onPhase = (phase: string) => {
      if (phase === 'address') cancelling.abort()
    }
    const outcome = await it.do(actions.create(T), { signal: cancelling.signal, onPhase })
    expect(outcome).toMatchObject({ result: 'failed', failure: { kind: 'cancelled' }, environment: null })
    expect([it.machines(), machines()]).toEqual([[], []])
    await clean()
  })

  test.for(['claim', 'start', 'address'])(
    'killed at %s, it is undone, and nothing is handed out twice',
    async phase => {
      setPools(it.context, poolOf())
      await filler.fill()
      const [ready] = machines()
      const { killed } = await killAt(phase)
      expect(killed).toBe(true)
      expect(machines()).toMatchObject([{ vmId: ready?.vmId, state: 'claimed' }])
      // Another create gets another machine meanwhile.
      await it.do(actions.create('DROP-2'))
      expect(it.vmIdOf('DROP-2')).not.toBe(ready?.vmId)
      await recoverAll(it.context)
      expect(it.context.registry.environment(T)).toBeNull()
      expect([machines(), it.machines()]).toEqual([[], [it.vmIdOf('DROP-2')]])
      await clean()
    },
  )

  test.for(['claim', 'start', 'address'])(
    'killed at %s, its next attempt goes on with the same machine',
    async phase => {
      setPools(it.context, poolOf())
      await filler.fill()
      const [ready] = machines()
      await killAt(phase, 'jira:1:0')
      expect(await it.do(actions.create(T), { actionId: 'jira:1:0' })).toMatchObject({ result: 'done' })
      expect(it.vmIdOf(T)).toBe(ready?.vmId)
      expect(machines()).toEqual([])
      await clean()
    },
  )
})

/** A create in another context of this home, with the same pools, that dies at a phase. */
const killAt = async (phase: string, actionId: string | null = null): Promise<{ killed: boolean }> => {
  const { writeFileSync } = await import('node:fs')
  writeFileSync(`${it.home}/config.yaml`, 'pool: [{image: agent-swarm-base}]\n', { mode: 0o600 })
  return { killed: await it.dieAt(phase, actions.create(T), actionId) }
}

describe('a guest that is reached over SSH', () => {
  const ID = '0a'.repeat(16)
  const at = { host: '192.0.2.1', user: 'agent' }
  const portOf = (vmId: string) => Number.parseInt(vmId.slice(-4), 16) || 1
  let guest: { id: string | ((vmId: string) => string); behind: number; names: string[] }
  beforeEach(() => {
    guest = { id: ID, behind: 0, names: [] }
    const { run } = it.context
    it.context.run = async (program, argv, options) => {
      if (program !== 'ssh') return run(program, argv, options)
      const { input = '', onLine = () => {} } = options ?? {}
      const name = input.match(/^name=(.+)$/m)?.[1]
      if (name !== undefined) guest.names.push(name)
      const clock = `clock ${(it.context.clock().getTime() / 1000 - guest.behind).toFixed(3)}`
      const vmId = argv.find(word => word.startsWith('HostKeyAlias='))?.slice('HostKeyAlias='.length) ?? ''
      const asked = /^fresh=|date -s/m.test(input)
      const id = typeof guest.id === 'string' ? guest.id : asked ? guest.id(vmId) : ''
      const lines = asked ? ['random reseeded', `machine-id ${id}`, clock] : [guestHash()]
      for (const line of lines) onLine(line)
      return { stdout: `${lines.join('\n')}\n`, stderr: '', exitCode: 0, milliseconds: 0 }
    }
    wrap(({ runInGuest: _, ownSystem: __, ...provider }) => ({
      ...provider,
      sshInfo: async vmId => ({ ...at, port: portOf(vmId) }),
    }))
    setPools(it.context, poolOf())
  })

  test('gets the host name that a machine made for the ticket would have', async () => {
    await filler.fill()
    expect(machines()).toMatchObject([{ machineId: ID }])
    const [ready] = machines()
    expect(await it.do(actions.create('SHOP_2-7'))).toMatchObject({
      summary: expect.stringContaining('a ready machine of the pool'),
      environment: { ssh: { ...at, port: portOf(ready?.vmId ?? '') } },
    })
    expect(guest.names).toEqual([`as-shop-2-7-${ready?.vmId.slice(-8)}`])
  })

  test.for<[string, Partial<typeof guest>, string]>([
    ['another machine-id', { id: '0b'.repeat(16) }, 'Its machine-id is not the one that it had when it was made ready'],
    ['none', { id: 'none' }, 'It has no machine-id'],
    ['a clock that nothing sets', { behind: 57 }, 'Its clock is 57.0 s behind'],
  ])('with %s is not handed out', async ([, change, text]) => {
    await filler.fill()
    const [ready] = machines()
    Object.assign(guest, change)
    expect(await it.do(actions.create(T))).toMatchObject({
      result: 'done',
      summary: expect.stringContaining(`A ready machine could not be used, and this one was made anew: ${text}`),
    })
    expect(it.vmIdOf(T)).not.toBe(ready?.vmId)
    expect(await listed(ready?.vmId ?? '')).toBeUndefined()
  })

  test('whose machines fail again and again says so; no create pays for it twice more, until other machines are ready', async () => {
    setPools(it.context, poolOf({ ready: 3, most: 3 }))
    // Each has an id of its own when it is made, and another one afterwards.
    let made = 0
    guest.id = () => {
      made += 1
      return made.toString(16).padStart(32, '0')
    }
    await filler.fill()
    expect(problem()).toBeNull()
    const [one, two, third] = machines()
    const create = (ticket: string) => it.do(actions.create(ticket))
    const failed = expect.stringContaining('A ready machine could not be used')
    for (const [ticket, machine] of [
      ['DROP-1', one],
      ['DROP-2', two],
    ] as const) {
      expect(await create(ticket)).toMatchObject({ summary: failed })
      expect(problem()).toMatch(new RegExp(`^a create could not take ${machine?.vmId}: Its machine-id is not`))
    }
    expect(await create('DROP-3')).toMatchObject({ summary: expect.not.stringContaining('ready machine') })
    expect(machines().map(({ vmId }) => vmId)).toEqual([third?.vmId])
    // It waits, as after a failure to make one, and gives up what was made as they were.
    later(1)
    expect(await filler.round()).toBe(false)
    expect(machines()).toEqual([])
    expect(problem()).toContain('a create could not take')
    later(HOUR)
    await filler.fill()
    expect(machines()).toHaveLength(3)
    expect(problem()).toContain('a create could not take')
    const ids = new Map(machines().map(({ vmId, machineId }) => [vmId, machineId]))
    guest.id = vmId => ids.get(vmId) ?? ''
    expect(await create('DROP-4')).toMatchObject({ summary: expect.stringContaining('a ready machine of the pool') })
    expect(problem()).toBeNull()
  })

  test('with the machine-id of another ready machine never becomes ready', async () => {
    setPools(it.context, poolOf({ ready: 2 }))
    await filler.fill()
    expect(states()).toEqual(['ready'])
    expect(problem()).toMatch(/it has the machine-id of as-pool-[0-9a-f]{8}, another ready machine$/)
  })
})

test('people see what is ready, how many are wanted, and what is wrong', async () => {
  setPools(it.context, poolOf({ ready: 2 }), poolOf({ image: null, repository: 'acme/shop' }))
  filler.setHead(REPO, null)
  await filler.fill()
  const standings = poolStandings(it.context)
  expect(standings).toMatchObject([
    { pool: 'agent-swarm-base', ready: 2, wanted: 2, problem: null },
    { pool: 'acme/shop', ready: 0, wanted: 1, problem: expect.stringContaining('could not resolve host') },
  ])
  expect(standings.map(readyText)).toEqual(['2 ready machines of agent-swarm-base', '0 ready machines of acme/shop'])
  const { status } = await hostStatus(it.context, null)
  expect(status.pools).toEqual(standings)
  const terminal = { stdout: { isTTY: false }, env: {} } as never
  const page = hostPage(status, it.home, { now: it.context.clock(), terminal })
  expect(page).toContain(
    'READY\nagent-swarm-base: 2 of 2 machines ready\nacme/shop: 0 of 1 machine ready. The runner makes them; it is not running: agent-swarm up\n',
  )
})

test('machines of a pool that the settings have no more are not ready for anybody', async () => {
  setPools(it.context, poolOf({ ready: 2 }))
  await filler.fill()
  setPools(it.context)
  const [standing] = poolStandings(it.context)
  if (standing === undefined) throw new Error('no pool')
  const left = 'agent-swarm-base: 2 machines left from earlier settings; the runner deletes them'
  expect(standingText(it.context, standing)).toEqual({
    ...{ text: `${left}; it is not running: agent-swarm up`, isStuck: true },
  })
  const release = tryRunnerLock(it.home)
  onTestFinished(() => release?.())
  expect(standingText(it.context, standing)).toEqual({ text: left, isStuck: false })
})

describe('what becomes of it without its filler', () => {
  const by = { via: 'clock', who: null } as const
  const signal = new AbortController().signal

  test.for(['filling', 'leaving'] as const)('one that is %s when its process dies is deleted', async state => {
    const { registry } = it.context
    setPools(it.context, poolOf())
    await filler.fill()
    const [ready] = machines()
    if (ready === undefined) throw new Error('none is ready')
    const vmId = 'as-pool-0000abcd'
    const at = new Date().toISOString()
    registry.beginPoolMachine({ ...ready, vmId }, { by, at })
    if (state === 'leaving') registry.leavePool(vmId, at)
    const provider = await it.provider()
    const keys = { publicKey: '', hostKey: { privateKey: '', publicKey: '' } }
    await provider.createVm(null, 'none', { vmId, cpus: 1, memoryMiB: 256, diskGiB: 2, ...keys })
    expect((await findAll(it.context)).found).toMatchObject([{ vmId, does: 'remove-temporary' }])
    await reconcile(it.context, { dryRun: false, signal })
    expect(await listed(vmId)).toBeUndefined()
    expect(machines()).toMatchObject([{ vmId: ready.vmId }])
    await clean()
  })

  test('one that the hypervisor lost is told, and forgotten', async () => {
    setPools(it.context, poolOf())
    await filler.fill()
    const [ready] = machines()
    await (await it.provider()).deleteVm(ready?.vmId ?? '')
    expect((await findAll(it.context)).found).toMatchObject([
      { vmId: ready?.vmId, finding: 'a ready machine of agent-swarm-base no longer exists' },
    ])
    await reconcile(it.context, { dryRun: false, signal })
    expect(machines()).toEqual([])
    await clean()
  })

  test('a pool that the settings have no more is given up', async () => {
    setPools(it.context, poolOf())
    await filler.fill()
    setPools(it.context)
    await filler.round()
    expect([machines(), it.machines()]).toEqual([[], []])
  })
})

describe('stop --save', () => {
  const save = (ticket: string) => ({ ...actions.stop(ticket), save: true }) as Action

  test('keeps the memory; a start goes on with it, and it takes no memory of the host', async () => {
    await it.do(actions.create(T))
    expect(await it.do(save(T))).toMatchObject({
      result: 'done',
      summary: `The memory of ${T} is saved and the machine is off. It goes on where it is: agent-swarm start ${T}`,
      environment: { status: 'stopped', idle: { state: 'saved' } },
    })
    expect(await savedMachines()).toEqual([it.vmIdOf(T)])
    expect(await it.do(save(T))).toMatchObject({ result: 'skipped' })
    await clean()
    expect(await it.do(actions.checkpoint(T, 'one'))).toMatchObject({ result: 'done' })
    expect(await savedMachines()).toEqual([])
    expect(await it.do(save(T))).toMatchObject({ result: 'done' })
    expect(await it.do(actions.start(T))).toMatchObject({ summary: expect.stringContaining('with its saved memory') })
  })

  test('is refused where the provider cannot, and the machine runs on', async () => {
    wrap(({ save: _, ...provider }) => provider)
    await it.do(actions.create(T))
    expect(await it.do(save(T))).toMatchObject({
      result: 'failed',
      failure: { kind: 'unsupported', remedy: `Stop it without its memory: agent-swarm stop ${T}` },
      environment: { status: 'running' },
    })
  })
})
