/** A user's own libvirt (qemu:///session), with no right that others have not. The base image is brought along as files. */
import { copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openKvm } from '../../providers/kvm/index.ts'
import { openRun } from '../../src/exec.ts'
import { openGuest } from '../../src/runner/ssh/guest.ts'
import { loginKey, pinnedHostKey } from '../../src/runner/ssh/keys.ts'
import { keepsItsPromises } from '../providers/conformance.ts'
import { BASE, ensureBase, virsh } from './cli.ts'
import { becomeUser, settings, USER, userFolder } from './user.ts'

keepsItsPromises(
  "kvm in a user's session",
  async () => {
    await ensureBase()
    const user = userFolder()
    const { folder, home } = user
    const pool = join(home, 'kvm', 'pool')
    mkdirSync(pool, { recursive: true })
    const there = (await virsh('pool-dumpxml', 'agent-swarm')).match(/<path>(.*)<\/path>/)?.[1] ?? ''
    for (const file of [`${BASE}.qcow2`, `${BASE}.manifest.json`]) copyFileSync(join(there, file), join(pool, file))
    const run = openRun(user.environment)
    await becomeUser(folder, [])
    const provider = openKvm({ run, home, settings: { ...settings, uri: 'qemu:///session' } })
    const guest = openGuest(run, home)
    return {
      provider,
      baseImage: BASE,
      options: async vmId => ({
        vmId,
        cpus: 1,
        memoryMiB: 768,
        diskGiB: 6,
        publicKey: await loginKey(run, home),
        hostKey: await pinnedHostKey(run, home, vmId),
      }),
      ready: async vmId => {
        const ssh = await guest.ready(provider, vmId)
        expect(ssh).toMatchObject({ host: '127.0.0.1', user: 'agent' })
        expect(ssh?.port).toBeGreaterThanOrEqual(20_000)
      },
      script: async (vmId, text) => (await guest.script(provider, vmId, text, 60_000)).trimEnd(),
      close: async () => {
        const daemon = Number(readFileSync(join(folder, 'run', 'libvirt', 'libvirtd.pid'), 'utf8'))
        process.kill(daemon)
        rmSync(folder, { recursive: true })
      },
    }
  },
  { machines: 1, timeout: 10 * 60_000 },
)

test("it is an ordinary user, who is told how to use the system's libvirt", async () => {
  expect([process.getuid?.(), process.getgroups?.()]).toEqual([USER, [USER]])
  const { environment, folder, home } = userFolder()
  expect(await openKvm({ run: openRun(environment), home, settings }).available()).toMatchObject({
    available: false,
    reason: 'asking libvirt: libvirt runs, and this user may not use qemu:///system.',
    remedy: expect.stringContaining('usermod -aG libvirt'),
  })
  rmSync(folder, { recursive: true })
})
