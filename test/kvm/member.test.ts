/** The system's libvirt by a member of the group libvirt, who is not root: a machine's life as far as its console. */
import { rmSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openKvm } from '../../providers/kvm/index.ts'
import { openRun } from '../../src/exec.ts'
import { loginKey, pinnedHostKey } from '../../src/runner/ssh/keys.ts'
import { until } from '../support/wait.ts'
import { BASE, ensureBase, program } from './cli.ts'
import { becomeUser, settings, USER, userFolder } from './user.ts'

const VM = 'as-member-1-0000000a'
const { folder, home, environment } = userFolder()
const run = openRun(environment)
const provider = openKvm({ run, home, settings })

beforeAll(async () => {
  await ensureBase()
  const group = (await program('getent', ['group', 'libvirt'])).stdout.split(':')[2]
  await becomeUser(folder, [Number(group)])
})
afterAll(async () => {
  await provider.deleteVm(VM)
  rmSync(folder, { recursive: true })
})

test('a member of the group makes a machine, starts it, reads its console and its use, and deletes it', async () => {
  expect(process.getuid?.()).toBe(USER)
  expect(await provider.available()).toEqual({ available: true })
  const [publicKey, hostKey] = await Promise.all([loginKey(run, home), pinnedHostKey(run, home, VM)])
  await provider.createVm('MEMBER-1', BASE, { vmId: VM, cpus: 1, memoryMiB: 512, diskGiB: 6, publicKey, hostKey })
  await provider.startVm(VM)
  const lines = await until(
    'the first words on its console',
    async () => {
      const said = (await provider.consoleTail?.(VM)) ?? []
      return said.length > 0 ? said : null
    },
    { within: 9 * 60_000, every: 1_000 },
  )
  expect(lines.at(-1)?.length).toBeGreaterThan(0)
  expect((await provider.usage?.())?.get(VM)?.memoryUsedBytes).toBeGreaterThan(32 * 1024 ** 2)
  await provider.deleteVm(VM)
  expect((await provider.listVms()).filter(one => one.vmId === VM)).toEqual([])
})
