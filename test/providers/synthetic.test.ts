import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { isSameBoot } from '../../providers/synthetic/boot.ts'
import { synthetic } from '../../providers/synthetic/description.ts'
import {
  HOME_ID,
  OTHER_HOME_ID,
  openSyntheticBench,
  openSyntheticIn,
  syntheticOptions,
} from '../support/synthetic-bench.ts'
import { keepsItsPromises } from './conformance.ts'

keepsItsPromises(synthetic, openSyntheticBench, { machines: 3, timeout: 30_000 })

test('a machine of an earlier version, without a home, is ours when the registry knows it', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-synthetic-'))
  const [known, unknown] = ['as-a-1-00000001', 'as-b-2-00000002']
  const writer = openSyntheticIn(home)
  for (const vmId of [known, unknown]) await writer.createVm('AB-1', 'none', syntheticOptions(vmId))
  const states = join(home, 'synthetic-state')
  for (const vmId of [known, unknown]) {
    rmSync(join(states, `${vmId}.AB-1.${HOME_ID}.stopped`))
    writeFileSync(join(states, `${vmId}.AB-1.running`), '')
  }
  const provider = openSyntheticIn(home, { knows: vmId => vmId === known })
  // A heartbeat and an action look at the same time.
  const looks = await Promise.all([provider.listVms(), provider.listVms(), provider.status(known)])
  const machine = { vmId: known, ticket: 'AB-1', ip: null, status: 'running' }
  expect(looks).toEqual([[machine], [machine], 'running'])
  expect(readdirSync(states).sort()).toEqual([`${known}.AB-1.${HOME_ID}.running`, `${unknown}.AB-1.running`])
  await expect(provider.deleteVm(unknown)).rejects.toMatchObject({ failure: { kind: 'not-ours' } })
  // Once its mark names the home, nobody has to know it.
  expect(await openSyntheticIn(home).status(known)).toBe('running')
  rmSync(home, { recursive: true })
})

test('what ran is stopped after a reboot of the host, and starts again', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-synthetic-'))
  const [ran, stopped, old] = ['as-a-1-00000001', 'as-b-2-00000002', 'as-c-3-00000003']
  const before = openSyntheticIn(home, { boot: '00000000000a' })
  for (const vmId of [ran, stopped, old]) await before.createVm('AB-1', 'none', syntheticOptions(vmId))
  await before.startVm(ran)
  writeFileSync(join(home, 'synthetic', ran, 'disk', 'work'), 'hello')
  await before.checkpoint(ran, 'one')
  // Of a version that did not write the boot.
  const states = join(home, 'synthetic-state')
  renameSync(join(states, `${old}.AB-1.${HOME_ID}.stopped`), join(states, `${old}.AB-1.${HOME_ID}.running`))
  const after = openSyntheticIn(home, { boot: '00000000000b' })
  const statusOf = async (provider: typeof after) =>
    Object.fromEntries((await provider.listVms()).map(({ vmId, status }) => [vmId, status]))
  expect(await statusOf(before)).toEqual({ [ran]: 'running', [stopped]: 'stopped', [old]: 'running' })
  expect(await statusOf(after)).toEqual({ [ran]: 'stopped', [stopped]: 'stopped', [old]: 'running' })
  expect(await after.status(ran)).toBe('stopped')
  await expect(after.runInGuest?.(ran, 'true')).rejects.toMatchObject({ failure: { kind: 'not-running' } })
  await after.startVm(ran)
  expect((await after.runInGuest?.(ran, 'cat work'))?.stdout).toBe('hello')
  // A checkpoint of a running machine comes back running, also in another boot.
  const later = openSyntheticIn(home, { boot: '00000000000c' })
  await later.restore(ran, 'one')
  expect(await later.status(ran)).toBe('running')
  await later.assign?.(ran, 'AB-7')
  await openSyntheticIn(home, { boot: '00000000000d' }).deleteVm(ran)
  expect(readdirSync(states)).toHaveLength(2)
  rmSync(home, { recursive: true })
})

test('what is saved stays so after a reboot of the host; a suspended machine is off then', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-synthetic-'))
  const [saved, suspended] = ['as-a-1-00000001', 'as-b-2-00000002']
  const before = openSyntheticIn(home, { boot: '00000000000a' })
  for (const vmId of [saved, suspended]) {
    await before.createVm('AB-1', 'none', syntheticOptions(vmId))
    await before.startVm(vmId)
  }
  await before.save?.(saved)
  await before.suspend?.(suspended)
  const after = openSyntheticIn(home, { boot: '00000000000b' })
  expect(await after.listVms()).toMatchObject([
    { vmId: saved, status: 'stopped', saved: true },
    { vmId: suspended, status: 'stopped' },
  ])
  await after.stopVm(saved)
  expect((await after.listVms())[0]?.saved).toBeUndefined()
  rmSync(home, { recursive: true })
})

test.for([
  ['the same', 'a', 'a', true],
  ['ids that are near are not the same', 'a', 'b', false],
  ['times of a boot that a clock moved by a minute', '65f0a000', '65f0a03c', true],
  ['times that are minutes apart', '65f0a000', '65f0a0f0', false],
] as const)('%s: the same boot %s %s', ([, one, other, expected]) => {
  expect(isSameBoot(one, other, one.length > 1)).toBe(expected)
})

test('a ticket that is not one never becomes part of a path', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-synthetic-'))
  const creating = openSyntheticIn(home).createVm('../../x', 'none', syntheticOptions('as-a-1-00000001'))
  await expect(creating).rejects.toMatchObject({ failure: { kind: 'usage' } })
  rmSync(home, { recursive: true })
})

test('a machine whose mark somebody removed is left over, and is made again with its disk and checkpoints', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-synthetic-'))
  const provider = openSyntheticIn(home)
  const [lost, other] = ['as-a-1-00000001', 'as-b-2-00000002']
  for (const vmId of [lost, other]) await provider.createVm('AB-1', 'none', syntheticOptions(vmId))
  writeFileSync(join(home, 'synthetic', lost, 'disk', 'work'), 'hello')
  await provider.checkpoint(lost, 'one')
  expect(await provider.leftovers?.()).toEqual([])
  rmSync(join(home, 'synthetic-state', `${lost}.AB-1.${HOME_ID}.stopped`))
  // Another home's mark is a mark.
  const expected = [{ vmId: lost, hasDisk: true, bytes: expect.any(Number) }]
  expect(await openSyntheticIn(home, { homeId: OTHER_HOME_ID }).leftovers?.()).toEqual(expected)
  expect((await provider.leftovers?.())?.[0]?.bytes).toBeGreaterThan(10)
  await provider.recoverVm?.(lost, 'AB-1', syntheticOptions(lost))
  await provider.recoverVm?.(lost, 'AB-1', syntheticOptions(lost))
  expect((await provider.listVms()).find(vm => vm.vmId === lost)).toMatchObject({ ticket: 'AB-1', status: 'stopped' })
  expect(readFileSync(join(home, 'synthetic', lost, 'disk', 'work'), 'utf8')).toBe('hello')
  expect(await provider.listCheckpoints(lost)).toEqual(['one'])
  await expect(
    provider.recoverVm?.('as-c-3-00000003', null, syntheticOptions('as-c-3-00000003')),
  ).rejects.toMatchObject({
    failure: { kind: 'no-such-vm' },
  })
  rmSync(home, { recursive: true })
})

test('a machine whose folder somebody removed does not exist, and can be deleted and made again', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-synthetic-'))
  const provider = openSyntheticIn(home)
  const vmId = 'as-ab-1-00000001'
  await provider.createVm('AB-1', 'none', syntheticOptions(vmId))
  rmSync(join(home, 'synthetic', vmId), { recursive: true })
  expect(await provider.listVms()).toEqual([])
  await expect(provider.listCheckpoints(vmId)).rejects.toMatchObject({ failure: { kind: 'no-such-vm' } })
  await provider.deleteVm(vmId)
  expect(readdirSync(join(home, 'synthetic-state'))).toEqual([])
  await provider.createVm('AB-1', 'none', syntheticOptions(vmId))
  expect(await provider.listVms()).toMatchObject([{ vmId, status: 'stopped' }])
  rmSync(home, { recursive: true })
})

test('a restore that was killed between its two renames is made whole by the next', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-synthetic-'))
  const provider = openSyntheticIn(home)
  const vmId = 'as-a-1-00000001'
  await provider.createVm('AB-1', 'none', syntheticOptions(vmId))
  const folder = join(home, 'synthetic', vmId)
  writeFileSync(join(folder, 'disk', 'work'), 'one')
  await provider.checkpoint(vmId, 'one')
  renameSync(join(folder, 'disk'), join(folder, 'disk.old'))
  await provider.restore(vmId, 'one')
  expect(readFileSync(join(folder, 'disk', 'work'), 'utf8')).toBe('one')
  expect(readdirSync(folder).sort()).toEqual(['checkpoints', 'disk'])
  rmSync(home, { recursive: true })
})
