/** A user's own libvirt (qemu:///session), by an ordinary user. The base image is copied into the user's pool. */
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { keepsItsPromises } from '../providers/conformance.ts'
import { BASE, ensureBase, virsh } from './cli.ts'
import { becomeUser, benchAs, copyInto, openAs, USER, userFolder } from './user.ts'

keepsItsPromises(
  { name: "kvm in a user's session", live: true },
  async () => {
    await ensureBase()
    const user = userFolder()
    const { folder, home } = user
    const pool = (await virsh('pool-dumpxml', 'agent-swarm')).match(/<path>(.*)<\/path>/)?.[1] ?? ''
    copyInto(join(home, 'kvm', 'pool'), [`${BASE}.qcow2`, `${BASE}.manifest.json`], pool)
    await becomeUser(folder, [])
    const bench = benchAs(user, { kvmUri: 'qemu:///session' }, BASE)
    return {
      ...bench,
      ready: async vmId => {
        await bench.ready(vmId)
        const ssh = await bench.provider.sshInfo(vmId)
        expect(ssh).toMatchObject({ host: '127.0.0.1', user: 'agent' })
        expect(ssh.port).toBeGreaterThanOrEqual(20_000)
      },
      close: async () => {
        process.kill(Number(readFileSync(join(folder, 'run', 'libvirt', 'libvirtd.pid'), 'utf8')))
        rmSync(folder, { recursive: true })
      },
    }
  },
  { machines: 1, timeout: 10 * 60_000 },
)

test("an ordinary user who tries the system's libvirt learns how to get access", async () => {
  expect([process.getuid?.(), process.getgroups?.()]).toEqual([USER, [USER]])
  const user = userFolder()
  expect(await openAs(user).provider.available()).toMatchObject({
    available: false,
    reason: 'connecting to libvirt: libvirt runs, but this user may not use qemu:///system.',
    remedy: expect.stringContaining('usermod -aG libvirt'),
  })
  rmSync(user.folder, { recursive: true })
})
