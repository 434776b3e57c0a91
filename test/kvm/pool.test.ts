import { afterAll, beforeAll, expect, test } from 'vitest'
import { isLong } from '../support/samples.ts'
import { BASE, ensureBase, everything, inside, listed, program, succeed, swarm, virsh } from './cli.ts'
import { endPools, fill, setPools } from './ready.ts'

const CLAIMS = 20

const IDENTITY = `echo "$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n') $(hostname) $(cat /etc/machine-id) $(cat /sys/class/net/e*/address) $(hostname -I | tr -d ' ') $(cut -d ' ' -f 2 /etc/ssh/ssh_host_ed25519_key.pub) $(date +%s)"`

let before: Awaited<ReturnType<typeof everything>>
beforeAll(async () => {
  if (!isLong) return
  await ensureBase()
  before = await everything()
})
afterAll(async () => {
  if (!isLong) return
  for (let n = 1; n <= CLAIMS; n += 1) await swarm('delete', `READY-${n}`, '--force')
  await endPools()
})

// Each way boots a template.
test.skipIf(!isLong).for(['memory', 'disk'] as const)(
  'creates take machines that are held in %s, each another one',
  async hold => {
    const seen: string[][] = []
    setPools(`{image: ${BASE}, ready: 1, most: 3, hold: ${hold}}`)
    for (let n = 1; n <= CLAIMS; n += 1) {
      const ticket = `READY-${n}`
      const ready = (await fill()).filter(({ state }) => state === 'ready')
      expect(ready).toHaveLength(1)
      const [machine] = ready
      expect(await virsh('domstate', machine?.vmId ?? '')).toBe(hold === 'memory' ? 'paused' : 'shut off')
      const asked = Date.now() / 1000
      await succeed(swarm('create', ticket))
      const { vmId, ssh } = await listed(ticket)
      expect(vmId).toBe(machine?.vmId)
      expect(await virsh('metadata', vmId, 'urn:agent-swarm:1')).toMatch(new RegExp(`ticket=["']${ticket}["']`))
      const identity = (await inside(ticket, IDENTITY)).split(' ')
      const [, name, machineId, , address, , clock] = identity
      expect(name).toBe(`as-ready-${n}-${vmId.slice(-8)}`)
      expect(machineId).toBe(machine?.machineId)
      expect(address).toBe(ssh?.host)
      expect(Number(clock)).toBeGreaterThan(asked - 2)
      expect(Number(clock)).toBeLessThan(Date.now() / 1000 + 2)
      expect(await inside(ticket, 'sudo -n true && getent hosts $(hostname) | wc -l')).toBe('1')
      expect(await inside(ticket, 'systemctl list-units --state=failed --plain --no-legend')).toBe('')
      seen.push(identity.slice(0, 6))
      if (n === 1) {
        await succeed(swarm('restart', ticket))
        expect((await inside(ticket, IDENTITY)).split(' ').slice(1, 6)).toEqual(identity.slice(1, 6))
        expect(await inside(ticket, 'sudo -n true && getent hosts $(hostname) | wc -l')).toBe('1')
      }
      // The most that a small host holds: the former ones go.
      if (n > 1) await succeed(swarm('delete', `READY-${n - 1}`, '--force'))
    }
    for (const at of [0, 1, 2, 3, 5]) expect(new Set(seen.map(identity => identity[at])).size).toBe(CLAIMS)
    await succeed(swarm('delete', `READY-${CLAIMS}`, '--force'))
  },
)

test.skipIf(!isLong)('a pool that the settings have no more leaves nothing', async () => {
  setPools()
  expect(await fill()).toEqual([])
  expect(await everything()).toEqual(before)
  expect((await program('virsh', ['-q', 'net-dhcp-leases', 'agent-swarm'])).code).toBe(0)
})
