/**
 * Machines made of another one's memory and disk. A process in the source counts in its memory and holds a nonce there; a
 * capture on the bridge sees every frame of every machine.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { kvm } from '../../providers/kvm/description.ts'
import { openKvm } from '../../providers/kvm/index.ts'
import { type KvmSettings, kvmSettings } from '../../providers/kvm/settings.ts'
import type { ForkTarget } from '../../providers/provider.ts'
import { newVmId } from '../../src/domain.ts'
import { openRun } from '../../src/exec.ts'
import { runInGuest, waitForGuest } from '../../src/runner/ssh/guest.ts'
import { forgetHostKey, loginKey, pinnedHostKey } from '../../src/runner/ssh/keys.ts'
import { isLong } from '../support/samples.ts'
import { until } from '../support/wait.ts'
import { BASE, ensureBase, home, makeOlder, program, succeed, virsh } from './cli.ts'
import { capture } from './packets.ts'

const HOME_ID = '00112233445566ff'
const settings = Object.fromEntries(
  Object.entries(kvmSettings).map(([name, row]) => [name, row.default]),
) as unknown as KvmSettings
const run = openRun(process.env, { passOn: kvm.environment })
const provider = openKvm({ run, home, homeId: HOME_ID, knows: () => false, settings })

const fresh = () => newVmId('fork-1', randomBytes(4).toString('hex'))
const SOURCE = fresh()
const made: string[] = [SOURCE]
const NONCE = randomBytes(16).toString('hex')

const target = async (ticket: string | null): Promise<ForkTarget> => {
  const vmId = fresh()
  made.push(vmId)
  return { vmId, ticket, publicKey: await loginKey(run, home), hostKey: await pinnedHostKey(run, home, vmId) }
}
const inside = async (vmId: string, script: string): Promise<string> =>
  (await runInGuest({ run, home }, provider, vmId, script, { deadline: 5 * 60_000 })).stdout.trimEnd()
const ready = (vmId: string) => waitForGuest({ run, home }, provider, vmId, { deadline: 15 * 60_000 })
const fork = (id: string, checkpoint: string | null, targets: readonly ForkTarget[]) =>
  provider.fork?.(id, checkpoint, targets)

const volumesOfMachines = async (): Promise<string[]> =>
  (await virsh('vol-list', 'agent-swarm')).split('\n').flatMap(line => {
    const [name = ''] = line.trim().split(/\s+/)
    return made.some(vmId => name.startsWith(`${vmId}.`)) ? name : []
  })
const macOf = async (vmId: string) => (await virsh('dumpxml', vmId)).match(/<mac address='([^']*)'/)?.[1] ?? ''
const states = async () => new Map((await provider.listVms()).map(vm => [vm.vmId, vm]))

/** What makes a machine itself, a value each. Random bytes are read before anything else is. */
const IDENTITY = `random=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n')
echo "random $random"; echo "name $(hostname)"; echo "machine $(cat /etc/machine-id)"
echo "mac $(cat /sys/class/net/e*/address)"; echo "address $(ip -o -4 address show scope global | sed 's/.*inet //; s/ .*//' | tr '\\n' ' ')"
echo "host $(cut -d ' ' -f 2 /etc/ssh/ssh_host_ed25519_key.pub)"`
const identityOf = async (vmId: string) =>
  Object.fromEntries((await inside(vmId, IDENTITY)).split('\n').map(line => line.split(/ (.*)/).slice(0, 2)))

/**
 * Holds the nonce in its memory and nowhere else, and sends without a pause from the address that it began with. Arguments: the
 * gateway and the address.
 */
const HOLDER = `
import socket, sys, threading, time
nonce = sys.stdin.readline().strip()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((sys.argv[2], 0))
def chatter():
    while True:
        try: udp.sendto(b"from the source", (sys.argv[1], 9))
        except OSError: pass
        time.sleep(0.02)
threading.Thread(target=chatter, daemon=True).start()
server = socket.socket(socket.AF_UNIX)
server.bind("/tmp/nonce")
server.listen(9)
while True:
    client = server.accept()[0]
    client.send(nonce.encode())
    client.close()
`
const ASK = `python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect("/tmp/nonce"); print(s.recv(99).decode())'`
const begin = (
  gateway: string,
  address: string,
) => `echo ${Buffer.from(HOLDER).toString('base64')} | base64 -d >/tmp/holder.py
(echo ${NONCE} | setsid python3 /tmp/holder.py ${gateway} ${address} >/dev/null 2>&1 &)
echo before >moment; sync`

let folder: string
let frames: string
let sniffer: ChildProcess
/** The interfaces of the host that forks had, by machine. */
const ports = new Map<string, string>()
const portOf = async (vmId: string) => (await virsh('domiflist', vmId)).match(/vnet\d+/)?.[0] ?? ''

beforeAll(async () => {
  await ensureBase()
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-fork-'))
  frames = join(folder, 'frames')
  writeFileSync(frames, '')
  sniffer = spawn('python3', ['-c', capture, frames], { stdio: 'inherit' })
  const [publicKey, hostKey] = [await loginKey(run, home), await pinnedHostKey(run, home, SOURCE)]
  const size = { cpus: 1, memoryMiB: 768, diskGiB: 6 }
  await provider.createVm('FORK-1', BASE, { vmId: SOURCE, ...size, publicKey, hostKey })
  await provider.startVm(SOURCE)
  await ready(SOURCE)
  const gateway = (await virsh('net-dumpxml', 'agent-swarm')).match(/<ip address='([^']*)'/)?.[1] ?? ''
  await inside(SOURCE, begin(gateway, (await provider.sshInfo(SOURCE)).host))
  await until('the holder', async () => (await inside(SOURCE, ASK)) === NONCE)
})
afterAll(async () => {
  sniffer.kill('SIGKILL')
  for (const vmId of made) {
    await provider.deleteVm(vmId)
    forgetHostKey(home, vmId)
  }
  rmSync(folder, { recursive: true })
})

/** What guests sent, by the interface that they sent it to. */
const sent = (port: string): string[] => [
  ...new Set(
    readFileSync(frames, 'utf8')
      .split('\n')
      .filter(line => line.startsWith(`${port} `))
      .map(line => line.slice(port.length + 1)),
  ),
]

test('two forks of a running machine are machines of their own, of one moment', async () => {
  const [first, second] = [await target('FORK-1'), await target(null)]
  await fork(SOURCE, null, [first, second])
  const ids = [SOURCE, first.vmId, second.vmId]
  for (const { vmId } of [first, second]) ports.set(vmId, await portOf(vmId))
  const listed = await states()
  expect(ids.map(id => listed.get(id))).toMatchObject([
    { ticket: 'FORK-1', status: 'running' },
    { ticket: 'FORK-1', status: 'running' },
    { ticket: null, status: 'running' },
  ])
  await Promise.all(ids.map(ready))
  const identities = await Promise.all(ids.map(identityOf))
  for (const what of ['random', 'name', 'machine', 'mac', 'address', 'host'])
    expect([what, new Set(identities.map(each => each[what])).size]).toEqual([what, 3])
  for (const [at, id] of ids.entries()) {
    expect(identities[at]).toMatchObject({ name: id, mac: await macOf(id) })
    expect(identities[at]?.address).toMatch(new RegExp(`^${(await provider.sshInfo(id)).host}/24 *$`))
    // The same process, with what it had in its memory.
    expect(await inside(id, ASK)).toBe(NONCE)
    expect(await inside(id, 'cat moment')).toBe('before')
    const before = Date.now() / 1000
    const seconds = Number(await inside(id, 'date +%s'))
    expect(seconds).toBeGreaterThan(before - 3)
    expect(seconds).toBeLessThan(Date.now() / 1000 + 3)
    expect(await inside(id, 'sudo -n true && getent hosts $(hostname) | wc -l')).toBe('1')
  }
})

test('what one of them writes, no other sees, and the source was not harmed', async () => {
  const ids = [SOURCE, ...ports.keys()]
  await Promise.all(ids.map(id => inside(id, `echo ${id} >moment; sync`)))
  for (const id of ids) expect(await inside(id, 'cat moment')).toBe(id)
  expect(
    await inside(SOURCE, 'systemctl is-system-running || systemctl list-units --state=failed --plain --no-legend'),
  ).toBe('running')
})

test('a fork sends nothing with the MAC or the address of its source', async () => {
  for (const [vmId, port] of ports) {
    const [mac, { host }] = [await macOf(vmId), await provider.sshInfo(vmId)]
    await inside(vmId, `ping -c 1 -W 2 192.0.2.1 >/dev/null 2>&1; true`)
    const seen = await until('frames of the fork', () => (sent(port).length > 1 ? sent(port) : null))
    expect(seen.filter(line => ![mac, `${mac} ${host}`, `${mac} 0.0.0.0`].includes(line))).toEqual([])
  }
  // The capture sees what the source sends all the time.
  expect(sent(await portOf(SOURCE))).toContain(`${await macOf(SOURCE)} ${(await provider.sshInfo(SOURCE)).host}`)
})

test('a fork is isolated as its source is', async () => {
  for (const vmId of ports.keys()) {
    const text = await virsh('dumpxml', vmId)
    expect(text).toMatch(/<port isolated='yes'\/>[\s\S]*<filterref filter='agent-swarm-/)
    expect(text).toContain(`<parameter name='IP' value='${(await provider.sshInfo(vmId)).host}'/>`)
    expect(await virsh('dumpxml', vmId, '--inactive')).toMatch(/<filterref filter='agent-swarm-/)
  }
})

test.skipIf(!isLong)('a suspended machine stands still and goes on, and its forks run', async () => {
  await provider.suspend?.(SOURCE)
  await provider.suspend?.(SOURCE)
  expect((await states()).get(SOURCE)).toMatchObject({ status: 'running', pauseCause: 'asked' })
  const of = await target(null)
  await fork(SOURCE, null, [of])
  expect((await states()).get(SOURCE)).toMatchObject({ status: 'running', pauseCause: 'asked' })
  await ready(of.vmId)
  expect(await inside(of.vmId, ASK)).toBe(NONCE)
  await provider.startVm(SOURCE)
  expect((await states()).get(SOURCE)?.paused).toBeUndefined()
  expect(await inside(SOURCE, ASK)).toBe(NONCE)
})

test.skipIf(!isLong)(
  'forks that cannot become machines of their own leave nothing, and the source runs on',
  async () => {
    const [one, other] = [await target(null), await target(null)]
    await inside(SOURCE, 'sudo chattr +i /etc/hostname')
    await expect(fork(SOURCE, null, [one, other])).rejects.toThrow('/etc/hostname')
    await inside(SOURCE, 'sudo chattr -i /etc/hostname')
    const listed = await states()
    expect([one, other].filter(({ vmId }) => listed.has(vmId))).toEqual([])
    const left = await volumesOfMachines()
    expect([one, other].filter(({ vmId }) => left.some(name => name.startsWith(vmId)))).toEqual([])
    expect(left.filter(name => name.endsWith('.memory'))).toEqual([])
    expect(await inside(SOURCE, ASK)).toBe(NONCE)
  },
)

test('a checkpoint is forked while its source is stopped, and nothing has the MAC of the source', async () => {
  await inside(SOURCE, 'echo checkpoint >moment; sync')
  await provider.checkpoint(SOURCE, 'before')
  await inside(SOURCE, 'echo later >moment; sync')
  const [mac, of] = [await macOf(SOURCE), await target('FORK-1')]
  await provider.stopVm(SOURCE)
  const begin = readFileSync(frames, 'utf8').length
  await fork(SOURCE, 'before', [of])
  await ready(of.vmId)
  expect(await inside(of.vmId, ASK)).toBe(NONCE)
  expect(await inside(of.vmId, 'cat moment')).toBe('checkpoint')
  const seen = readFileSync(frames, 'utf8').slice(begin)
  expect(seen).toContain(await macOf(of.vmId))
  expect(seen).not.toContain(mac)
  await provider.deleteVm(of.vmId)
  await expect(fork(SOURCE, 'never', [of])).rejects.toMatchObject({ failure: { kind: 'no-such-checkpoint' } })
})

test.skipIf(!isLong)(
  'a stopped machine is forked by its disk; identities are those of the seed, and stay at each boot',
  async () => {
    const of = await target('FORK-2')
    await fork(SOURCE, null, [of])
    // What an interrupted call left is made anew.
    await fork(SOURCE, null, [of])
    expect((await states()).get(of.vmId)).toMatchObject({ ticket: 'FORK-2', status: 'stopped' })
    const [rebooted = ''] = ports.keys()
    const before = await identityOf(rebooted)
    await provider.stopVm(rebooted)
    const ids = [SOURCE, rebooted, of.vmId]
    for (const id of ids) await provider.startVm(id)
    await Promise.all(ids.map(ready))
    const [source, after, own] = await Promise.all(ids.map(identityOf))
    expect({ ...after, random: '' }).toEqual({ ...before, random: '' })
    for (const what of ['random', 'name', 'machine', 'mac', 'address', 'host'])
      expect([what, new Set([source?.[what], after?.[what], own?.[what]]).size]).toEqual([what, 3])
    expect(own?.name).toBe(of.vmId)
    expect(await inside(of.vmId, 'cat moment')).toBe('later')
    expect(await inside(SOURCE, 'cat moment')).toBe('later')
  },
)

test('a machine with snapshots in its disk is forked by its disk, at the snapshot or as it is', async () => {
  const id = fresh()
  made.push(id)
  const [publicKey, hostKey] = [await loginKey(run, home), await pinnedHostKey(run, home, id)]
  await provider.createVm('FORK-3', BASE, { vmId: id, cpus: 1, memoryMiB: 768, diskGiB: 6, publicKey, hostKey })
  await makeOlder(id)
  const [, disk = ''] = (await virsh('domblklist', id)).match(/vda\s+(\S+)/) ?? []
  const write = (pattern: string) => succeed(program('qemu-io', ['-c', `write -P ${pattern} 5G 64k`, disk]))
  await write('0x11')
  await succeed(program('virsh', ['-q', 'snapshot-create-as', id, '--name=first', '--atomic']))
  await write('0x22')
  const [old, present] = [await target('FORK-3'), await target(null)]
  await fork(id, 'first', [old])
  await fork(id, null, [present])
  for (const [{ vmId }, pattern] of [
    [old, '0x11'],
    [present, '0x22'],
  ] as const) {
    const file = join(dirname(disk), `${vmId}.qcow2`)
    const read = await program('qemu-io', ['-r', '-c', `read -P ${pattern} 5G 64k`, file])
    expect(read.stdout).not.toContain('verification failed')
    expect(read.code).toBe(0)
    const info = JSON.parse(await succeed(program('qemu-img', ['info', '--output=json', file])))
    expect(info).toMatchObject({
      'virtual-size': 6 * 1024 ** 3,
      'full-backing-filename': `${dirname(disk)}/${BASE}.qcow2`,
    })
    expect(info.snapshots ?? []).toEqual([])
  }
  await expect(fork(id, 'never', [old])).rejects.toMatchObject({ failure: { kind: 'no-such-checkpoint' } })
})

test('layers that forks stand on outlive the source, and nothing is left when the last fork is deleted', async () => {
  await provider.deleteVm(SOURCE)
  const [vmId = ''] = ports.keys()
  expect(await inside(vmId, 'cat moment')).toBe(vmId)
  expect((await volumesOfMachines()).some(name => name.startsWith(`${SOURCE}.`))).toBe(true)
  for (const each of made) await provider.deleteVm(each)
  expect(await volumesOfMachines()).toEqual([])
})
