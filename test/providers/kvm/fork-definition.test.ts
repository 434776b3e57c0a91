/** The definition of a fork, made of that in its source's memory image. */
import { expect, test } from 'vitest'
import { forkDefinition } from '../../../providers/kvm/fork-definition.ts'
import { parseMarks } from '../../../providers/kvm/marks.ts'
import { failureOf } from './fake-virsh.ts'

const [SOURCE, FORK] = ['as-a-1-0000000a', 'as-a-1-1-0000000b']
const [OLD_MAC, MAC] = ['52:54:00:00:00:0a', '52:54:00:00:00:0b']

/** As libvirt 9.0 writes it into a memory image, shortened. */
const definition = `<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>${SOURCE}</name>
  <uuid>0f9d33b4-7c7c-4a77-8c6e-000000000001</uuid>
  <genid>0f9d33b4-7c7c-4a77-8c6e-000000000002</genid>
  <metadata>
    <as:vm xmlns:as="urn:agent-swarm:1" name="${SOURCE}" ticket="A-1" home="00112233445566ff" mac="${OLD_MAC}" ip="192.168.177.5" checkpoints="external"/>
  </metadata>
  <memory unit='KiB'>1048576</memory>
  <vcpu placement='static'>2</vcpu>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><nvram>/pool/${SOURCE}.nvram</nvram></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap' detect_zeroes='unmap'/>
      <source file='/pool/${SOURCE}.2.qcow2' index='4'/>
      <backingStore type='file' index='1'>
        <format type='qcow2'/>
        <source file='/pool/${SOURCE}.qcow2'/>
        <backingStore type='file'>
          <format type='qcow2'/>
          <source file='/pool/base.qcow2'/>
          <backingStore/>
        </backingStore>
      </backingStore>
      <target dev='vda' bus='virtio'/>
      <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <source file='/pool/${SOURCE}.seed.iso' index='3'/>
      <backingStore/>
      <target dev='sda' bus='scsi'/>
      <readonly/>
      <address type='drive' controller='0' bus='0' target='0' unit='0'/>
    </disk>
    <interface type='network'>
      <mac address='${OLD_MAC}'/>
      <source network='agent-swarm' portid='0f9d33b4-7c7c-4a77-8c6e-000000000003' bridge='as123456'/>
      <target dev='vnet4'/>
      <port isolated='yes'/>
      <model type='virtio'/>
      <filterref filter='old'><parameter name='IP' value='192.168.177.5'/></filterref>
      <alias name='net0'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
    </interface>
    <serial type='pty'><log file='/pool/${SOURCE}.console.log' append='off'/><target type='isa-serial' port='0'/></serial>
    <console type='pty'><log file='/pool/${SOURCE}.console.log' append='off'/><target type='serial' port='0'/></console>
    <channel type='unix'>
      <source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-4-${SOURCE}/org.qemu.guest_agent.0'/>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
      <address type='virtio-serial' controller='0' bus='0' port='1'/>
    </channel>
  </devices>
  <seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+64055</label></seclabel>
</domain>`

const fork = {
  mark: {
    vmId: FORK,
    ticket: 'A-1',
    home: '00112233445566ff',
    mac: MAC,
    port: null,
    ip: '192.168.177.9',
    checkpoints: 'external' as const,
  },
  network: 'agents',
  isolation: { filter: 'agent-swarm-00112233445566ff', ip: '192.168.177.9' },
  folder: '/pool',
}

test('everything that is the source’s own is replaced, and what the memory depends on stays', () => {
  const text = forkDefinition(definition, SOURCE, fork)
  for (const own of [
    SOURCE,
    OLD_MAC,
    '192.168.177.5',
    '0f9d33b4',
    'vnet4',
    'portid',
    'backingStore',
    'seclabel',
    'channel/target',
    'old',
  ])
    expect(text).not.toContain(own)
  for (const kept of [
    "machine='pc-q35-7.2'",
    "<memory unit='KiB'>1048576</memory>",
    "<address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>",
    "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>",
    "<target type='virtio' name='org.qemu.guest_agent.0'/>",
    "discard='unmap'",
  ])
    expect(text).toContain(kept)
  expect(text.match(/\/pool\/[^"'<]*/g)).toEqual([
    `/pool/${FORK}.nvram`,
    `/pool/${FORK}.qcow2`,
    `/pool/${FORK}.seed.iso`,
    `/pool/${FORK}.console.log`,
    `/pool/${FORK}.console.log`,
  ])
  expect(parseMarks(text)).toEqual([fork.mark])
  expect(text).toMatch(/<filterref filter="agent-swarm-00112233445566ff"><parameter name="IP" value="192.168.177.9"\/>/)
  expect(text).toMatch(/<port isolated="yes"\/>/)
})

test('each has a uuid and a generation of its own', () => {
  const ids = [1, 2].flatMap(() => forkDefinition(definition, SOURCE, fork).match(/<(?:uuid|genid)>[^<]+/g) ?? [])
  expect(new Set(ids.map(id => id.replace(/<\w+>/, ''))).size).toBe(4)
})

test.for([
  ['no network interface', /<interface[\s\S]*<\/interface>/, ''],
  ['no seed', /sda/g, 'sdb'],
  ['no mark of ours', /<as:vm[^>]*>/, ''],
  ['the name of the source in a place that nobody knows', '</devices>', `<x path='/run/${SOURCE}'/></devices>`],
] as const)('a definition with %s is refused', async ([, what, by]) => {
  const make = async () => forkDefinition(definition.replace(what, by), SOURCE, fork)
  expect(await failureOf(make())).toMatchObject({ kind: 'unsupported' })
})
