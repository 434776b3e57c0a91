/** A user's own libvirt (qemu:///session), by an ordinary user. The base image is copied into the user's pool. */
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { keepsItsPromises } from '../providers/conformance.ts'
import { isLong } from '../support/samples.ts'
import { BASE, ensureBase, virsh } from './cli.ts'
import { becomeUser, benchAs, copyInto, openAs, USER, userFolder } from './user.ts'

// The same promises of the system's libvirt are in every run.
describe.skipIf(!isLong)('in a long run', () => {
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
})

test("an ordinary user who tries the system's libvirt learns how to get access", async () => {
  const user = userFolder()
  // A long run has become this user already.
  if (process.getuid?.() === 0) await becomeUser(user.folder, [])
  expect([process.getuid?.(), process.getgroups?.()]).toEqual([USER, [USER]])
  expect(await openAs(user).provider.available()).toMatchObject({
    available: false,
    reason: 'connecting to libvirt: libvirt runs, but this user may not use qemu:///system.',
    remedy: expect.stringContaining('usermod -aG libvirt'),
  })
  rmSync(user.folder, { recursive: true })
})
