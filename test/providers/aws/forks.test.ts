/** Forks where AWS behaves in its own way: see traps.ts for what is known of each. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { ForkTarget } from '../../../providers/provider.ts'
import { awsOptions, BASE, type Unit } from '../../support/ec2/bench.ts'
import { tagValue } from '../../support/ec2/ec2.ts'
import { actions, ID, open, withMachine } from './unit.ts'

const target = (n: number): ForkTarget => ({
  ...{ vmId: `as-ab-1-${n}-0000000${n}`, ticket: `AB-1~${n}`, publicKey: `ssh-ed25519 AAAA fork-${n}` },
  hostKey: { privateKey: `PRIVATE HOST KEY ${n}`, publicKey: `ssh-ed25519 BBBB host-${n}` },
})
const [ONE, TWO] = [target(1), target(2)]
const FORKS = [ONE, TWO]

const failing = (kind: string) => ({ failure: { kind } })
/** How many of each the account has. */
const counts = ({ ec2 }: Unit) => {
  const { instances, volumes, snapshots, images } = ec2.state
  const alive = [...instances.values()].filter(({ state }) => state !== 'terminated')
  return { machines: alive.length, volumes: volumes.size, snapshots: snapshots.size, images: images.size }
}
/** The source alone. */
const ALONE = { machines: 1, volumes: 1, snapshots: 0, images: 1 }
const tagsOf = (tags: readonly { Key: string; Value: string }[]) =>
  Object.fromEntries(tags.map(({ Key, Value }) => [Key, Value]))
/** A file of the guest that its boot wrote. */
const guestFile = ({ ec2 }: Unit, vmId: string, name: string): string =>
  readFileSync(join(ec2.rootFolder(vmId), '.guest', name), 'utf8')
/** The provider dies at this action. Returns once it is dead. */
const dieAt = async (unit: Unit, action: string, when: 'before' | 'after', checkpoint: string | null = null) => {
  let isDead = false
  unit.ec2.watch(call => {
    isDead ||= call.action === action && call.when === when
    if (isDead) throw new Error('killed')
  })
  await expect(unit.provider.fork?.(ID, checkpoint, FORKS)).rejects.toThrow('killed')
  unit.ec2.watch(() => {})
}

// ── How ──

test('the forks are launched from one image of one snapshot, and both go once all of them run', async () => {
  const unit = await withMachine()
  const { ec2, provider } = unit
  const from = ec2.calls.length
  const states: string[] = []
  ec2.watch(({ action, when }) => {
    if (action === 'DeregisterImage' && when === 'before')
      states.push(...FORKS.map(({ vmId }) => ec2.instanceOf(vmId).state))
  })
  await provider.fork?.(ID, null, FORKS)
  expect(states).toEqual(['running', 'running'])
  const order = actions(unit, from).filter(action => !action.startsWith('Describe'))
  expect(order).toEqual([
    ...['CreateSnapshot', 'RegisterImage', 'CreateTags', 'RunInstances', 'RunInstances'],
    ...['DeregisterImage', 'DeleteSnapshot'],
  ])
  const launches = ec2.calls.filter(({ action }) => action === 'RunInstances').slice(-2)
  for (const { input } of launches) expect(JSON.stringify(input.BlockDeviceMappings)).not.toContain('SnapshotId')
  expect(counts(unit)).toEqual({ ...ALONE, machines: 3, volumes: 3 })
})

test('a fork of a checkpoint makes no snapshot, and the checkpoint stays', async () => {
  const unit = await withMachine()
  const { ec2, provider } = unit
  await ec2.script(ID, 'echo saved >state')
  await provider.checkpoint(ID, 'one')
  await ec2.script(ID, 'echo later >state')
  const from = ec2.calls.length
  await provider.fork?.(ID, 'one', FORKS)
  expect(actions(unit, from)).not.toContain('CreateSnapshot')
  for (const { vmId } of FORKS) expect(await ec2.script(vmId, 'cat state')).toBe('saved')
  expect(await provider.listCheckpoints(ID)).toEqual(['one'])
  expect(counts(unit)).toEqual({ ...ALONE, machines: 3, volumes: 3, snapshots: 1 })
})

test('a fork waits until AWS has copied its snapshot, which no image is registered of before', async () => {
  const unit = await withMachine({ looks: { change: 6, shown: 2 } })
  await unit.provider.checkpoint(ID, 'one')
  expect([...unit.ec2.state.snapshots.values()].at(-1)?.state).toBe('pending')
  await unit.provider.fork?.(ID, 'one', [ONE])
  expect(unit.ec2.instanceOf(ONE.vmId).state).toBe('running')
})

test('a snapshot that AWS cannot make: no fork, and nothing is left', async () => {
  const unit = await withMachine()
  unit.ec2.watch(({ action, when }) => {
    if (action !== 'CreateSnapshot' || when !== 'after') return
    for (const snapshot of unit.ec2.state.snapshots.values()) Object.assign(snapshot, { state: 'error', changes: [] })
  })
  await expect(unit.provider.fork?.(ID, null, FORKS)).rejects.toThrow('could not make the snapshot')
  expect(counts(unit)).toEqual(ALONE)
})

test('the image says of its machines what AWS says of their source, and not what register-image assumes', async () => {
  const unit = await withMachine()
  await unit.provider.fork?.(ID, null, [ONE])
  const { input } = unit.ec2.calls.find(({ action }) => action === 'RegisterImage') ?? {}
  expect(input).toMatchObject({
    ...{ Architecture: 'x86_64', VirtualizationType: 'hvm', EnaSupport: true, BootMode: 'uefi-preferred' },
    ...{ RootDeviceName: '/dev/xvda', Name: `agent-swarm/00112233445566ff/${ONE.vmId}` },
  })
})

test('a licence that AWS does not find in the snapshot: no fork runs without it, and nothing is left', async () => {
  const unit = open()
  const { ec2, provider } = unit
  for (const image of ec2.state.images.values()) image.kind.platform = 'Red Hat Enterprise Linux'
  await provider.createVm('AB-1', BASE, awsOptions(ID))
  await provider.startVm(ID)
  await expect(provider.fork?.(ID, null, FORKS)).rejects.toMatchObject({
    failure: { kind: 'unsupported', message: expect.stringContaining('Red Hat Enterprise Linux') },
  })
  expect(actions(unit).filter(action => action === 'RunInstances')).toHaveLength(1)
  expect(counts(unit)).toEqual(ALONE)
})

test('the name of an image that was deregistered is taken for a moment: it is registered again', async () => {
  const { ec2, provider } = await withMachine()
  for (const _ of [1, 2]) ec2.failNext('RegisterImage', 'InvalidAMIName.Duplicate')
  await provider.fork?.(ID, null, [ONE])
  expect(ec2.instanceOf(ONE.vmId).state).toBe('running')
})

test('forks are on demand where machines are Spot, since a Spot request would name an image that is gone', async () => {
  const unit = await withMachine({ settings: { awsMarket: 'spot' } })
  const { ec2, provider } = unit
  await provider.fork?.(ID, null, [ONE])
  expect([ec2.instanceOf(ID).request === null, ec2.instanceOf(ONE.vmId).request]).toEqual([false, null])
  await provider.stopVm(ONE.vmId)
  await provider.startVm(ONE.vmId)
  expect(ec2.state.requests.size).toBe(1)
})

// ── What a fork is ──

test('a fork has the size of its source and an identity of its own, which its user data tells once', async () => {
  const unit = await withMachine()
  const { ec2, provider } = unit
  // Somebody whose key was in the source, and is not in its fork.
  await ec2.script(ID, 'echo "ssh-ed25519 CCCC somebody" >>.guest/login-keys')
  await provider.fork?.(ID, null, FORKS)
  for (const { vmId, publicKey, hostKey } of FORKS) {
    expect(guestFile(unit, vmId, 'login-keys')).toBe(`${publicKey}\n`)
    expect(guestFile(unit, vmId, 'host-keys')).toBe(`${hostKey.publicKey}\n`)
    expect(guestFile(unit, vmId, 'hostname')).toBe(`${vmId}\n`)
    expect(ec2.instanceOf(vmId)).toMatchObject({ type: 't3.medium', credits: 'standard', profile: null })
  }
  const ids = [ID, ...FORKS.map(({ vmId }) => vmId)].map(vmId => guestFile(unit, vmId, 'machine-id'))
  expect(new Set(ids).size).toBe(3)
  expect(JSON.stringify(unit.commands)).not.toContain('PRIVATE HOST KEY')
  expect((await provider.usage?.())?.get(ONE.vmId)).toEqual((await provider.usage?.())?.get(ID))
  expect((await provider.prices?.())?.get(ONE.vmId)).toMatchObject({ usdPerHour: 0.048 })
})

test('everything of a fork has its mark, and so has what it needs for a while: that of the first fork', async () => {
  const unit = await withMachine()
  const { ec2, provider } = unit
  const seen: object[] = []
  ec2.watch(({ action, when }) => {
    if (action !== 'DeregisterImage' || when !== 'before') return
    const image = [...ec2.state.images.values()].find(({ isRegistered }) => isRegistered)
    seen.push(...[image, ...ec2.state.snapshots.values()].map(each => tagsOf(each?.tags ?? [])))
  })
  await provider.fork?.(ID, null, FORKS)
  const own = { 'agent-swarm:vm': ONE.vmId, 'agent-swarm:home': '00112233445566ff', 'agent-swarm:ticket': 'AB-1~1' }
  for (const tags of seen) expect(tags).toMatchObject({ ...own, 'agent-swarm:fork': ID })
  expect(seen).toHaveLength(2)
  const instance = ec2.instanceOf(ONE.vmId)
  const disk = ec2.state.volumes.get(instance.mappings[0]?.volume ?? '')
  for (const { tags } of [instance, instance.interface, disk ?? instance]) expect(tagsOf(tags)).toMatchObject(own)
})

test('its source is as before: state, address, marks and checkpoints', async () => {
  const { ec2, provider } = await withMachine()
  await provider.checkpoint(ID, 'one')
  const all = async () => [await provider.listVms(), await provider.listCheckpoints(ID), ec2.instanceOf(ID).tags]
  for (const change of [async () => {}, () => provider.stopVm(ID)]) {
    await change()
    const before = structuredClone(await all())
    await provider.fork?.(ID, null, [ONE])
    await provider.deleteVm(ONE.vmId)
    expect(await all()).toEqual(before)
  }
})

test('neither the source nor its checkpoints are needed afterwards, and a fork that is deleted takes nothing along', async () => {
  const unit = await withMachine()
  const { ec2, provider } = unit
  await ec2.script(ID, 'echo saved >state')
  await provider.checkpoint(ID, 'one')
  await provider.fork?.(ID, 'one', FORKS)
  await provider.deleteVm(ONE.vmId)
  expect(await ec2.script(ID, 'cat state')).toBe('saved')
  expect(await provider.listCheckpoints(ID)).toEqual(['one'])
  expect(await provider.listBaseImages?.()).toEqual([BASE])
  await provider.deleteCheckpoint?.(ID, 'one')
  await provider.deleteVm(ID)
  await provider.stopVm(TWO.vmId)
  await provider.startVm(TWO.vmId)
  expect(await ec2.script(TWO.vmId, 'cat state')).toBe('saved')
  await provider.checkpoint(TWO.vmId, 'one')
  await provider.restore(TWO.vmId, 'one')
  await provider.deleteVm(TWO.vmId)
  expect(ec2.everything()).toEqual([])
})

// ── When it fails ──

test.for([
  ['the snapshot is refused', 'CreateSnapshot', 'UnauthorizedOperation', 'permission'],
  ['the image is refused', 'RegisterImage', 'UnauthorizedOperation', 'permission'],
  ['the image cannot be tagged', 'CreateTags', 'UnauthorizedOperation', 'permission'],
  ['a machine finds no room', 'RunInstances', 'InsufficientInstanceCapacity', 'capacity'],
  ['the image cannot be deregistered', 'DeregisterImage', 'UnauthorizedOperation', 'permission'],
  ['the snapshot cannot be deleted', 'DeleteSnapshot', 'UnauthorizedOperation', 'permission'],
] as const)('%s: none of the forks is left, nor what they needed', async ([, action, code, kind]) => {
  const unit = await withMachine()
  const from = unit.ec2.calls.length
  unit.ec2.failNext(action, code)
  await expect(unit.provider.fork?.(ID, null, FORKS)).rejects.toMatchObject(failing(kind))
  expect(counts(unit)).toEqual(ALONE)
  // What AWS refused is not looked for.
  expect(actions(unit, from).length).toBeLessThan(90)
})

test('the second machine finds no room: the first one goes too', async () => {
  const unit = await withMachine()
  unit.ec2.watch(({ action, when }) => {
    if (action === 'RunInstances' && when === 'after') unit.ec2.failNext('RunInstances', 'InsufficientInstanceCapacity')
  })
  await expect(unit.provider.fork?.(ID, null, FORKS)).rejects.toMatchObject(failing('capacity'))
  expect(counts(unit)).toEqual(ALONE)
})

test.for([
  ['a machine that does not exist', 'as-ab-9-00000009', null, 'no-such-vm'],
  ['a checkpoint that does not exist', ID, 'nowhere', 'no-such-checkpoint'],
  ['a name that is none', ID, '../x', 'usage'],
] as const)('%s: nothing is made', async ([, id, checkpoint, kind]) => {
  const unit = await withMachine()
  const from = unit.ec2.calls.length
  await expect(unit.provider.fork?.(id, checkpoint, FORKS)).rejects.toMatchObject(failing(kind))
  expect(actions(unit, from).filter(action => !action.startsWith('Describe'))).toEqual([])
})

test('a source whose size nobody knows any more is not forked', async () => {
  const { ec2, provider } = await withMachine()
  const instance = ec2.instanceOf(ID)
  instance.tags = instance.tags.filter(({ Key }) => Key !== 'agent-swarm:size')
  await expect(provider.fork?.(ID, null, FORKS)).rejects.toMatchObject(failing('damaged'))
})

test('a restore that AWS still works on ends before the fork, which has what it restores', async () => {
  const unit = await withMachine()
  const { ec2 } = unit
  await ec2.script(ID, 'echo saved >state')
  await unit.provider.checkpoint(ID, 'one')
  await ec2.script(ID, 'echo later >state')
  let isDead = false
  ec2.watch(({ action, when }) => {
    isDead ||= action === 'CreateReplaceRootVolumeTask' && when === 'after'
    if (isDead) throw new Error('killed')
  })
  await expect(unit.provider.restore(ID, 'one')).rejects.toThrow('killed')
  ec2.watch(() => {})
  await unit.open().fork?.(ID, null, [ONE])
  expect(await ec2.script(ONE.vmId, 'cat state')).toBe('saved')
})

// ── When its process dies ──

test('killed before its image has tags: the image is found by its name', async () => {
  const unit = await withMachine()
  await unit.provider.checkpoint(ID, 'one')
  await dieAt(unit, 'CreateTags', 'before', 'one')
  const image = [...unit.ec2.state.images.values()].find(({ isRegistered }) => isRegistered)
  expect(image?.tags).toEqual([])
  await unit.open().deleteVm(ONE.vmId)
  expect(counts(unit)).toEqual({ ...ALONE, snapshots: 1 })
})

test('what a fork that died needed is left over without a disk, and goes with its first machine', async () => {
  const unit = await withMachine()
  await dieAt(unit, 'RunInstances', 'before')
  const provider = unit.open()
  expect(await provider.leftovers?.()).toEqual([{ vmId: ONE.vmId, hasDisk: false, bytes: 20 * 1024 ** 3 }])
  expect(await provider.hasLeftDisk?.(ONE.vmId)).toBe(false)
  await provider.deleteVm(ONE.vmId)
  expect(await provider.leftovers?.()).toEqual([])
  expect(counts(unit)).toEqual(ALONE)
})

test('the image of another home is left, also when its first fork has the same name', async () => {
  const unit = await withMachine()
  await dieAt(unit, 'RunInstances', 'before')
  const other = unit.open({ homeId: 'ffff000011112222' })
  await other.deleteVm(ONE.vmId)
  expect(counts(unit)).toEqual({ ...ALONE, snapshots: 1, images: 2 })
})

test('a snapshot whose image AWS does not show yet is kept by AWS, and looked at again', async () => {
  const unit = await withMachine()
  await dieAt(unit, 'RegisterImage', 'after')
  for (const image of unit.ec2.state.images.values()) if (image.isRegistered) image.hidden = 4
  await unit.open().deleteVm(ONE.vmId)
  expect(actions(unit)).toContain('DeleteSnapshot')
  expect(counts(unit)).toEqual(ALONE)
})

test('a machine of an interrupted fork is of another moment: it goes, and another one is made', async () => {
  const unit = await withMachine()
  const { ec2 } = unit
  await ec2.script(ID, 'echo before >state')
  await dieAt(unit, 'RunInstances', 'after')
  await ec2.script(ID, 'echo after >state')
  await unit.open().fork?.(ID, null, FORKS)
  for (const { vmId } of FORKS) expect(await ec2.script(vmId, 'cat state')).toBe('after')
  expect(counts(unit)).toEqual({ ...ALONE, machines: 3, volumes: 3 })
})

test('a machine of an interrupted fork that AWS does not show: there is never a second one', async () => {
  const unit = await withMachine()
  const { ec2 } = unit
  await dieAt(unit, 'RunInstances', 'after')
  const [hidden] = ec2.instancesOf(ONE.vmId)
  if (hidden === undefined) throw new Error('it has no instance')
  hidden.hidden = 200
  const disk = ec2.state.volumes.get(hidden.mappings[0]?.volume ?? '')
  if (disk !== undefined) disk.hidden = 200
  await expect(unit.open().fork?.(ID, null, FORKS)).rejects.toMatchObject(failing('busy'))
  expect(ec2.instancesOf(ONE.vmId)).toHaveLength(1)
  expect(tagValue(hidden.tags, 'agent-swarm:vm')).toBe(ONE.vmId)
})
