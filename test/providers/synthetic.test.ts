import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { CreateOptions } from '../../providers/provider.ts'
import { synthetic } from '../../providers/synthetic/description.ts'
import { openSynthetic } from '../../providers/synthetic/index.ts'
import { openRun } from '../../src/exec.ts'
import { keepsItsPromises } from './conformance.ts'

const HOME_ID = '00112233445566ff'
const run = openRun(process.env)
const openIn = (home: string, more: { homeId?: string; knows?: (vmId: string) => boolean } = {}) =>
  openSynthetic({ run, home, homeId: HOME_ID, knows: () => false, ...more })
const optionsOf = (vmId: string): CreateOptions => ({
  vmId,
  cpus: 1,
  memoryMiB: 256,
  diskGiB: 2,
  publicKey: 'ssh-ed25519 AAAA test',
  hostKey: { privateKey: '', publicKey: '' },
})

keepsItsPromises(
  synthetic,
  async () => {
    const home = await mkdtemp(join(tmpdir(), 'agent-swarm-synthetic-'))
    const provider = openIn(home)
    return {
      provider,
      otherHome: openIn(home, { homeId: 'ffff000011112222' }),
      baseImage: 'none',
      options: async vmId => optionsOf(vmId),
      ready: async () => {},
      script: async (vmId, text) => (await provider.runInGuest?.(vmId, text))?.stdout ?? '',
      close: async () => {
        const left = [...(await readdir(join(home, 'synthetic'))), ...(await readdir(join(home, 'synthetic-state')))]
        await rm(home, { recursive: true })
        if (left.length > 0) throw new Error(`left behind: ${left}`)
      },
    }
  },
  { machines: 3, timeout: 30_000 },
)

test('a machine of an earlier version, without a home, is ours when the registry knows it', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-synthetic-'))
  const [known, unknown] = ['as-a-1-00000001', 'as-b-2-00000002']
  const writer = openIn(home)
  for (const vmId of [known, unknown]) await writer.createVm('AB-1', 'none', optionsOf(vmId))
  const states = join(home, 'synthetic-state')
  for (const vmId of [known, unknown]) {
    rmSync(join(states, `${vmId}.AB-1.${HOME_ID}.stopped`))
    writeFileSync(join(states, `${vmId}.AB-1.running`), '')
  }
  const provider = openIn(home, { knows: vmId => vmId === known })
  // A heartbeat and an action look at the same time.
  const looks = await Promise.all([provider.listVms(), provider.listVms(), provider.status(known)])
  const machine = { vmId: known, ticket: 'AB-1', ip: null, status: 'running' }
  expect(looks).toEqual([[machine], [machine], 'running'])
  expect(readdirSync(states).sort()).toEqual([`${known}.AB-1.${HOME_ID}.running`, `${unknown}.AB-1.running`])
  await expect(provider.deleteVm(unknown)).rejects.toMatchObject({ failure: { kind: 'not-ours' } })
  // Once its mark names the home, nobody has to know it.
  expect(await openIn(home).status(known)).toBe('running')
  rmSync(home, { recursive: true })
})

test('a ticket that is not one never becomes part of a path', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-synthetic-'))
  const creating = openIn(home).createVm('../../x', 'none', optionsOf('as-a-1-00000001'))
  await expect(creating).rejects.toMatchObject({ failure: { kind: 'usage' } })
  rmSync(home, { recursive: true })
})

test('a machine whose mark somebody removed is left over, and is made again with its disk and checkpoints', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-synthetic-'))
  const provider = openIn(home)
  const [lost, other] = ['as-a-1-00000001', 'as-b-2-00000002']
  for (const vmId of [lost, other]) await provider.createVm('AB-1', 'none', optionsOf(vmId))
  writeFileSync(join(home, 'synthetic', lost, 'disk', 'work'), 'hello')
  await provider.checkpoint(lost, 'one')
  expect(await provider.leftovers?.()).toEqual([])
  rmSync(join(home, 'synthetic-state', `${lost}.AB-1.${HOME_ID}.stopped`))
  // Another home's mark is a mark.
  const expected = [{ vmId: lost, hasDisk: true, bytes: expect.any(Number) }]
  expect(await openIn(home, { homeId: 'ffff000011112222' }).leftovers?.()).toEqual(expected)
  expect((await provider.leftovers?.())?.[0]?.bytes).toBeGreaterThan(10)
  await provider.recoverVm?.(lost, 'AB-1', optionsOf(lost))
  await provider.recoverVm?.(lost, 'AB-1', optionsOf(lost))
  expect((await provider.listVms()).find(vm => vm.vmId === lost)).toMatchObject({ ticket: 'AB-1', status: 'stopped' })
  expect(readFileSync(join(home, 'synthetic', lost, 'disk', 'work'), 'utf8')).toBe('hello')
  expect(await provider.listCheckpoints(lost)).toEqual(['one'])
  await expect(provider.recoverVm?.('as-c-3-00000003', null, optionsOf('as-c-3-00000003'))).rejects.toMatchObject({
    failure: { kind: 'no-such-vm' },
  })
  rmSync(home, { recursive: true })
})

test('a restore that was killed between its two renames is made whole by the next', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-synthetic-'))
  const provider = openIn(home)
  const vmId = 'as-a-1-00000001'
  await provider.createVm('AB-1', 'none', optionsOf(vmId))
  const folder = join(home, 'synthetic', vmId)
  writeFileSync(join(folder, 'disk', 'work'), 'one')
  await provider.checkpoint(vmId, 'one')
  renameSync(join(folder, 'disk'), join(folder, 'disk.old'))
  await provider.restore(vmId, 'one')
  expect(readFileSync(join(folder, 'disk', 'work'), 'utf8')).toBe('one')
  expect(readdirSync(folder).sort()).toEqual(['checkpoints', 'disk'])
  rmSync(home, { recursive: true })
})
