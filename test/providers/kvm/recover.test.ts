/** What is left of machines that libvirt does not have any more, and a machine made again from its disk. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { seedImage } from '../../../base-image/seed.ts'
import { HEADER_BYTES, parseSnapshotTable, snapshotTable } from '../../../providers/kvm/qcow2.ts'
import { ABSENT, type Answer, domains, failureOf, fakeKvm, HOME_ID, options, pool, VM, version } from './fake-virsh.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-recover-'))
})
afterEach(() => rmSync(home, { recursive: true }))

const OTHER = 'as-b-2-0000000b'
const volumes = (...names: string[]): Answer => ({
  to: 'vol-list',
  stdout: names.map(name => ` ${name}   /pool/${name}`).join('\n'),
})
const size = (name: string, bytes: number): Answer => ({
  to: `vol-info --pool agent-swarm ${name}`,
  stdout: `Name:           ${name}\nAllocation:     ${bytes} bytes`,
})

// ── The table of snapshots in a qcow2 file ──

const entry = (name: string, seconds: number, extra = 24): Buffer => {
  const id = '12'
  const bytes = Buffer.alloc(Math.ceil((40 + extra + id.length + name.length) / 8) * 8)
  bytes.writeUInt16BE(id.length, 12)
  bytes.writeUInt16BE(name.length, 14)
  bytes.writeUInt32BE(seconds, 16)
  bytes.writeUInt32BE(extra, 36)
  bytes.write(id + name, 40 + extra)
  return bytes
}
const header = (count: number, offset: number): Buffer => {
  const bytes = Buffer.alloc(HEADER_BYTES)
  bytes.writeUInt32BE(0x51_46_49_fb, 0)
  bytes.writeUInt32BE(count, 60)
  bytes.writeBigUInt64BE(BigInt(offset), 64)
  return bytes
}

test('the snapshots of a disk are read from its file', () => {
  expect(snapshotTable(header(2, 327_680))).toEqual({ offset: 327_680, length: 1024, count: 2 })
  expect(snapshotTable(header(0, 0))).toBe(null)
  expect(snapshotTable(Buffer.from('not a qcow2 file'.repeat(8)))).toBe(null)
  const table = Buffer.concat([entry('one', 1_795_919_406), entry('push-92aa11b', 1_795_919_500, 16), Buffer.alloc(64)])
  expect(parseSnapshotTable(table, 2)).toEqual([
    { name: 'one', createdAt: new Date(1_795_919_406_000) },
    { name: 'push-92aa11b', createdAt: new Date(1_795_919_500_000) },
  ])
  // A file that ends early, or that lies about its lengths.
  expect(parseSnapshotTable(table.subarray(0, 68), 2)).toEqual([])
  expect(parseSnapshotTable(Buffer.alloc(40, 255), 9)).toEqual([])
})

// ── Leftovers ──

test('leftovers are the volumes of machines that libvirt does not have, with a constant number of commands', async () => {
  const names = [`${VM}.qcow2`, `${VM}.seed.iso`, `${OTHER}.console.log`, 'as-c-3-0000000c.qcow2', 'base.qcow2']
  const answers = [
    volumes(...names),
    domains('as-c-3-0000000c', 'somebody'),
    size(`${VM}.qcow2`, 900),
    size(`${VM}.seed.iso`, 50),
    size(`${OTHER}.console.log`, 7),
  ]
  const { provider, calls } = fakeKvm(answers, { home })
  expect(await provider.leftovers?.()).toEqual([
    { vmId: VM, hasDisk: true, bytes: 950 },
    { vmId: OTHER, hasDisk: false, bytes: 7 },
  ])
  expect(calls).toHaveLength(4)
  // libvirt's list is as old as its last refresh.
  expect(calls[0]).toMatch(/pool-refresh agent-swarm$/)
  expect(calls.join('\n')).not.toMatch(/delete|define/)
})

test('a list of machines that cannot be read is not an empty list: no machine is left over', async () => {
  const broken = { to: 'list --all --name', stderr: 'error: Failed to list domains' }
  const { provider } = fakeKvm([volumes(`${VM}.qcow2`), broken], { home })
  expect((await failureOf(provider.leftovers?.())).message).toContain('Failed to list domains')
})

// ── A machine made again ──

const MAC = '52:54:00:aa:bb:cc'
const common = [ABSENT, domains(), version('9.0.0'), pool(9_000)]

/** Writes what `vol-download` would. */
const downloads = (files: Record<string, (offset: number) => Buffer>) => (text: string) => {
  const [, volume = '', path = '', offset = '0'] =
    text.match(/vol-download --pool agent-swarm (\S+) (\S+) --offset (\d+)/) ?? []
  const content = files[volume]?.(Number(offset))
  if (content !== undefined) writeFileSync(path, content)
}

test('a machine is made again from its disk and its seed, with its MAC, a mark of this home and its checkpoints', async () => {
  const seed = seedImage({
    hostname: VM,
    network: { by: 'mac', mac: MAC },
    publicKey: 'old',
    hostKey: { privateKey: 'x', publicKey: 'y' },
  })
  const backing = {
    to: 'vol-dumpxml',
    stdout: `<volume type='file'><name>${VM}.qcow2</name><backingStore>\n<path>/pool/base.qcow2</path></backingStore></volume>`,
  }
  const defined = { to: 'dumpxml', stdout: `<domain type='qemu'><name>${VM}</name></domain>` }
  const answers = [...common, volumes(`${VM}.qcow2`, `${VM}.seed.iso`, 'base.qcow2'), backing, defined]
  const table = Buffer.concat([entry('one', 1_795_919_406), entry('Not Ours', 1), entry('later', 1_795_919_406)])
  const { provider, calls, files } = fakeKvm(
    answers,
    { home },
    downloads({
      [`${VM}.seed.iso`]: () => seed,
      [`${VM}.qcow2`]: offset => (offset === 0 ? header(3, 65_536) : table),
    }),
  )
  await provider.recoverVm?.(VM, 'A-1', options)
  const definition = files.find(text => text.includes('<domain type="qemu"')) ?? ''
  expect(definition).toContain(`name="${VM}" ticket="A-1" home="${HOME_ID}" mac="${MAC}"`)
  expect(definition).toContain(`<source file="/pool/${VM}.qcow2"/>`)
  // The seed stays: the guest is the machine that it was.
  expect(calls.join('\n')).not.toMatch(/vol-(?:delete|create-as|upload) [^;]*\.seed\.iso/)
  const snapshots = files.filter(text => text.includes('<domainsnapshot>'))
  expect(snapshots).toHaveLength(2)
  // Of one second: the parent tells which came first.
  expect(snapshots[0]).not.toContain('<parent>')
  expect(snapshots[1]).toMatch(/<name>later<\/name>\s+<parent><name>one<\/name><\/parent>/)
  expect(snapshots[0]).toMatch(
    /<name>one<\/name>\s+<state>shutoff<\/state>\s+<creationTime>1795919406<\/creationTime>\s+<memory snapshot="no"\/>[\s\S]*<domain type='qemu'>/,
  )
  expect(calls.join('\n')).not.toMatch(new RegExp(`vol-delete --pool agent-swarm ${VM}\\.qcow2`))
  expect(calls.join('\n')).not.toMatch(/ start /)
})

const below = (volume: string, on: string) =>
  `<volume type='file'><name>${volume}</name><backingStore>\n<path>/pool/${on}</path></backingStore></volume>`

test('a layer that a checkpoint stands on is not written: the machine gets a new one above it, and the answer says so', async () => {
  const names = [`${VM}.qcow2`, `${VM}.0.one.checkpoint`, 'base.qcow2']
  const backing = { to: 'vol-dumpxml', stdout: below(`${VM}.qcow2`, 'base.qcow2') }
  const capacity = { to: `vol-info --pool agent-swarm ${VM}.qcow2`, stdout: 'Capacity:       8589934592 bytes' }
  const answers = [...common, volumes(...names), backing, capacity]
  const { provider, files } = fakeKvm(answers, { home })
  expect(await provider.hasLeftDisk?.(VM)).toBe(true)
  expect(await provider.recoverVm?.(VM, 'A-1', options)).toBe(
    `The file of its newest layer is gone: its disk is that of before, ${VM}.qcow2`,
  )
  expect(files.find(text => text.includes('<volume>'))).toContain(`/pool/${VM}.qcow2`)
  expect(files.find(text => text.includes('<domain type="qemu"'))).toContain(`<source file="/pool/${VM}.1.qcow2"/>`)
})

test('layers that only a fork needs are no disk of the machine', async () => {
  const names = [`${VM}.qcow2`, `${OTHER}.qcow2`, 'base.qcow2']
  const stdout = below(`${OTHER}.qcow2`, `${VM}.qcow2`) + below(`${VM}.qcow2`, 'base.qcow2')
  const { provider, files } = fakeKvm([...common, volumes(...names), { to: 'vol-dumpxml', stdout }], { home })
  expect(await provider.hasLeftDisk?.(VM)).toBe(false)
  expect(await failureOf(provider.recoverVm?.(VM, 'A-1', options))).toMatchObject({ kind: 'no-such-vm' })
  expect(files).toEqual([])
})

test('without its seed, the guest becomes a new machine with the given keys', async () => {
  const backing = {
    to: 'vol-dumpxml',
    stdout: `<volume><name>${VM}.qcow2</name><backingStore><path>/pool/base.qcow2</path></backingStore></volume>`,
  }
  const answers = [...common, volumes(`${VM}.qcow2`, 'base.qcow2'), backing, { to: 'dumpxml', stdout: '<domain/>' }]
  const { provider, files } = fakeKvm(answers, { home }, downloads({ [`${VM}.qcow2`]: () => header(0, 0) }))
  await provider.recoverVm?.(VM, null, options)
  const seed = files.find(text => text.includes('"instance-id"')) ?? ''
  expect(seed).toMatch(new RegExp(`"instance-id":"${VM}-[0-9a-f]{8}"`))
  expect(seed).toContain(options.publicKey)
  const mac = seed.match(/"macaddress":"([^"]*)"/)?.[1] ?? ''
  expect(files.find(text => text.includes('<domain type="qemu"'))).toContain(`<mac address="${mac}"/>`)
})

test('without a disk, and without the image below it, nothing is made, and nothing is removed', async () => {
  const none = fakeKvm([...common, volumes('base.qcow2')], { home })
  expect(await failureOf(none.provider.recoverVm?.(VM, 'A-1', options))).toMatchObject({ kind: 'no-such-vm' })
  const backing = {
    to: 'vol-dumpxml',
    stdout: `<volume><name>${VM}.qcow2</name><backingStore><path>/pool/base.qcow2</path></backingStore></volume>`,
  }
  const noImage = fakeKvm([...common, volumes(`${VM}.qcow2`), backing], { home })
  expect(await failureOf(noImage.provider.recoverVm?.(VM, 'A-1', options))).toMatchObject({
    kind: 'no-such-image',
    message: expect.stringContaining('base.qcow2, is not in the pool'),
  })
  expect([...none.calls, ...noImage.calls].join('\n')).not.toMatch(/vol-delete|define|vol-create/)
})
