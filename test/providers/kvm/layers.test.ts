import { expect, test } from 'vitest'
import { machineOf } from '../../../providers/kvm/definition.ts'
import {
  chainOf,
  layerOf,
  layersIn,
  layerVolume,
  markerVolume,
  memoryVolume,
  mergeable,
  neededByOthers,
  type Pool,
  unneededVolumes,
} from '../../../providers/kvm/layers.ts'
import { withDisk, withMark } from '../../../providers/kvm/libvirt-xml.ts'
import {
  isWritingPages,
  parseCapability,
  parseDisks,
  parseMemory,
  parseQemuVersion,
} from '../../../providers/kvm/parse.ts'
import { unneededOfDeleted } from '../../../providers/kvm/pool-layers.ts'

const V = 'as-a-1-0000000a'
const W = 'as-a-1-2-0000000b'
/** Layers by their short names: `0`, `1`; `W` and `W1` of the fork; `base` is the image. */
const volumeOf = (short: string): string => {
  const [, fork, layer = ''] = short.match(/^(W?)(\d*)$/) ?? []
  return fork === undefined ? `${short}.qcow2` : layerVolume(fork === '' ? V : W, Number(layer))
}
/** `1>0>base`: each stands on the next. `marked`: the layers of V with a checkpoint. */
const poolOf = (chains: readonly string[], marked: readonly number[] = [], more: readonly string[] = []): Pool => {
  const backing = new Map<string, string>()
  const volumes = new Set(more)
  for (const chain of chains) {
    const names = chain.split('>').map(volumeOf)
    for (const [n, name] of names.entries()) {
      volumes.add(name)
      const below = names[n + 1]
      if (below !== undefined) backing.set(name, below)
    }
  }
  for (const layer of marked) volumes.add(markerVolume(V, layer, `at-${layer}`))
  return { volumes: [...volumes], backing }
}

test('layers, memories and checkpoints are the names of volumes; the next layer has a number that none has', () => {
  const volumes = [
    `${V}.qcow2`,
    `${V}.10.qcow2`,
    `${V}.2.qcow2`,
    `${V}.2.memory`,
    `${V}.10.b.checkpoint`,
    `${V}.2.push-92aa11b.checkpoint`,
    `${V}.2.${'x'.repeat(42)}.checkpoint`,
    `${V}.seed.iso`,
    `${W}.11.qcow2`,
    'base.qcow2',
  ]
  expect(layersIn(volumes, V)).toEqual({
    disks: [0, 2, 10],
    memories: [2],
    checkpoints: [
      { layer: 2, name: 'push-92aa11b' },
      { layer: 10, name: 'b' },
    ],
    next: 11,
  })
  expect(layersIn([], V).next).toBe(1)
  expect(layersIn([memoryVolume(V, 7)], V).next).toBe(8)
})

test('the layer of a file, and the machine of a volume', () => {
  expect(layerOf(`/pool/${V}.qcow2`, V)).toBe(0)
  expect(layerOf(`/a folder/${V}.12.qcow2`, V)).toBe(12)
  expect(layerOf('/pool/other.qcow2', V)).toBeNull()
  for (const volume of [layerVolume(V, 3), memoryVolume(V, 3), markerVolume(V, 3, 'one'), `${V}.kept`, `${V}.seed.iso`])
    expect(machineOf(volume)).toBe(V)
  expect(machineOf('agent-swarm-base.manifest.json')).toBeNull()
})

test('a chain ends at the image, also when it stands on itself', () => {
  const { backing } = poolOf(['2>0>base'])
  expect(chainOf(volumeOf('2'), backing)).toEqual(['2', '0', 'base'].map(volumeOf))
  expect(
    chainOf(
      'a',
      new Map([
        ['a', 'b'],
        ['b', 'a'],
      ]),
    ),
  ).toEqual(['a', 'b'])
})

test.for<[string, string[], number[], string, string[]]>([
  ['a chain in use', ['2>1>0>base'], [0], '2', []],
  ['the disk of before a restore', ['1>0>base', '2>0>base'], [0], '2', ['1']],
  ['a layer that an interrupted restore did not use', ['1>0>base', '2>0>base'], [0], '1', ['2']],
  ['the disk of before, with its own checkpoint', ['1>0>base', '2>0>base'], [0, 1], '2', []],
  ['what stood on a deleted checkpoint goes from the top', ['3>2>1>0>base', '4>0>base'], [0], '4', ['3', '2', '1']],
  ['a fork stands on it', ['1>0>base', '2>0>base', 'W>1>0>base'], [0], '2', []],
  ['a fork stands below it', ['2>1>0>base', '3>0>base', 'W>1>0>base'], [], '3', ['2']],
])('layers that nothing needs: %s', ([, chains, marked, active, expected]) => {
  expect(unneededVolumes(poolOf(chains, marked), V, [volumeOf(active)])).toEqual(expected.map(volumeOf))
})

test('a memory without a marker is not needed', () => {
  const pool = poolOf(['2>1>0>base'], [0], [memoryVolume(V, 0), memoryVolume(V, 1)])
  expect(unneededVolumes(pool, V, [volumeOf('2')])).toEqual([memoryVolume(V, 1)])
})

test.for<[string, string[], number[], string, [string, string] | null]>([
  ['two layers without checkpoints', ['2>1>0>base'], [], '2', ['1', '0']],
  ['never the active one', ['1>0>base'], [], '1', null],
  ['never into the image', ['2>1>base'], [], '2', null],
  ['the lower one has a checkpoint', ['2>1>0>base'], [0], '2', null],
  ['the upper one has a checkpoint', ['2>1>0>base'], [1], '2', null],
  ['between checkpoints', ['5>4>3>2>1>0>base'], [0, 3], '5', ['2', '1']],
  ['the former disk stands on the lower one', ['3>2>1>0>base', '4>1>0>base'], [2], '3', null],
  ['another checkpoint stands on the upper one', ['3>1>0>base', '2>1>0>base'], [2], '3', null],
  ['a fork stands on the upper one', ['2>1>0>base', 'W>1>0>base'], [], '2', null],
  ['a fork stands above both', ['4>3>2>1>0>base', 'W>2>1>0>base'], [2], '4', null],
  ['a fork stands on the lower one', ['2>1>0>base', 'W>0>base'], [], '2', null],
  ['the fork itself, on layers of its source', ['W2>W1>W>0>base'], [], 'W2', ['W1', 'W']],
  ['never one that the definition still names', ['3>2>1>0>base'], [], '3 1', null],
])('layers that become one: %s', ([, chains, marked, active, expected]) => {
  const disks = active.split(' ').map(volumeOf)
  const found = mergeable(poolOf(chains, marked), active.startsWith('W') ? W : V, disks)
  expect(found && [found.top, found.base]).toEqual(expected?.map(volumeOf) ?? null)
})

test('layers of a deleted machine become one when one machine alone stands on them, and never with its own', () => {
  const kept = `${V}.kept`
  const pairOf = (chains: string[], disks: string[], more: string[]) => mergeable(poolOf(chains, [], more), W, disks)
  const pair = { top: volumeOf('1'), base: volumeOf('0') }
  expect(pairOf(['W1>W>1>0>base'], [volumeOf('W1')], [kept])).toEqual(pair)
  // Before its own first layer is free.
  expect(pairOf(['W2>W1>W>1>0>base'], [volumeOf('W2')], [kept])).toEqual({ top: volumeOf('W1'), base: volumeOf('W') })
  expect(pairOf(['W1>W>0>base'], [volumeOf('W1')], [kept])).toBeNull()
  // The machine is still there, or another one stands on its layers.
  expect(pairOf(['W1>W>1>0>base'], [volumeOf('W1')], [])).toBeNull()
  const other = layerVolume('as-a-1-3-0000000c', 0)
  const pool = poolOf(['W1>W>1>0>base'], [], [kept, other])
  for (const below of ['1', '0']) {
    const backing = new Map([...pool.backing, [other, volumeOf(below)]])
    expect(mergeable({ ...pool, backing }, W, [volumeOf('W1')])).toBeNull()
  }
})

test('layers of a deleted machine stay while a fork of it stands on them', () => {
  const kept = `${V}.kept`
  const forked = poolOf(['2>1>0>base', 'W1>W>1>0>base'], [1], [kept])
  expect(neededByOthers(forked, V)).toEqual([volumeOf('1'), volumeOf('0')])
  expect(unneededOfDeleted(forked, new Set([W])).sort()).toEqual([markerVolume(V, 1, 'at-1'), volumeOf('2')])
  expect(unneededOfDeleted(forked, new Set([V, W]))).toEqual([])
  expect(unneededOfDeleted(poolOf(['1>0>base'], [], [kept]), new Set())).toEqual([volumeOf('1'), volumeOf('0'), kept])
  expect(unneededOfDeleted(poolOf(['1>0>base']), new Set())).toEqual([])
})

const LIVE = `<domain type='qemu'>
  <metadata><as:vm xmlns:as="urn:agent-swarm:1" name="${V}" ticket="A-1" mac="m"/></metadata>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap'/>
      <source file='/pool/${V}.1.qcow2' index='3'/>
      <backingStore type='file' index='1'>
        <format type='qcow2'/>
        <source file='/pool/${V}.qcow2'/>
        <backingStore type='file'>
          <format type='qcow2'/>
          <source file='/pool/base.qcow2'/>
          <backingStore/>
        </backingStore>
      </backingStore>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'>
      <source file='/pool/${V}.seed.iso'/>
      <backingStore/>
    </disk>
</domain>`

test('a definition with another disk does not name what the former one stood on', () => {
  const text = withDisk(LIVE, '/pool/$& new.qcow2')
  expect(text).toContain('<source file="/pool/$&amp; new.qcow2"/>')
  expect(text).toMatch(/discard='unmap'\/>\s*<source file="[^"]*"\/>\s*<target dev='vda'/)
  expect(text).not.toContain('base.qcow2')
  expect(text).toContain(`<source file='/pool/${V}.seed.iso'/>\n      <backingStore/>`)
  expect(withDisk(LIVE.replace(/<backingStore type='file' index[\s\S]*?<target/, '<target'), '/x')).toContain(
    'file="/x"',
  )
})

test('a memory of another time gets the present mark', () => {
  const mark = {
    vmId: V,
    ticket: 'B-2',
    home: '0011',
    mac: 'm',
    port: null,
    ip: null,
    checkpoints: 'external',
  } as const
  expect(withMark(LIVE, mark)).toContain(
    `<as:vm xmlns:as="urn:agent-swarm:1" name="${V}" ticket="B-2" home="0011" mac="m" checkpoints="external"/>`,
  )
})

test("what QEMU's monitor and virsh say", () => {
  expect(parseQemuVersion('{"return":{"qemu":{"micro":22,"minor":2,"major":7},"package":"Debian"},"id":"x"}')).toBe(
    7.02,
  )
  expect(parseQemuVersion('{"id":"x","error":{"class":"GenericError"}}')).toBeNull()
  const capabilities =
    '{"return":[{"state":true,"capability":"xbzrle"},{"state":false,"capability":"background-snapshot"}]}'
  expect(parseCapability(capabilities, 'background-snapshot')).toBe(false)
  expect(parseCapability('{"return":[{"capability":"background-snapshot","state":true}]}', 'background-snapshot')).toBe(
    true,
  )
  expect(parseCapability('', 'background-snapshot')).toBeNull()
  const writing = '{"return":{"status":"active","ram":{"total":1,"duplicate":3,"normal":0}}}'
  expect(isWritingPages(writing)).toBe(true)
  expect(isWritingPages(writing.replace('"duplicate":3', '"duplicate":0'))).toBe(false)
  // Of the save before.
  expect(isWritingPages(writing.replace('active', 'completed'))).toBe(false)
  expect(parseDisks(` vda      /a folder/${V}.1.qcow2\n sda      /pool/seed.iso\n\n vda   /pool/x.qcow2\n`)).toEqual([
    `/a folder/${V}.1.qcow2`,
    '/pool/x.qcow2',
  ])
  expect(parseMemory(`Domain: '${V}'\n  state.state=1\n  balloon.maximum=1024\n`, V)).toBe(1024 * 1024)
})
