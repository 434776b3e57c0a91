/** States that a machine is in after an interruption, after somebody's hand, or on another home; and what a Mac lacks. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { TakeBase } from '../../../providers/provider.ts'
import { HOME_ID, IMAGE, imageVm, openTartBench, ready, type TartBench, tartOptions } from '../../support/tart/bench.ts'

const ID = 'as-drop-1-0000000a'
const VM = `${ID}.DROP-1.${HOME_ID}`
const kind = (failure: string) => ({ failure: { kind: failure } })

let bench: TartBench
beforeEach(() => {
  bench = openTartBench()
})
afterEach(() => bench.close())
const create = () => bench.provider.createVm('DROP-1', IMAGE, tartOptions(ID))
const guestFile = (vm: string, name: string) => join(bench.mac.guestOf(vm) ?? '', 'home', name)

test('a checkpoint of a stopped machine restores it stopped', async () => {
  const { provider } = bench
  await create()
  writeFileSync(guestFile(VM, 'state'), 'before')
  await provider.checkpoint(ID, 'one')
  writeFileSync(guestFile(VM, 'state'), 'after')
  await provider.startVm(ID)
  await provider.restore(ID, 'one')
  expect(await provider.status(ID)).toBe('stopped')
  expect(readFileSync(guestFile(VM, 'state'), 'utf8')).toBe('before')
  expect(bench.mac.vms()).toContain(`${ID}.stopped.0001.one.${HOME_ID}`)
})

test('a restore that died after it had deleted the machine is ended by the next change', async () => {
  const { mac, provider } = bench
  await create()
  await provider.checkpoint(ID, 'one')
  mac.tart('rename', VM, `${ID}.DROP-1.restored.${HOME_ID}`)
  expect(await provider.listVms()).toMatchObject([{ vmId: ID, ticket: 'DROP-1', status: 'stopped' }])
  expect(await provider.status(ID)).toBe('stopped')
  expect(await provider.listCheckpoints(ID)).toEqual(['one'])
  await provider.startVm(ID)
  expect(await provider.status(ID)).toBe('running')
  expect(mac.vms()).toContain(VM)
})

test('a restore that died before that leaves a clone, which the next one replaces', async () => {
  const { mac, provider } = bench
  await create()
  await provider.checkpoint(ID, 'one')
  mac.tart('clone', VM, `${ID}.DROP-1.restored.${HOME_ID}`)
  expect(await provider.listVms()).toHaveLength(1)
  await provider.restore(ID, 'one')
  expect(mac.vms()).toEqual([imageVm(), VM, `${ID}.stopped.0001.one.${HOME_ID}`].sort())
})

test('such a clone does not count as the machine once somebody deletes that', async () => {
  const { mac, provider } = bench
  await create()
  mac.tart('clone', VM, `${ID}.DROP-1.restored.${HOME_ID}`)
  await provider.startVm(ID)
  await provider.stopVm(ID)
  mac.tart('delete', VM)
  expect(await provider.listVms()).toEqual([])
})

test('an image that is being built is neither built twice nor deleted', async () => {
  const { home, provider } = bench
  const note = join(home, 'tart', `building-${IMAGE}`)
  mkdirSync(join(home, 'tart'), { recursive: true })
  writeFileSync(note, String(process.pid))
  await expect(provider.deleteBaseImage?.(IMAGE)).rejects.toMatchObject(kind('busy'))
  expect(bench.mac.vms()).toEqual([imageVm()])
  writeFileSync(join(home, 'tart', 'building-other'), String(process.pid))
  const build = { name: 'other', newMachine: () => ID, reference: 'ghcr.io/acme/other:1' } as unknown as TakeBase
  await expect(provider.takeBase?.(build)).rejects.toMatchObject(kind('busy'))
  // Of a process that has died.
  writeFileSync(note, '4194305')
  await provider.deleteBaseImage?.(IMAGE)
  expect([existsSync(note), bench.mac.vms()]).toEqual([false, []])
})

test('a create that died is replaced by the next one, and removed by a delete', async () => {
  const { mac, provider } = bench
  mac.tart('clone', imageVm(), `${ID}.new.${HOME_ID}`)
  expect(await provider.listVms()).toEqual([])
  expect(await provider.leftovers?.()).toMatchObject([{ vmId: ID, hasDisk: false }])
  await create()
  expect(mac.vms()).toEqual([imageVm(), VM])
  mac.tart('clone', imageVm(), `${ID}.new.${HOME_ID}`)
  await provider.deleteVm(ID)
  expect(mac.vms()).toEqual([imageVm()])
})

test('a create that fails leaves nothing', async () => {
  const { mac, home, provider } = bench
  await expect(provider.createVm('DROP-1', 'nothing', tartOptions(ID))).rejects.toMatchObject(kind('no-such-image'))
  await expect(provider.createVm('../x', IMAGE, tartOptions(ID))).rejects.toMatchObject(kind('usage'))
  mac.knobs({ diskFull: true })
  await expect(create()).rejects.toMatchObject(kind('disk-full'))
  expect(mac.vms()).toEqual([imageVm()])
  const machines = join(home, 'tart/machines')
  expect(existsSync(machines) ? readdirSync(machines) : []).toEqual([])
})

test('a machine that somebody deleted is made again from its newest checkpoint, with its keys', async () => {
  const { mac, home, provider } = bench
  await create()
  await provider.checkpoint(ID, 'one')
  writeFileSync(guestFile(VM, 'work'), 'hello')
  await provider.checkpoint(ID, 'two')
  const seed = readFileSync(join(home, 'tart/machines', ID, 'seed.iso'))
  mac.tart('delete', VM)
  expect(await provider.listVms()).toEqual([])
  await expect(provider.startVm(ID)).rejects.toMatchObject(kind('no-such-vm'))
  expect(await provider.hasLeftDisk?.(ID)).toBe(true)
  await expect(create()).rejects.toMatchObject(kind('already-exists'))
  expect(await provider.leftovers?.()).toMatchObject([{ vmId: ID, hasDisk: true }])
  await provider.recoverVm?.(ID, 'DROP-1', tartOptions(ID))
  await provider.recoverVm?.(ID, 'DROP-1', tartOptions(ID))
  expect(await provider.listVms()).toMatchObject([{ vmId: ID, ticket: 'DROP-1', status: 'stopped' }])
  expect(await provider.listCheckpoints(ID)).toEqual(['one', 'two'])
  expect(readFileSync(guestFile(VM, 'work'), 'utf8')).toBe('hello')
  expect(readFileSync(join(home, 'tart/machines', ID, 'seed.iso'))).toEqual(seed)
  await provider.deleteVm(ID)
  expect(await provider.leftovers?.()).toEqual([])
  await expect(provider.recoverVm?.(ID, 'DROP-1', tartOptions(ID))).rejects.toMatchObject(kind('no-such-vm'))
})

test('without its seed, the guest of a machine that is made again takes the new keys', async () => {
  const { mac, home, provider } = bench
  await create()
  await provider.startVm(ID)
  await ready(bench, ID)
  await provider.checkpoint(ID, 'one')
  await provider.stopVm(ID)
  mac.tart('delete', VM)
  rmSync(join(home, 'tart'), { recursive: true })
  await provider.recoverVm?.(ID, 'DROP-1', tartOptions(ID))
  await provider.startVm(ID)
  await ready(bench, ID)
  const boots = readFileSync(join(bench.guest(ID), 'first-boots'), 'utf8')
    .trim()
    .split('\n')
  expect(boots).toEqual([ID, expect.stringMatching(new RegExp(`^${ID}-[0-9a-f]{8}$`))])
})

test.for<[string, string]>([
  ['a name like ours without a mark', ID],
  ['one with something behind the mark', `${ID}.DROP-1.${HOME_ID}.copy`],
])('%s is not ours, and never touched', async ([, name]) => {
  const { mac, provider } = bench
  mac.tart('clone', imageVm(), name)
  const calls = [
    () => provider.status(ID),
    () => provider.startVm(ID),
    () => provider.deleteVm(ID),
    () => provider.checkpoint(ID, 'one'),
    () => create(),
    () => provider.recoverVm?.(ID, null, tartOptions(ID)),
  ]
  for (const call of calls) await expect(call()).rejects.toMatchObject(kind('not-ours'))
  expect(await provider.listVms()).toEqual([])
  expect(await provider.leftovers?.()).toEqual([])
  expect(mac.vms()).toContain(name)
})

test('two VMs with the mark of one machine are told, and neither is touched', async () => {
  const { mac, provider } = bench
  await create()
  mac.tart('clone', VM, `${ID}.DROP-2.${HOME_ID}`)
  await expect(provider.deleteVm(ID)).rejects.toMatchObject({
    failure: { kind: 'not-ours', message: expect.stringContaining('two VMs have the mark') },
  })
  expect(mac.vms()).toHaveLength(3)
})

test('an image without a manifest cannot be read; a manifest without an image does not count', async () => {
  const { home, mac, provider } = bench
  const images = join(home, 'tart/images')
  mkdirSync(images, { recursive: true })
  writeFileSync(join(images, 'gone.json'), '{}')
  expect(await provider.listBaseImages?.()).toEqual([IMAGE])
  expect(await provider.describeBaseImages?.()).toEqual([{ name: IMAGE, manifest: null, machines: [] }])
  await expect(provider.deleteBaseImage?.('gone')).rejects.toMatchObject(kind('no-such-image'))
  // A machine does not depend on its image.
  await create()
  await provider.deleteBaseImage?.(IMAGE)
  expect(mac.vms()).toEqual([VM])
  await provider.startVm(ID)
})

test('what a Mac has, and lacks', async () => {
  const { home, mac, provider } = bench
  const texts = async () => (await provider.diagnose?.(new AbortController().signal))?.map(({ text }) => text) ?? []
  expect(await texts()).toEqual([
    'Tart 2.35.0 is installed',
    'Tart lists its VMs: 1',
    expect.stringContaining('qemu-img'),
    expect.stringContaining('of memory are available'),
    expect.stringContaining('Softnet'),
  ])
  const end = Math.floor(Date.now() / 1000 + 1_000).toString(16)
  const leases = Array.from(
    { length: 201 },
    (_, n) => `{\n\tip_address=192.168.64.${n + 2}\n\thw_address=1,2:0:0:0:0:${n.toString(16)}\n\tlease=0x${end}\n}\n`,
  )
  writeFileSync(join(mac.tartHome, 'dhcpd_leases'), leases.join(''))
  expect(await texts()).toContain("201 of about 253 addresses of macOS' DHCP server are lent")
  const without = bench.open({ environment: { ...process.env, PATH: home } })
  expect(await without.diagnose?.(new AbortController().signal)).toEqual([
    expect.objectContaining({ status: 'error', remedy: expect.stringContaining('brew install') }),
  ])
})

test('a home with a colon in its path is refused before anything starts', async () => {
  const { mac, home } = bench
  const { openTartOn } = await import('../../support/tart/bench.ts')
  const provider = openTartOn(mac, join(home, 'a:b'))
  await provider.createVm('DROP-1', IMAGE, tartOptions(ID))
  await expect(provider.startVm(ID)).rejects.toMatchObject(kind('not-configured'))
  expect(await provider.status(ID)).toBe('stopped')
})
