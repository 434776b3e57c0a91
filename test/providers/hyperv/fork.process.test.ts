/** What bites on Hyper-V when a machine is forked. traps.test.ts has the whole list. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { ForkTarget } from '../../../providers/provider.ts'
import { IMAGE } from '../../support/hyperv/bench.ts'
import { noPwsh, type StandInState } from '../../support/hyperv/stand-in.ts'
import { failsWith, type Home, homeOf, options, timeout, VM } from './home.ts'

const leftOut = noPwsh === null ? '' : ` (left out: ${noPwsh})`
const targetOf = (n: number): ForkTarget => ({
  ...{ vmId: `as-ab-1-${n}-0000000b`, ticket: `AB-1~${n}`, publicKey: `ssh-ed25519 KEY${n} test` },
  hostKey: { privateKey: `private ${n}`, publicKey: `ssh-ed25519 HOST${n} host` },
})
const [one, two] = [targetOf(1), targetOf(2)]

/** A machine that runs, with a checkpoint `one` and other work since. */
const prepare = async ({ provider, script }: Home) => {
  await provider.createVm('AB-1', IMAGE, options)
  await provider.startVm(VM)
  await script(VM, 'echo before >"$HOME/state"')
  await provider.checkpoint(VM, 'one')
  await script(VM, 'echo after >"$HOME/state"')
}
const fork = ({ provider }: Home, checkpoint: string | null, ...targets: ForkTarget[]) =>
  provider.fork?.(VM, checkpoint, targets)
const diskOf = ({ standIn }: Home, vmId: string) => standIn.state().vhds[standIn.vm(vmId).disk]
const seedOf = ({ home }: Home, vmId: string) => readFileSync(join(home, 'hyperv', vmId, 'seed.iso'), 'latin1')
const change = ({ standIn }: Home, more: Partial<StandInState>) =>
  standIn.change(state => {
    Object.assign(state, more)
  })
const broken = { id: 'Unspecified', category: 'NotSpecified', message: 'Unbekannter Fehler.', code: 0x80004005 }
/** The source as it was before, and nothing else. */
const expectOnlySource = ({ standIn, machineFolders }: Home) => {
  expect(standIn.state().vms.map(({ name, state }) => [name, state])).toEqual([[VM, 'Running']])
  expect(standIn.state().snapshots.map(({ name }) => name)).toEqual(['one'])
  expect(machineFolders()).toEqual([VM])
}

describe.skipIf(noPwsh !== null)(`forks on Hyper-V${leftOut}`, { timeout }, () => {
  const opened = homeOf([], prepare)

  test('the disk of a machine that runs is never converted itself, and its present state leaves no checkpoint', async () => {
    const home = opened()
    const began = home.standIn.cmdlets().length
    await fork(home, null, one)
    const converted = home.standIn
      .cmdlets()
      .slice(began)
      .filter(line => line.startsWith('Convert-VHD'))
    expect(converted).toHaveLength(1)
    expect(converted[0]).toContain(` -Path '${join(home.home, 'hyperv', one.vmId, 'export')}/`)
    expect(home.standIn.state().snapshots.map(({ name }) => name)).toEqual(['one'])
    expect(home.standIn.vm(VM).state).toBe('Running')
    expect(readdirSync(join(home.home, 'hyperv', one.vmId)).sort()).toEqual([
      one.vmId,
      ...['disk.vhdx', 'machine.json', 'seed.iso'],
    ])
    // As large as its source.
    expect(home.standIn.vm(one.vmId)).toMatchObject({ state: 'Off', cpus: 2, memory: 2 * 1024 ** 3 })
    expect(await home.script(one.vmId, 'cat "$HOME/state"')).toBe('after')
    await home.provider.deleteVm(one.vmId)
  })

  test('the seed of a fork makes it a machine of its own, and names nothing of its source', async () => {
    const home = opened()
    await fork(home, 'one', one, two)
    const machineIds = [one, two].map(({ vmId, publicKey, hostKey }) => {
      const seed = seedOf(home, vmId)
      for (const own of [`instance ${vmId}\n`, `hostname ${vmId}\n`, publicKey, hostKey.privateKey])
        expect(seed).toContain(own)
      const { mac, address } = JSON.parse(home.standIn.vm(vmId).notes.replace('agent-swarm ', ''))
      expect(home.standIn.vm(vmId).adapters[0]?.mac).toBe(mac.replaceAll(':', '').toUpperCase())
      expect(seed).toContain(`Address=${address}\n`)
      for (const others of [VM, options.publicKey, options.hostKey.privateKey, '10.177.0.10/20', '06:a5:0a:b1:00:0a'])
        expect(seed).not.toContain(others)
      return seed.match(/\nmachine-id ([0-9a-f]{32})\n/)?.[1]
    })
    expect(new Set([...machineIds, undefined]).size).toBe(3)
    for (const { vmId } of [one, two]) await home.provider.deleteVm(vmId)
    expectOnlySource(home)
  })

  for (const [cmdlet, checkpoint] of [
    ['Checkpoint-VM', null],
    ['Export-VMSnapshot', null],
    ['Convert-VHD', 'one'],
    ['New-VM', null],
    ['Set-VMFirmware', 'one'],
  ] as const)
    test(`a fork that fails at ${cmdlet} leaves none of its machines, and the source as it was`, async () => {
      const home = opened()
      change(home, { faults: { [cmdlet]: broken } })
      await expect(fork(home, checkpoint, one, two)).rejects.toMatchObject(failsWith('unknown'))
      change(home, { faults: {} })
      expectOnlySource(home)
    })

  test('a copy that depends on another disk is refused', async () => {
    const home = opened()
    change(home, { convertsToChains: true })
    await expect(fork(home, 'one', one)).rejects.toMatchObject(failsWith('unknown', /depends on another disk/))
    change(home, { convertsToChains: false })
    expectOnlySource(home)
  })

  test('a machine with another disk is not forked', async () => {
    const home = opened()
    change(home, { moreDisks: [join(home.home, 'hyperv/images/base.vhdx')] })
    await expect(fork(home, 'one', one)).rejects.toMatchObject(failsWith('refused', /not have exactly one disk/))
    change(home, { moreDisks: [] })
    expectOnlySource(home)
  })

  test('the checkpoint of a fork that died is not listed, and goes when its ticket is recovered or forked again', async () => {
    const home = opened()
    const { provider, standIn } = home
    const names = () => standIn.state().snapshots.map(({ name }) => name)
    for (const next of [() => provider.settle?.(VM), () => fork(home, null, one)]) {
      change(home, { faults: { 'Remove-VMSnapshot': broken } })
      await fork(home, null, one)
      change(home, { faults: {} })
      expect(names()).toEqual(['one', 'agent-swarm fork'])
      expect(await provider.listCheckpoints(VM)).toEqual(['one'])
      await next()
      expect(names()).toEqual(['one'])
    }
    await provider.deleteVm(one.vmId)
    expectOnlySource(home)
  })
})

describe.skipIf(noPwsh !== null)(`the disks of forks on Hyper-V${leftOut}`, { timeout }, () => {
  const opened = homeOf([], prepare)

  test('a fork stands on no other disk, whether an export is merged or a chain: its source may go', async () => {
    const home = opened()
    const { provider, standIn, script } = home
    await fork(home, 'one', one)
    change(home, { exportsChains: true })
    await fork(home, null, two)
    // The machine may be off, too.
    await provider.stopVm(VM)
    await fork(home, null, targetOf(3))
    await provider.deleteCheckpoint?.(VM, 'one')
    await provider.deleteVm(VM)
    expect((await provider.describeBaseImages?.())?.map(({ machines }) => machines)).toEqual([[]])
    await provider.deleteBaseImage?.(IMAGE)
    for (const [{ vmId }, state] of [
      [one, 'before'],
      [two, 'after'],
      [targetOf(3), 'after'],
    ] as const) {
      expect(diskOf(home, vmId)?.parent).toBe(null)
      await provider.startVm(vmId)
      expect(await script(vmId, 'cat "$HOME/state"')).toBe(state)
      await provider.deleteVm(vmId)
    }
    expect([standIn.state().vms, existsSync(join(home.home, 'hyperv/images/base.vhdx'))]).toEqual([[], false])
  })
})
