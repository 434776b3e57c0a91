/** Checkpoints and the end of a machine where AWS behaves in its own way: see traps.ts for what is known of each. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { awsOptions, BASE, type Unit } from '../../support/ec2/bench.ts'
import { tagValue } from '../../support/ec2/ec2.ts'
import type { Volume } from '../../support/ec2/state.ts'
import { actions, ID, open, withMachine } from './unit.ts'

// ── Checkpoints ──

test('a restore tags the new disk, whose tags AWS gave to the task, and keeps the address', async () => {
  const { ec2, provider } = await withMachine()
  const before = await provider.sshInfo(ID)
  await provider.checkpoint(ID, 'one')
  await provider.restore(ID, 'one')
  expect(await provider.sshInfo(ID)).toEqual(before)
  const volumes = [...ec2.state.volumes.values()]
  expect(volumes).toHaveLength(1)
  expect(tagValue(volumes[0]?.tags ?? [], 'agent-swarm:vm')).toBe(ID)
  const [task] = ec2.state.tasks.values()
  expect(tagValue(task?.tags ?? [], 'agent-swarm:checkpoint')).toBe('one')
})

test('a restore waits for a checkpoint that AWS still copies', async () => {
  const { ec2, provider } = await withMachine({ looks: { change: 6, shown: 1 } })
  await provider.checkpoint(ID, 'one')
  expect([...ec2.state.snapshots.values()].at(-1)?.state).toBe('pending')
  await provider.restore(ID, 'one')
  expect([...ec2.state.tasks.values()].map(({ state }) => state)).toEqual(['succeeded'])
})

/** AWS copies the newest checkpoint for some looks, and then has it, or not. */
const copied = ({ ec2 }: Unit, looks: number, end: 'completed' | 'error') => {
  const snapshot = [...ec2.state.snapshots.values()].at(-1)
  if (snapshot === undefined) throw new Error('it has no snapshot')
  snapshot.state = 'pending'
  snapshot.changes = [{ looks, apply: () => Object.assign(snapshot, { state: end }) }]
  return snapshot
}

test('nothing that the guest does while AWS copies is lost: a restore that would wait does so before it keeps the state', async () => {
  const unit = await withMachine()
  const { ec2, provider } = unit
  await provider.checkpoint(ID, 'one')
  const wanted = copied(unit, 6, 'completed')
  const root = ec2.rootFolder(ID)
  // The guest works all the time.
  let looks = 0
  ec2.watch(({ action, when }) => {
    if (action !== 'DescribeSnapshots' || when !== 'before') return
    looks += 1
    writeFileSync(join(root, 'state'), String(looks))
  })
  await provider.checkpoint(ID, 'pre-restore-1')
  const [kept] = [...ec2.state.snapshots.values()].slice(-1)
  expect(wanted.state).toBe('completed')
  expect(Number(readFileSync(join(ec2.state.disk(kept?.id ?? ''), 'state'), 'utf8'))).toBeGreaterThan(5)
  // That of the present disk is not waited for.
  copied(unit, 40, 'completed')
  const from = ec2.calls.length
  let pending: string | undefined
  ec2.watch(({ action }) => {
    if (action === 'CreateReplaceRootVolumeTask') pending ??= kept?.state
  })
  await provider.restore(ID, 'one')
  expect(pending).toBe('pending')
  const before = actions(unit, from).slice(0, actions(unit, from).indexOf('CreateReplaceRootVolumeTask'))
  expect(before.filter(action => action === 'DescribeSnapshots')).toHaveLength(1)
})

test('the disk that a restore replaced stays until AWS has copied its newest checkpoint, and goes with the next one', async () => {
  const unit = await withMachine()
  const { ec2, provider } = unit
  await provider.checkpoint(ID, 'one')
  await ec2.script(ID, 'echo latest >state')
  await provider.checkpoint(ID, 'pre-restore-1')
  const newest = copied(unit, 8, 'completed')
  await provider.restore(ID, 'one')
  expect(newest.state).toBe('pending')
  const former = [...ec2.state.volumes.values()].find(({ id }) => id === newest.volume)
  expect(former).toMatchObject({ state: 'available' })
  expect(tagValue(former?.tags ?? [], 'agent-swarm:vm')).toBe(ID)
  // A disk of this machine that no restore replaced is somebody's, for example detached to look into it.
  const other = { ...structuredClone({ ...former, changes: [] }), id: 'vol-0ffffffffffffffff' } as Volume
  ec2.state.volumes.set(other.id, other)
  for (let n = 0; n < 8; n += 1) await provider.listCheckpoints(ID)
  await provider.checkpoint(ID, 'two')
  expect([...ec2.state.volumes.keys()]).toEqual([ec2.instanceOf(ID).mappings[0]?.volume, other.id])
})

test('a checkpoint of the former disk that AWS cannot make keeps its disk until the delete', async () => {
  const unit = await withMachine()
  const { ec2, provider } = unit
  await provider.checkpoint(ID, 'one')
  await provider.checkpoint(ID, 'pre-restore-1')
  // AWS says so before the restore.
  copied(unit, 1, 'error')
  await provider.listCheckpoints(ID)
  await expect(provider.restore(ID, 'one')).rejects.toMatchObject({
    failure: { kind: 'damaged', message: expect.stringContaining('pre-restore-1') },
  })
  await ec2.script(ID, 'echo latest >state')
  await provider.checkpoint(ID, 'pre-restore-2')
  const newest = copied(unit, 3, 'error')
  await provider.restore(ID, 'one')
  await provider.checkpoint(ID, 'two')
  await provider.checkpoint(ID, 'three')
  expect(newest.state).toBe('error')
  expect(readFileSync(join(ec2.state.disk(newest.volume), 'state'), 'utf8')).toBe('latest\n')
  const images = [...ec2.state.images.keys()]
  await provider.deleteVm(ID)
  expect([ec2.everything(), [...ec2.state.images.keys()]]).toEqual([[], images])
})

test('a former disk that AWS does not delete now fails neither the restore nor a checkpoint', async () => {
  const { ec2, provider } = await withMachine()
  await provider.checkpoint(ID, 'one')
  ec2.failNext('DeleteVolume', 'UnauthorizedOperation')
  await provider.restore(ID, 'one')
  expect(ec2.state.volumes.size).toBe(2)
  await provider.checkpoint(ID, 'two')
  expect(ec2.state.volumes.size).toBe(1)
})

test('the same checkpoint restored twice is two tasks', async () => {
  const { ec2, provider } = await withMachine()
  await ec2.script(ID, 'echo 1 >state')
  await provider.checkpoint(ID, 'one')
  for (const later of ['2', '3']) {
    await ec2.script(ID, `echo ${later} >state`)
    await provider.restore(ID, 'one')
    expect(await ec2.script(ID, 'cat state')).toBe('1')
  }
  expect(ec2.state.tasks.size).toBe(2)
})

test('after a restore, checkpoints of before and after it both work', async () => {
  const { ec2, provider } = await withMachine()
  await ec2.script(ID, 'echo before >state')
  await provider.checkpoint(ID, 'before')
  await provider.checkpoint(ID, 'restored')
  await provider.restore(ID, 'restored')
  await ec2.script(ID, 'echo after >state')
  await provider.checkpoint(ID, 'after')
  for (const name of ['before', 'after']) {
    await provider.restore(ID, name)
    expect(await ec2.script(ID, 'cat state')).toBe(name)
  }
})

test('a stopped machine is started for its restore; one that was captured stopped is stopped afterwards', async () => {
  const { provider } = await withMachine()
  await provider.checkpoint(ID, 'running')
  await provider.stopVm(ID)
  await provider.checkpoint(ID, 'stopped')
  await provider.restore(ID, 'stopped')
  expect(await provider.status(ID)).toBe('stopped')
  await provider.restore(ID, 'running')
  expect(await provider.status(ID)).toBe('running')
})

test('a task that is under way after a crash is waited for, and not made again', async () => {
  const unit = await withMachine()
  await unit.provider.checkpoint(ID, 'one')
  let isDead = false
  unit.ec2.watch(({ action, when }) => {
    isDead ||= action === 'CreateReplaceRootVolumeTask' && when === 'after'
    if (isDead) throw new Error('killed')
  })
  await expect(unit.provider.restore(ID, 'one')).rejects.toThrow('killed')
  unit.ec2.watch(() => {})
  await unit.open().restore(ID, 'one')
  expect([...unit.ec2.state.tasks.values()].map(({ state }) => state)).toEqual(['succeeded'])
  expect(tagValue([...unit.ec2.state.volumes.values()][0]?.tags ?? [], 'agent-swarm:vm')).toBe(ID)
})

test('a task that failed leaves the machine as it was, and the next attempt is another task', async () => {
  const { ec2, provider } = await withMachine()
  await provider.checkpoint(ID, 'one')
  ec2.state.failingTasks = 1
  await expect(provider.restore(ID, 'one')).rejects.toMatchObject({
    failure: { message: expect.stringContaining('(failed)') },
  })
  await provider.restore(ID, 'one')
  expect([...ec2.state.tasks.values()].map(({ state }) => state)).toEqual(['failed', 'succeeded'])
})

test('AWS makes a snapshot of one volume only now and then: it is asked again', async () => {
  const { ec2, provider } = await withMachine()
  ec2.state.snapshotEvery = 8
  await provider.checkpoint(ID, 'one')
  await provider.checkpoint(ID, 'two')
  expect(await provider.listCheckpoints(ID)).toEqual(['one', 'two'])
})

test('two snapshots of one name, which a crash can leave, are one checkpoint and go together', async () => {
  const unit = await withMachine()
  await unit.provider.checkpoint(ID, 'one')
  await unit.provider.checkpoint(ID, 'two')
  const [first] = unit.ec2.state.snapshots.values()
  const again = { VolumeId: first?.volume, TagSpecifications: [{ ResourceType: 'snapshot', Tags: first?.tags }] }
  unit.ec2.call('CreateSnapshot', again)
  unit.ec2.call('DescribeSnapshots', {})
  expect(await unit.provider.listCheckpoints(ID)).toEqual(['two', 'one'])
  await unit.provider.deleteCheckpoint?.(ID, 'one')
  expect(unit.ec2.state.snapshots.size).toBe(1)
})

test('a checkpoint that AWS could not make is not listed, and its name is free', async () => {
  const { ec2, provider } = await withMachine()
  await provider.checkpoint(ID, 'one')
  for (const snapshot of ec2.state.snapshots.values()) Object.assign(snapshot, { state: 'error', changes: [] })
  expect(await provider.listCheckpoints(ID)).toEqual([])
  await provider.checkpoint(ID, 'one')
  expect(await provider.listCheckpoints(ID)).toEqual(['one'])
})

// ── Delete ──

test('a delete leaves no disk, no checkpoint and no Spot request, and its machine is not launched again', async () => {
  const unit = open({ settings: { awsMarket: 'spot' } })
  const before = unit.ec2.everything()
  await unit.provider.createVm('AB-1', BASE, awsOptions(ID))
  await unit.provider.startVm(ID)
  await unit.provider.checkpoint(ID, 'one')
  const from = unit.ec2.calls.length
  await unit.provider.deleteVm(ID)
  expect(unit.ec2.everything()).toEqual(before)
  const order = actions(unit, from).filter(action => /^(Cancel|Terminate)/.test(action))
  expect(order).toEqual(['CancelSpotInstanceRequests', 'TerminateInstances'])
})

test('a Spot machine that somebody terminated, and that its request launched again, goes with its delete', async () => {
  const unit = open({ settings: { awsMarket: 'spot' } })
  const before = unit.ec2.everything()
  await unit.provider.createVm('AB-1', BASE, awsOptions(ID))
  await unit.provider.startVm(ID)
  unit.ec2.terminate(ID)
  unit.ec2.call('DescribeInstances', {})
  expect([...unit.ec2.state.instances.values()].map(({ tags }) => tags.length > 0)).toEqual([true, false])
  expect(await unit.provider.leftovers?.()).toMatchObject([{ vmId: ID }])
  await unit.provider.deleteVm(ID)
  expect(unit.ec2.everything()).toEqual(before)
})

test("a backup that AWS made with the disk's tags is no checkpoint, and a delete leaves it", async () => {
  const { ec2, provider } = await withMachine()
  const [volume] = [...ec2.state.volumes.values()]
  const backup = ec2.call('CreateSnapshot', {
    VolumeId: volume?.id,
    TagSpecifications: [{ ResourceType: 'snapshot', Tags: volume?.tags }],
  })
  ec2.call('DescribeSnapshots', {})
  expect(await provider.listCheckpoints(ID)).toEqual([])
  await provider.deleteVm(ID)
  expect(ec2.everything()).toEqual([backup.SnapshotId])
  expect(await provider.hasLeftDisk?.(ID)).toBe(false)
  expect(await provider.leftovers?.()).toEqual([])
})

test('a disk without a mark that AWS does not delete with its machine is deleted', async () => {
  const { ec2, provider } = await withMachine()
  const instance = ec2.instanceOf(ID)
  instance.mappings = instance.mappings.map(mapping => ({ ...mapping, goesAlong: false }))
  for (const volume of ec2.state.volumes.values()) volume.tags = []
  await provider.deleteVm(ID)
  expect(ec2.state.volumes.size).toBe(0)
})

test('what AWS does not know any more counts as deleted', async () => {
  const { ec2, provider } = await withMachine()
  await provider.checkpoint(ID, 'one')
  ec2.watch(({ action, when }) => {
    if (action !== 'TerminateInstances' || when !== 'before') return
    ec2.state.instances.clear()
    ec2.state.volumes.clear()
  })
  ec2.failNext('TerminateInstances', 'InvalidInstanceID.NotFound')
  ec2.failNext('DeleteSnapshot', 'InvalidSnapshot.NotFound')
  await provider.deleteVm(ID)
  expect(ec2.state.snapshots.size).toBe(0)
})

test('a checkpoint that somebody made an image of cannot be deleted, and it says why', async () => {
  const { ec2, provider } = await withMachine()
  await provider.checkpoint(ID, 'one')
  const [snapshot] = ec2.state.snapshots.values()
  for (const image of ec2.state.images.values()) image.snapshot = snapshot?.id ?? ''
  await expect(provider.deleteCheckpoint?.(ID, 'one')).rejects.toMatchObject({
    failure: { kind: 'refused', remedy: expect.stringContaining('Deregister it') },
  })
})

test('what is left of a machine that somebody terminated is found by its tags, and can be removed', async () => {
  const unit = await withMachine({ settings: { awsMarket: 'spot' } })
  await unit.provider.checkpoint(ID, 'one')
  expect(await unit.provider.leftovers?.()).toEqual([])
  unit.ec2.call('CancelSpotInstanceRequests', { SpotInstanceRequestIds: [...unit.ec2.state.requests.keys()] })
  unit.ec2.terminate(ID)
  unit.ec2.call('DescribeInstances', {})
  expect(await unit.provider.listVms()).toEqual([])
  expect(await unit.provider.leftovers?.()).toEqual([{ vmId: ID, hasDisk: true, bytes: 20 * 1024 ** 3 }])
  expect(await unit.provider.hasLeftDisk?.(ID)).toBe(true)
  await unit.provider.deleteVm(ID)
  expect(await unit.provider.leftovers?.()).toEqual([])
  expect(await unit.provider.hasLeftDisk?.(ID)).toBe(false)
})

test('while AWS terminates a machine, its checkpoints are left', async () => {
  const { ec2, provider } = await withMachine()
  await provider.checkpoint(ID, 'one')
  expect(await provider.hasLeftDisk?.(ID)).toBe(false)
  ec2.terminate(ID)
  const instance = ec2.instanceOf(ID)
  instance.changes = []
  expect(instance.state).toBe('shutting-down')
  await expect(provider.status(ID)).rejects.toMatchObject({ failure: { kind: 'no-such-vm' } })
  expect(await provider.hasLeftDisk?.(ID)).toBe(true)
})
