import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { isoImage } from '../../base-image/iso.ts'
import { type SeedNetwork, seedImage } from '../../base-image/seed.ts'

const SECTOR = 2048
/** Reads the Joliet tree by the offsets of the specification, with nothing of the writer. */
const read = (image: Buffer): Map<string, Buffer> => {
  let sector = 16
  while (image[sector * SECTOR] !== 2) sector += 1
  const descriptor = image.subarray(sector * SECTOR)
  expect(descriptor.toString('latin1', 1, 6)).toBe('CD001')
  expect(descriptor.toString('latin1', 88, 91)).toBe('%/E')
  const root = descriptor.readUInt32LE(156 + 2) * SECTOR
  const files = new Map<string, Buffer>()
  for (let at = root; (image[at] ?? 0) > 0; at += image[at] ?? 0) {
    const length = image[at + 32] ?? 0
    if (length === 1) continue
    const name = Buffer.from(image.subarray(at + 33, at + 33 + length))
      .swap16()
      .toString('utf16le')
    const [from, size] = [image.readUInt32LE(at + 2) * SECTOR, image.readUInt32LE(at + 10)]
    expect(image.readUInt32BE(at + 6) * SECTOR).toBe(from)
    files.set(name, image.subarray(from, from + size))
  }
  return files
}

test.for([0, 1, 2047, 2048, 2049, 100_000])('a file of %i bytes is read back unchanged', size => {
  const content = Buffer.alloc(size, 'abc')
  const image = isoImage('CIDATA', [
    { name: 'meta-data', content: Buffer.from('first') },
    { name: 'user-data', content },
    { name: 'network-config', content: Buffer.from('last') },
  ])
  expect(image.length % SECTOR).toBe(0)
  const files = read(image)
  expect([...files.keys()].sort()).toEqual(['meta-data', 'network-config', 'user-data'])
  expect(files.get('user-data')?.equals(content)).toBe(true)
  expect(files.get('network-config')?.toString()).toBe('last')
})

describe.skipIf(!existsSync('/usr/bin/isoinfo'))('isoinfo, an independent reader', () => {
  test('finds the label and both trees', () => {
    const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-iso-'))
    const path = join(folder, 'seed.iso')
    writeFileSync(
      path,
      isoImage('CIDATA', [
        { name: 'user-data', content: Buffer.from('#cloud-config\n{}') },
        { name: 'meta-data', content: Buffer.from('{}') },
      ]),
    )
    const isoinfo = (...words: string[]) => execFileSync('isoinfo', [...words, '-i', path], { encoding: 'utf8' })
    expect(isoinfo('-d')).toMatch(/Volume id: CIDATA[\s\S]*Joliet with UCS level 3 found/)
    expect(isoinfo('-J', '-f').trim().split('\n').sort()).toEqual(['/meta-data', '/user-data'])
    expect(isoinfo('-J', '-x', '/user-data')).toBe('#cloud-config\n{}')
    expect(isoinfo('-f')).toMatch(/USER_DA\d/)
    rmSync(folder, { recursive: true })
  })
})

test("the seed has the machine's name, login key and host key, and no value of it is a template", () => {
  const hostile = 'ssh-ed25519 AAAA "}; runcmd: [reboot] #'
  const files = read(
    seedImage({
      hostname: 'as-drop-1-00000001',
      network: { by: 'mac', mac: '52:54:00:12:34:56' },
      publicKey: hostile,
      hostKey: { privateKey: 'PRIVATE\nLINES\n', publicKey: 'ssh-ed25519 BBBB' },
    }),
  )
  const text = files.get('user-data')?.toString() ?? ''
  expect(text.startsWith('#cloud-config\n')).toBe(true)
  const config = JSON.parse(text.slice('#cloud-config\n'.length))
  expect(config).toMatchObject({
    hostname: 'as-drop-1-00000001',
    ssh_pwauth: false,
    ssh_deletekeys: true,
    ssh_keys: { ed25519_private: 'PRIVATE\nLINES\n', ed25519_public: 'ssh-ed25519 BBBB' },
    users: [{ name: 'agent', lock_passwd: true, ssh_authorized_keys: [hostile] }],
  })
  expect(JSON.parse(files.get('meta-data')?.toString() ?? '')).toEqual({
    'instance-id': 'as-drop-1-00000001',
    'local-hostname': 'as-drop-1-00000001',
  })
  expect(JSON.parse(files.get('network-config')?.toString() ?? '').ethernets).toMatchObject({
    // The key is the interface's name: all renderers but netplan write it as that.
    eth0: { match: { macaddress: '52:54:00:12:34:56' }, 'set-name': 'eth0', dhcp4: true, 'dhcp-identifier': 'mac' },
  })
  expect(() =>
    seedImage({
      hostname: 'x',
      network: { by: 'mac', mac: '' },
      publicKey: 'a\nb',
      hostKey: { privateKey: '', publicKey: '' },
    }),
  ).toThrow(/more than one line/)
})

test('the network of a guest: found by its MAC or its name, with DHCP or a fixed address', () => {
  const network = (value: SeedNetwork) => {
    const seed = { hostname: 'x', publicKey: 'a', hostKey: { privateKey: '', publicKey: '' }, network: value }
    return JSON.parse(read(seedImage(seed)).get('network-config')?.toString() ?? '').ethernets.eth0
  }
  expect(network({ by: 'name', pattern: 'e*' })).toEqual({
    match: { name: 'e*' },
    dhcp4: true,
    'dhcp-identifier': 'mac',
    dhcp6: false,
    'accept-ra': false,
    optional: false,
  })
  const fixed = { address: '172.30.0.5/20', gateway: '172.30.0.1', nameservers: ['1.1.1.1'] }
  expect(network({ by: 'mac', mac: '00:15:5d:00:00:05', fixed })).toMatchObject({
    match: { macaddress: '00:15:5d:00:00:05' },
    'set-name': 'eth0',
    dhcp4: false,
    addresses: ['172.30.0.5/20'],
    gateway4: '172.30.0.1',
    nameservers: { addresses: ['1.1.1.1'] },
  })
})
