/**
 * Three machines, of which one is restored from a checkpoint that was made without isolation, and every way out of them and into
 * them, by real packets. "Open" is that a packet arrived at a listener. Two network namespaces are the internet and the office.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from '../support/wait.ts'
import {
  ensureMachines,
  FIRST,
  inside,
  listed,
  program,
  SECOND,
  succeed,
  swarm,
  swarmWith,
  virsh,
  withProvider,
} from './cli.ts'
import { arrive, guest } from './packets.ts'

const THIRD = 'OTHER-1'
const [WORLD, OFFICE, METADATA] = ['203.0.113.5', '10.99.0.5', '169.254.169.254']
/** Addresses of the host in the namespaces' networks. */
const [UPLINK, INTRANET] = ['203.0.113.1', '10.99.0.1']
/** In the range of ports that the host's connections begin at, and not. */
const [HIGH, LOW] = [40_000, 3_000]

type Guest = { ticket: string; vmId: string; ip: string; mac: string }
let [a, b, c] = [] as unknown as [Guest, Guest, Guest]
let gateway: string
let folder: string
let arrivals: string
const listeners: ChildProcess[] = []

const host = (...words: string[]) => execFileSync(words[0] ?? '', words.slice(1), { encoding: 'utf8' })
const shell = (line: string) => host('sh', '-ec', line)

/** A namespace with one address, and the host's end of the wire to it. */
const place = (name: string, address: string, ofHost: string) =>
  shell(`ip netns add ${name}; ip link add ${name} type veth peer name in netns ${name}
    ip addr add ${ofHost}/24 broadcast + dev ${name}; ip link set ${name} up
    ip -n ${name} addr add ${address}/24 dev in; ip -n ${name} link set in up; ip -n ${name} link set lo up
    ip -n ${name} route add default via ${ofHost}`)

/** Listens on every address of the host, or of a namespace. What arrives goes into one file. */
const listen = (name: string, ports: readonly number[]) => {
  const words = ['python3', '-c', arrive, arrivals, name, ...ports.map(String)]
  const [file = '', ...rest] = name === 'host' ? words : ['ip', 'netns', 'exec', name, ...words]
  listeners.push(spawn(file, rest, { stdio: 'inherit' }))
}
const machine = async (ticket: string): Promise<Guest> => {
  const { vmId } = await listed(ticket)
  const xml = await virsh('dumpxml', vmId)
  const mac = xml.match(/<mac address='([^']*)'/)?.[1] ?? ''
  const ip = xml.match(/\bip=["']([^"']*)/)?.[1] ?? ''
  return { ticket, vmId, ip, mac }
}
/** Runs lines of the guest's Python library as root in the machine. */
const run = (from: Guest, ...lines: string[]) => {
  const script = Buffer.from([guest, ...lines].join('\n')).toString('base64')
  return inside(from.ticket, `echo ${script} | base64 -d | sudo python3 -`)
}

let tries = 0
/** Lets a guest send to each of these, and returns those at which something arrived: `tcp 10.99.0.5:80`. */
const arrived = async (from: Guest, ways: readonly string[]): Promise<string[]> => {
  const names = new Map(ways.map((way, at) => [`try-${tries + at}-`, way]))
  tries += ways.length
  const lines = [...names].map(([token, way]) => {
    const [protocol = '', address = '', port = '', source = '0'] = way.split(/[ :]/)
    return `send("${token}", "${protocol}", "${address}", ${port}, ${source})`
  })
  await run(from, ...lines, 'finish()')
  const file = readFileSync(arrivals, 'utf8')
  return [...names].flatMap(([token, way]) => (file.includes(token) ? way : []))
}

/** The ways that are open, and those that are closed. */
const outside = () => [`tcp ${WORLD}:80`, `udp ${WORLD}:80`]
const inward = () => [
  ...[gateway, UPLINK, INTRANET].flatMap(address =>
    ['tcp', 'udp'].flatMap(protocol => [LOW, HIGH].map(port => `${protocol} ${address}:${port}`)),
  ),
  `tcp ${gateway}:${HIGH}:8081`,
  `udp ${gateway}:${HIGH}:8081`,
  'udp 203.0.113.255:3000',
  'udp 10.99.0.255:3000',
]
const privately = () => [`tcp ${OFFICE}:80`, `udp ${OFFICE}:80`, `tcp ${METADATA}:80`, `udp ${METADATA}:80`]

const withoutIsolation = async ({ vmId, mac }: Guest) => {
  const file = join(folder, 'plain.xml')
  writeFileSync(
    file,
    `<interface type="network"><mac address="${mac}"/><source network="agent-swarm"/><model type="virtio"/></interface>`,
  )
  await succeed(program('virsh', ['-q', 'update-device', vmId, file, '--live', '--config']))
  const mark = (await virsh('metadata', vmId, 'urn:agent-swarm:1')).replace(/ ip=["'][^"']*["']/, '')
  await succeed(
    program('virsh', ['-q', 'metadata', vmId, 'urn:agent-swarm:1', '--key', 'as', '--set', mark, '--live', '--config']),
  )
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-isolation-'))
  arrivals = join(folder, 'arrivals')
  writeFileSync(arrivals, '')
  place('world', WORLD, UPLINK)
  place('office', OFFICE, INTRANET)
  shell(`ip -n office addr add ${METADATA}/32 dev in; ip route add ${METADATA} via ${OFFICE}`)
  await ensureMachines(FIRST, SECOND, THIRD)
  ;[a, b, c] = [await machine(FIRST), await machine(SECOND), await machine(THIRD)]
  gateway = (await virsh('net-dumpxml', 'agent-swarm')).match(/<ip address='([^']*)'/)?.[1] ?? ''
  listen('host', [LOW, HIGH])
  listen('world', [80])
  listen('office', [80])
  await until('the listeners', () => readFileSync(arrivals, 'utf8').match(/^ready/gm)?.length === 3)
})
afterAll(async () => {
  for (const listener of listeners) listener.kill('SIGKILL')
  await swarm('delete', THIRD, '--force')
  shell('ip netns del world; ip netns del office')
  rmSync(folder, { recursive: true })
})

test('without isolation every way is open, which shows that the listeners listen', async () => {
  await withoutIsolation(c)
  const all = [...outside(), ...inward(), ...privately()]
  expect(await arrived(c, all)).toEqual(all)
  // A command would isolate it before.
  await withProvider(kvm => kvm.checkpoint(c.vmId, 'plain'))
})

test('a running machine of an earlier version is isolated at the next look', async () => {
  await swarm('list')
  expect(await virsh('dumpxml', c.vmId)).toMatch(/<port isolated='yes'\/>[\s\S]*<filterref filter='agent-swarm-/)
  expect(await arrived(c, [...outside(), ...inward(), ...privately()])).toEqual(outside())
})

test('a checkpoint that was made without isolation is restored with it', async () => {
  await succeed(swarm('restore', THIRD, 'plain'))
  expect((await machine(THIRD)).ip).toBe(c.ip)
  expect(await arrived(c, [...outside(), ...inward(), ...privately()])).toEqual(outside())
})

test('a machine reaches the internet, and DHCP, DNS and ping of its gateway', async () => {
  for (const from of [a, c]) {
    expect(await arrived(from, [...outside(), ...inward(), ...privately()])).toEqual(outside())
    expect(await run(from, `dns("${gateway}")`, `dhcp("${from.mac}")`, `ping("${gateway}")`)).toBe(
      `dns answered\ndhcp offers ${from.ip}\npong`,
    )
  }
})

test('the host reaches every port of a machine', async () => {
  await run(b, 'serve(8080)')
  const page = () =>
    program('python3', ['-c', `${guest}\nprint(ask("tcp", "${b.ip}", 8080), ask("udp", "${b.ip}", 8080))`])
  await until('the server', async () => (await page()).stdout === 'served served\n')
  expect((await program('python3', ['-c', `${guest}\nping("${b.ip}")`])).stdout).toBe('pong\n')
})

test('nothing that a machine sends reaches another, in either direction, also routed by the gateway', async () => {
  const pairs = [
    [a, b],
    [a, c],
    [c, a],
  ] as const
  for (const [from, to] of pairs) {
    await run(to, 'sniff()')
    // The sniffer sees what the host sends.
    await until('the sniffer', async () => {
      await program('python3', ['-c', `${guest}\nsend("from-host-", "udp", "${to.ip}", 9, 0)`])
      return (await run(to, 'sniffed("from-host-")')) === 'True'
    })
    await run(
      from,
      `frames("from-guest-", "${from.mac}", "${to.mac}", "${from.ip}", "${to.ip}")`,
      `send("from-guest-", "udp", "${to.ip}", 9, 0)`,
      `broadcast("from-guest-")`,
      `routed("from-guest-", "${to.ip}", "${gateway}")`,
    )
    await program('python3', ['-c', `${guest}\nsend("last-", "udp", "${to.ip}", 9, 0)`])
    await until('the last packet', async () => (await run(to, 'sniffed("last-")')) === 'True')
    expect(await run(to, 'sniffed("from-guest-")', `sniffed_from("${from.mac}")`)).toBe('False\nFalse')
  }
})

test('a machine cannot take the address or the MAC of another', async () => {
  await run(a, 'serve(8081)')
  await succeed(program('virsh', ['-q', 'suspend', b.vmId]))
  try {
    await run(
      a,
      `take("${a.mac}", "${b.ip}")`,
      `frames("as-other-", "${b.mac}", "ff:ff:ff:ff:ff:ff", "${b.ip}", "${gateway}")`,
    )
    const asked = `${guest}\nprint(ask("tcp", "${b.ip}", 8081))`
    expect((await program('python3', ['-c', asked])).stdout).toBe('no answer\n')
    await run(a, `give_back("${b.ip}")`)
  } finally {
    await virsh('resume', b.vmId)
  }
  const port = (await virsh('domiflist', b.vmId)).match(/vnet\d+/)?.[0]
  expect(host('bridge', 'fdb', 'show')).not.toMatch(new RegExp(`${b.mac} dev (?!${port}\\b)vnet`))
  expect(await inside(SECOND, 'echo there')).toBe('there')
})

test('a range is opened by the setting, and the addresses of the host in it stay closed', async () => {
  const open = { AGENT_SWARM_KVM_ALLOW: '10.99.0.0/24' }
  await succeed(swarmWith(open, 'list'))
  const opened = [`tcp ${OFFICE}:80`, `udp ${OFFICE}:80`]
  expect(await arrived(a, [...outside(), ...inward(), ...privately()])).toEqual([...outside(), ...opened])
  await succeed(swarm('list'))
  expect(await arrived(a, [...outside(), ...inward(), ...privately()])).toEqual(outside())
})

const isolatedNow = async () =>
  JSON.parse(await succeed(swarm('providers', '--json')))[0].capabilities.includes('isolated')

test('rules that somebody removed are noticed, told and written again', async () => {
  expect(await isolatedNow()).toBe(true)
  const before = host('iptables-save')
  // As `nft flush ruleset` does.
  for (const line of ['iptables', 'iptables -t nat', 'iptables -t mangle', 'ebtables -t nat'])
    shell(`${line} -F; ${line} -X`)
  expect(await arrived(a, [`tcp ${gateway}:${LOW}`])).toHaveLength(1)
  expect(await isolatedNow()).toBe(false)
  expect(await succeed(swarm('providers'))).toContain('somebody removed the rules of libvirt')
  await succeed(swarm('list'))
  expect(await isolatedNow()).toBe(true)
  for (const from of [a, b, c]) expect(await arrived(from, [...inward(), ...privately()])).toEqual([])
  // A restart of libvirtd would bring NAT back, and end the other tests' connections.
  writeFileSync(join(folder, 'rules'), before)
  shell(`iptables-restore < ${join(folder, 'rules')}`)
  expect(await arrived(a, outside())).toEqual(outside())
})

test('what the host does not pass to iptables is reported, with the command that mends it', async () => {
  const setting = 'net.bridge.bridge-nf-call-iptables'
  host('sysctl', '-qw', `${setting}=0`)
  try {
    expect(await succeed(swarm('providers'))).toContain(`sudo sysctl -w ${setting}=1`)
    expect(await isolatedNow()).toBe(false)
  } finally {
    host('sysctl', '-qw', `${setting}=1`)
  }
  expect(await isolatedNow()).toBe(true)
})
