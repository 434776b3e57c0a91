/** What bites on Hyper-V without an Administrator, where machines get Windows' Default Switch. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { IMAGE } from '../../support/hyperv/bench.ts'
import { noPwsh } from '../../support/hyperv/stand-in.ts'
import { failsWith, type Home, homeOf, options, timeout, VM } from './home.ts'

const leftOut = noPwsh === null ? '' : ` (left out: ${noPwsh})`

describe.skipIf(noPwsh !== null)(`without an Administrator${leftOut}`, { timeout }, () => {
  const opened = homeOf([{ unprivileged: true, kvp: '172.30.9.9', kvpLooks: 3 }], ({ provider }) =>
    provider.createVm('AB-1', IMAGE, options),
  )
  const macOf = ({ standIn }: Home) => standIn.vm(VM).notes.match(/"mac":"([^"]*)"/)?.[1] ?? ''

  test('half of a network is not left in the way of the remedy', async () => {
    const { provider, standIn } = opened()
    expect(standIn.state().switches.map(({ name }) => name)).toEqual(['Default Switch'])
    const findings = (await provider.diagnose?.(new AbortController().signal)) ?? []
    // A transcript takes the tools and their versions from the first finding.
    expect(findings[0]?.text).toMatch(
      /^this user may use Hyper-V 10\.0\.26100 of Microsoft Windows 11 Pro, with Windows PowerShell \d/,
    )
    // 172.30.0.0/20 is in use.
    expect(findings.map(({ remedy }) => remedy)).toContainEqual(
      expect.stringMatching(/^As Administrator, once: if \(-not \(Get-VMSwitch .* -IPAddress 10\.177\.0\.1 /),
    )
  })

  test('a machine gets the Default Switch and its address by DHCP, and is not isolated', async () => {
    const { provider, standIn } = opened()
    const vm = standIn.vm(VM)
    const guarded = { switch: 'Default Switch', spoofing: 'Off', dhcp: 'On', router: 'On', acls: [] }
    expect(vm.adapters[0]).toMatchObject(guarded)
    expect(readFileSync(vm.dvd ?? '', 'latin1')).toContain('"dhcp4":true')
    expect(await provider.isolated?.()).toMatchObject({
      isolated: false,
      reason: expect.stringContaining('Default Switch'),
    })
  })

  test('until the guest reports an address, it is that of the neighbour with its MAC', async () => {
    const home = opened()
    const { provider, standIn } = home
    await provider.startVm(VM)
    await expect(provider.sshInfo(VM)).rejects.toMatchObject(failsWith('no-address-yet'))
    standIn.change(each => {
      each.neighbours = [{ address: '172.30.8.8', mac: macOf(home).replaceAll(':', '-').toUpperCase() }]
    })
    expect(await provider.sshInfo(VM)).toMatchObject({ host: '172.30.8.8', port: 22 })
  })

  test('the address that the guest reports counts more, and not one that it gave itself', async () => {
    const { provider, standIn } = opened()
    // The daemon runs by now.
    standIn.change(({ vms }) => {
      for (const { adapters } of vms) for (const adapter of adapters) Object.assign(adapter, { looks: 0 })
    })
    expect(await provider.sshInfo(VM)).toMatchObject({ host: '172.30.9.9' })
  })
})
