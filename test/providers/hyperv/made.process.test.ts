/** What bites on Hyper-V when a machine is made, and whose it is afterwards. traps.test.ts has the whole list. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { HOME_ID, hypervOptions, IMAGE, openHypervIn } from '../../support/hyperv/bench.ts'
import { noPwsh } from '../../support/hyperv/stand-in.ts'
import { failsWith, homeOf, options, timeout, VM } from './home.ts'

const leftOut = noPwsh === null ? '' : ` (left out: ${noPwsh})`

describe.skipIf(noPwsh !== null)(`a machine as it was made${leftOut}`, { timeout }, () => {
  const opened = homeOf([], ({ provider }) => provider.createVm('AB-1', IMAGE, options))

  test('Windows takes no checkpoint of it by itself', async () => {
    const { provider, standIn } = opened()
    expect(standIn.vm(VM)).toMatchObject({ automatic: false, stopAction: 'ShutDown', startAction: 'Nothing' })
    await provider.startVm(VM)
    expect(standIn.state().snapshots).toEqual([])
    await provider.stopVm(VM)
  })
  test('its checkpoints are of the kind that holds memory', () =>
    expect(opened().standIn.vm(VM)).toMatchObject({ checkpoints: 'Standard', dynamic: false }))
  test("it boots what Microsoft's authority for UEFI signed, which Linux is", () =>
    expect(opened().standIn.vm(VM).template).toBe('MicrosoftUEFICertificateAuthority'))
  test('its network has NAT of a range that no other one overlaps', () =>
    // 172.30.0.0/20 overlaps the Default Switch, and 10.20.30.40 is another network.
    expect(opened().standIn.state().nats).toEqual([{ name: 'agent-swarm', prefix: '10.177.0.0/20' }]))
  test('its address is in its seed, since nothing gives one by DHCP', () => {
    const vm = opened().standIn.vm(VM)
    const seed = readFileSync(vm.dvd ?? '', 'latin1')
    expect(seed).toContain('"addresses":["10.177.0.10/20"]')
    expect(seed).toContain('"gateway4":"10.177.0.1"')
    expect(seed).toContain('"macaddress":"06:a5:0a:b1:00:0a"')
    expect(vm.adapters[0]?.mac).toBe('06A50AB1000A')
  })
  test('the permissions of its files are set before they are attached', () => {
    const { home, standIn } = opened()
    const folder = join(home, 'hyperv', VM)
    expect(standIn.permissions().trim().split('\n')).toEqual([
      `icacls ${folder} /inheritance:r /grant:r *S-1-5-21-1-2-3-1001:(OI)(CI)F *S-1-5-18:(OI)(CI)F`,
      `attach ${join(folder, 'seed.iso')}`,
    ])
  })
  test('the image below its disk is read-only, and stays where it is', () => {
    const { home, standIn } = opened()
    const parent = join(home, 'hyperv/images/base.vhdx')
    expect(statSync(parent).mode & 0o222).toBe(0)
    expect(standIn.state().vhds[standIn.vm(VM).disk]).toMatchObject({ parent, size: 8 * 1024 ** 3 })
  })
  test('a list of one machine is a list', async () =>
    expect(await opened().provider.listVms()).toMatchObject([{ vmId: VM, ticket: 'AB-1', status: 'stopped' }]))
})

describe.skipIf(noPwsh !== null)(`whose a machine is${leftOut}`, { timeout }, () => {
  const opened = homeOf([], ({ provider }) => provider.createVm('AB-1', IMAGE, options))

  test("somebody else's machine of the same name is left alone", async () => {
    const { provider, standIn } = opened()
    const vm = standIn.vm(VM)
    const other = { ...vm, id: '11111111-1111-1111-1111-111111111111', notes: 'mine', path: '/elsewhere' }
    standIn.change(({ vms }) => vms.unshift(other))
    expect(await provider.status(VM)).toBe('stopped')
    await provider.assign?.(VM, 'AB-2')
    expect(standIn.state().vms.map(({ notes }) => notes.slice(0, 20))).toEqual(['mine', 'agent-swarm {"vmId":'])
    standIn.change(state => {
      state.vms = state.vms.filter(({ id }) => id !== other.id)
    })
  })

  test('an imported copy has its mark, too, and neither is deleted', async () => {
    const { provider, standIn } = opened()
    const copy = { ...standIn.vm(VM), id: '11111111-1111-1111-1111-111111111111', path: '/elsewhere' }
    standIn.change(({ vms }) => vms.unshift(copy))
    await expect(provider.deleteVm(VM)).rejects.toMatchObject(failsWith('not-ours', /imported a copy/))
    expect(standIn.state().vms).toHaveLength(2)
    standIn.change(state => {
      state.vms = state.vms.filter(({ id }) => id !== copy.id)
    })
  })

  test('a VM that somebody renamed is neither made again nor deleted', async () => {
    const { provider, standIn, home } = opened()
    const rename = (name: string) =>
      standIn.change(({ vms }) => {
        for (const vm of vms) vm.name = name
      })
    rename('Drop shop')
    const before = [standIn.state().vms, standIn.state().vhds, readdirSync(join(home, 'hyperv', VM))]
    const refused = failsWith('refused', /renamed/)
    await expect(provider.deleteVm(VM)).rejects.toMatchObject(refused)
    await expect(provider.createVm('AB-1', IMAGE, options)).rejects.toMatchObject(refused)
    await expect(provider.recoverVm?.(VM, 'AB-1', options)).rejects.toMatchObject(refused)
    await expect(provider.status(VM)).rejects.toMatchObject(refused)
    expect([standIn.state().vms, standIn.state().vhds, readdirSync(join(home, 'hyperv', VM))]).toEqual(before)
    rename(VM)
  })

  test('a machine that a crash left without a mark is that of its folder', async () => {
    const { provider, otherHome, standIn } = opened()
    standIn.change(({ vms }) => {
      for (const vm of vms) vm.notes = ''
    })
    expect(await provider.listVms()).toMatchObject([{ vmId: VM, ticket: null, status: 'creating' }])
    expect(await otherHome.listVms()).toEqual([])
    await expect(otherHome.deleteVm(VM)).rejects.toMatchObject(failsWith('not-ours'))
    await provider.createVm('AB-3', IMAGE, options)
    expect(await provider.listVms()).toMatchObject([{ vmId: VM, ticket: 'AB-3', status: 'stopped' }])
    expect(standIn.state().vms).toHaveLength(1)
  })
})

describe.skipIf(noPwsh !== null)(`two machines${leftOut}`, { timeout }, () => {
  // And a Hyper-V that gives a differencing disk its parent's size.
  const opened = homeOf([{ parentSizes: true }], async () => {})

  test('two machines made at once never have one address', async () => {
    const { provider, standIn, home } = opened()
    const other = 'as-ab-2-0000000b'
    await Promise.all([
      provider.createVm('AB-1', IMAGE, options),
      openHypervIn(standIn, home, { homeId: HOME_ID }).createVm('AB-2', IMAGE, hypervOptions(other)),
    ])
    const addresses = standIn.state().vms.map(({ notes }) => notes.match(/"address":"([^"]*)"/)?.[1])
    expect(addresses.sort()).toEqual(['10.177.0.10/20', '10.177.0.11/20'])
    const { vms, vhds } = standIn.state()
    expect(vms.map(({ disk }) => vhds[disk]?.size)).toEqual([8 * 1024 ** 3, 8 * 1024 ** 3])
  })
})
