/** Forks: what each has of its own, what stays of the machine that is forked, and what a failure leaves. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { ForkTarget } from '../../../providers/provider.ts'
import type { Run } from '../../../src/exec.ts'
import { HOME_ID, IMAGE, imageVm, openTartBench, ready, type TartBench, tartOptions } from '../../support/tart/bench.ts'

const ID = 'as-drop-1-0000000a'
const VM = `${ID}.DROP-1.${HOME_ID}`
const [ONE, TWO] = ['as-drop-1-1-0000000b', 'as-drop-1-2-0000000c'] as const
const FORKS = [`${ONE}.DROP-1_1.${HOME_ID}`, `${TWO}.DROP-1_2.${HOME_ID}`] as const
const targetOf = (vmId: string, ticket: ForkTarget['ticket']): ForkTarget => ({
  ...{ vmId, ticket, publicKey: `ssh-ed25519 AAAA ${vmId}` },
  hostKey: { privateKey: `PRIVATE ${vmId}\n`, publicKey: `ssh-ed25519 BBBB ${vmId}` },
})
const TARGETS = [targetOf(ONE, 'DROP-1~1'), targetOf(TWO, 'DROP-1~2')]
const kind = (failure: string) => ({ failure: { kind: failure } })

let bench: TartBench
beforeEach(() => {
  bench = openTartBench()
})
afterEach(() => bench.close())
const create = () => bench.provider.createVm('DROP-1', IMAGE, tartOptions(ID))
const start = async (vmId = ID) => {
  await bench.provider.startVm(vmId)
  await ready(bench, vmId)
}
const fork = (checkpoint: string | null = null) => bench.provider.fork?.(ID, checkpoint, TARGETS)
const inGuest = (vm: string, name: string) => join(bench.mac.guestOf(vm) ?? '', name)
const read = (vm: string, name: string) => readFileSync(inGuest(vm, name), 'utf8')
const macOf = (vm: string): string =>
  JSON.parse(readFileSync(join(bench.mac.tartHome, 'vms', vm, 'config.json'), 'utf8')).macAddress
const folders = () => readdirSync(join(bench.home, 'tart/machines')).sort()
/** What a seed gives swarm-seed: the values of a name. */
const seedOf = (vmId: string) => {
  const text = readFileSync(join(bench.home, 'tart/machines', vmId, 'seed.iso'), 'latin1')
  return (name: string) => [...text.matchAll(new RegExp(`^(?:.*\\0)?${name} (.*)$`, 'gm'))].map(([, value]) => value)
}

test('each fork of a machine that runs boots as a machine of its own, and the machine is as before', async () => {
  const { mac, provider } = bench
  await create()
  await start()
  writeFileSync(inGuest(VM, 'home/work'), 'hello')
  writeFileSync(inGuest(VM, 'home/.ssh/authorized_keys'), 'ssh-ed25519 CCCC a person\n', { flag: 'a' })
  await provider.checkpoint(ID, 'one')
  await ready(bench, ID)
  const before = [await provider.listVms(), await provider.listCheckpoints(ID), macOf(VM), read(VM, 'machine-id')]
  await fork()
  expect((await provider.listVms()).filter(({ vmId }) => vmId !== ID)).toEqual([
    { vmId: ONE, ticket: 'DROP-1~1', ip: null, status: 'stopped' },
    { vmId: TWO, ticket: 'DROP-1~2', ip: null, status: 'stopped' },
  ])
  await ready(bench, ID)
  for (const vmId of [ONE, TWO]) await start(vmId)
  const machines = [VM, ...FORKS]
  for (const own of [macOf, (vm: string) => read(vm, 'machine-id'), (vm: string) => read(vm, 'hostname')])
    expect(new Set(machines.map(own)).size).toBe(3)
  expect(new Set((await provider.listVms()).map(({ ip }) => ip)).size).toBe(3)
  for (const [vm, { vmId, publicKey, hostKey }] of [
    [FORKS[0], TARGETS[0]],
    [FORKS[1], TARGETS[1]],
  ] as [string, ForkTarget][]) {
    expect(read(vm, 'home/work')).toBe('hello')
    expect(read(vm, 'home/.ssh/authorized_keys')).toBe(`${publicKey}\n`)
    expect(read(vm, 'host-keys')).toBe(`${hostKey.publicKey}\n`)
    expect(read(vm, 'first-boots')).toBe(`${ID}\n${vmId}\n`)
    expect(await provider.listCheckpoints(vmId)).toEqual([])
  }
  const source = (await provider.listVms()).filter(({ vmId }) => vmId === ID)
  expect([source, await provider.listCheckpoints(ID), macOf(VM), read(VM, 'machine-id')]).toEqual(before)
  expect(read(VM, 'first-boots')).toBe(`${ID}\n`)
  expect(mac.vms()).toHaveLength(5)
  for (const trap of ['clone does not check that the source is stopped', 'clone replaces a VM without a word'])
    expect(mac.sprung()).not.toContain(trap)
})

test('the seed of a fork has an instance id, keys and a machine-id of its own; that of a new machine has no machine-id', async () => {
  await create()
  await fork()
  expect(seedOf(ID)('machine-id')).toEqual([])
  for (const { vmId, publicKey, hostKey } of TARGETS) {
    const seed = seedOf(vmId)
    expect([seed('instance'), seed('hostname')]).toEqual([[vmId], [vmId]])
    expect([seed('login-key'), seed('host-public-key')]).toEqual([[publicKey], [hostKey.publicKey]])
    expect(seed('host-key')).toEqual([hostKey.privateKey.trim()])
    expect(seed('machine-id')).toEqual([expect.stringMatching(/^[0-9a-f]{32}$/)])
  }
  expect(seedOf(ONE)('machine-id')).not.toEqual(seedOf(TWO)('machine-id'))
})

test('a stopped machine stays stopped, and one that runs goes on while a checkpoint of it is forked', async () => {
  const { provider } = bench
  await create()
  writeFileSync(inGuest(VM, 'state'), 'one')
  await provider.checkpoint(ID, 'one')
  writeFileSync(inGuest(VM, 'state'), 'two')
  await fork()
  expect(await provider.status(ID)).toBe('stopped')
  expect(read(FORKS[1], 'state')).toBe('two')
  await start()
  const commands: string[] = []
  const watched = bench.open({ onCommand: ({ program, argv }) => commands.push([program, ...argv].join(' ')) })
  await watched.fork?.(ID, 'one', TARGETS)
  expect(commands.filter(command => / run | stop |^kill/.test(command))).toEqual([])
  expect(FORKS.map(vm => read(vm, 'state'))).toEqual(['one', 'one'])
  expect(await provider.status(ID)).toBe('running')
})

test('neither the machine nor its checkpoints nor the image need their forks, nor the forks them', async () => {
  const { mac, provider } = bench
  await create()
  await provider.checkpoint(ID, 'one')
  await fork('one')
  await provider.deleteVm(ONE)
  await provider.restore(ID, 'one')
  await start()
  await provider.deleteVm(ID)
  await provider.deleteBaseImage?.(IMAGE)
  await start(TWO)
  await provider.checkpoint(TWO, 'own')
  await provider.restore(TWO, 'own')
  await ready(bench, TWO)
  expect(read(FORKS[1], 'first-boots')).toBe(`${TWO}\n`)
  await provider.deleteVm(TWO)
  expect([mac.vms(), folders(), readdirSync(join(mac.tartHome, 'guests'))]).toEqual([[], [], []])
})

test('what an interrupted call left is made anew, also one that somebody started', async () => {
  const { mac, provider } = bench
  await create()
  await start()
  await fork()
  await start(ONE)
  mac.tart('rename', FORKS[1], `${TWO}.new.${HOME_ID}`)
  writeFileSync(inGuest(VM, 'state'), 'later')
  await fork()
  expect(mac.vms()).toEqual([imageVm(), VM, ...FORKS].sort())
  expect((await provider.listVms()).map(({ vmId, status }) => [vmId, status])).toEqual([
    [ID, 'running'],
    [ONE, 'stopped'],
    [TWO, 'stopped'],
  ])
  expect(FORKS.map(vm => read(vm, 'state'))).toEqual(['later', 'later'])
})

/** The n-th command of this name fails. */
const failing = (name: string, nth: number) => {
  let count = 0
  return (run: Run): Run =>
    (program, argv, options) => {
      if (argv[0] === name) count += 1
      return run(program, argv[0] === name && count === nth ? [name, '--no-such-flag'] : argv, options)
    }
}

test.for<[string, number]>([
  ['clone', 1],
  ['set', 1],
  ['rename', 2],
])('tart %s fails at fork %i: there is none, and the machine runs on', async ([name, nth]) => {
  const { mac } = bench
  await create()
  await start()
  const broken = bench.open({ wrap: failing(name, nth) })
  await expect(broken.fork?.(ID, null, TARGETS)).rejects.toMatchObject(kind('unsupported'))
  expect([mac.vms(), folders()]).toEqual([[imageVm(), VM].sort(), [ID]])
  expect(await bench.provider.status(ID)).toBe('running')
  expect(await bench.provider.leftovers?.()).toEqual([])
})

test('when the machine does not start again, the fork fails and says so, and leaves nothing', async () => {
  const { mac, provider } = bench
  await create()
  await start()
  mac.knobs({ keychainLocked: true })
  await expect(fork()).rejects.toMatchObject(kind('permission'))
  mac.knobs({})
  expect([mac.vms(), folders(), await provider.status(ID)]).toEqual([[imageVm(), VM].sort(), [ID], 'stopped'])
})

test('what cannot be forked is refused while the machine runs on', async () => {
  const { mac, provider } = bench
  await expect(fork()).rejects.toMatchObject(kind('no-such-vm'))
  await create()
  await start()
  const commands: string[] = []
  const watched = bench.open({ onCommand: ({ argv }) => commands.push(argv[0] ?? '') })
  const made = (ticket: string) => watched.fork?.(ID, null, [targetOf(ONE, ticket)])
  await expect(watched.fork?.(ID, 'nowhere', TARGETS)).rejects.toMatchObject(kind('no-such-checkpoint'))
  await expect(made('../x')).rejects.toMatchObject(kind('usage'))
  mac.tart('clone', imageVm(), `${ONE}.DROP-1_1.ffff000011112222`)
  await expect(made('DROP-1~1')).rejects.toMatchObject(kind('not-ours'))
  await expect(bench.open({ homeId: 'ffff000011112222' }).fork?.(ID, null, TARGETS)).rejects.toMatchObject(
    kind('not-ours'),
  )
  expect(new Set(commands)).toEqual(new Set(['list']))
  expect(mac.vms()).toHaveLength(3)
  expect(existsSync(join(mac.guestOf(VM) ?? '', 'up'))).toBe(true)
  expect(await provider.status(ID)).toBe('running')
})
