/** What is left of machines that somebody removed in Hyper-V Manager, and what a host says of itself. */
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { hypervOptions, IMAGE, openHypervHome } from '../../support/hyperv/bench.ts'
import { noPwsh, type StandInVm } from '../../support/hyperv/stand-in.ts'

const VM = 'as-ab-1-0000000a'
const options = hypervOptions(VM)
const leftOut = noPwsh === null ? '' : ` (left out: ${noPwsh})`

test.skipIf(noPwsh !== null)(
  `a machine that somebody removed is made again from its last disk${leftOut}`,
  { timeout: 600_000 },
  async () => {
    const { provider, standIn, home, script, close } = await openHypervHome()
    try {
      await provider.createVm('AB-1', IMAGE, options)
      await provider.checkpoint(VM, 'one')
      await provider.startVm(VM)
      await script(VM, 'echo work >"$HOME/file"')
      const { disk } = standIn.vm(VM)
      expect(disk).toMatch(/\.avhdx$/)
      const removeVm = () =>
        standIn.change(state => {
          state.vms = []
          state.snapshots = []
        })
      removeVm()
      expect(await provider.listVms()).toEqual([])
      expect(await provider.leftovers?.()).toEqual([{ vmId: VM, hasDisk: true, bytes: expect.any(Number) }])
      expect(await provider.hasLeftDisk?.(VM)).toBe(true)
      await provider.recoverVm?.(VM, 'AB-2', options)
      // The seed that it left says the same address.
      const [recovered] = standIn.state().vms
      expect(recovered).toMatchObject({ disk, notes: expect.stringContaining('"address":"10.177.0.10/20"') })
      expect(await provider.listVms()).toMatchObject([{ vmId: VM, ticket: 'AB-2', status: 'stopped' }])
      expect(await script(VM, 'cat "$HOME/file"')).toBe('work')
      await provider.recoverVm?.(VM, 'AB-2', options)
      expect(standIn.state().vms).toHaveLength(1)
      removeVm()
      rmSync(join(home, 'hyperv/images/base.vhdx'), { force: true })
      await expect(provider.recoverVm?.(VM, null, options)).rejects.toMatchObject({
        failure: { kind: 'no-such-image' },
      })
      await provider.deleteVm(VM)
      await expect(provider.recoverVm?.(VM, null, options)).rejects.toMatchObject({ failure: { kind: 'no-such-vm' } })
      expect(await provider.leftovers?.()).toEqual([])
    } finally {
      close()
    }
  },
)

/** A machine with work on its last disk, which somebody removed in Hyper-V Manager. */
const removed = async () => {
  const opened = await openHypervHome()
  const { provider, standIn, script } = opened
  const fault = (cmdlet: string | null) =>
    standIn.change(state => {
      const broken = { id: 'Unspecified', category: 'NotSpecified', message: 'Unbekannter Fehler.', code: 0x80004005 }
      state.faults = cmdlet === null ? {} : { [cmdlet]: broken }
    })
  const removeVm = () =>
    standIn.change(state => {
      state.vms = []
      state.snapshots = []
    })
  await provider.createVm('AB-1', IMAGE, options)
  await provider.checkpoint(VM, 'one')
  await provider.startVm(VM)
  await script(VM, 'echo work >"$HOME/file"')
  removeVm()
  return { ...opened, fault, removeVm }
}
const seedOf = (home: string) => readFileSync(join(home, 'hyperv', VM, 'seed.iso'), 'latin1')

test.skipIf(noPwsh !== null)(
  `a recovery that ended in the middle leaves the machine absent, and the next one makes it of the same disk${leftOut}`,
  { timeout: 600_000 },
  async () => {
    const { provider, standIn, home, script, fault, close } = await removed()
    try {
      const seed = seedOf(home)
      // Before it has its mark, and after.
      for (const cmdlet of ['Set-VM', 'Set-VMFirmware']) {
        fault(cmdlet)
        await expect(provider.recoverVm?.(VM, 'AB-1', options)).rejects.toMatchObject({ failure: { kind: 'unknown' } })
        expect(standIn.state().vms).toHaveLength(1)
        await expect(provider.status(VM)).rejects.toMatchObject({ failure: { kind: 'no-such-vm' } })
        expect(await provider.listVms()).toEqual([])
        expect(await provider.hasLeftDisk?.(VM)).toBe(true)
        expect(await provider.leftovers?.()).toMatchObject([{ vmId: VM, hasDisk: true }])
      }
      fault(null)
      expect(await provider.recoverVm?.(VM, 'AB-1', options)).toBe('Its checkpoints are gone')
      expect(await provider.listVms()).toMatchObject([{ vmId: VM, ticket: 'AB-1', status: 'stopped' }])
      // With the seed that it left, and so with its address.
      expect(seedOf(home)).toBe(seed)
      expect(standIn.vm(VM).notes).toContain('"address":"10.177.0.10/20"')
      await provider.startVm(VM)
      expect(await script(VM, 'cat "$HOME/file"')).toBe('work')
      expect(await provider.recoverVm?.(VM, 'AB-1', options)).toBe(null)
      expect(standIn.state().vms).toHaveLength(1)
      await provider.deleteVm(VM)
      expect(await standIn.violations()).toBe('')
    } finally {
      close()
    }
  },
)

test.skipIf(noPwsh !== null)(
  `a recovery on a new place never takes the seed of the old one, however often it fails${leftOut}`,
  { timeout: 600_000 },
  async () => {
    const { provider, standIn, home, fault, removeVm, close } = await removed()
    const addressOf = (name: string) => standIn.vm(name).notes.match(/"address":"([^"]*)"/)?.[1]
    try {
      // Another machine has its address.
      const other = 'as-ab-2-0000000b'
      await provider.createVm('AB-2', IMAGE, hypervOptions(other))
      expect(addressOf(other)).toBe('10.177.0.10/20')
      // Before the seed is written, and after.
      standIn.write('no-icacls', '')
      await expect(provider.recoverVm?.(VM, 'AB-1', options)).rejects.toMatchObject({ failure: expect.anything() })
      standIn.remove('no-icacls')
      expect(seedOf(home)).toContain('"addresses":["10.177.0.10/20"]')
      fault('New-VM')
      await expect(provider.recoverVm?.(VM, 'AB-1', options)).rejects.toMatchObject({ failure: { kind: 'unknown' } })
      fault(null)
      await provider.recoverVm?.(VM, 'AB-1', options)
      expect(addressOf(VM)).toBe('10.177.0.11/20')
      expect(seedOf(home)).toContain('"addresses":["10.177.0.11/20"]')
      // From then on, that is the seed that it has.
      removeVm()
      const seed = seedOf(home)
      await provider.recoverVm?.(VM, 'AB-1', options)
      expect(seedOf(home)).toBe(seed)
      expect(addressOf(VM)).toBe('10.177.0.11/20')
    } finally {
      close()
    }
  },
)

test.skipIf(noPwsh !== null)(`what a host says of itself${leftOut}`, { timeout: 600_000 }, async () => {
  const { provider, standIn, close } = await openHypervHome()
  try {
    const { signal } = new AbortController()
    const before = (await provider.diagnose?.(signal)) ?? []
    expect(before[0]).toMatchObject({ status: 'ok', text: expect.stringContaining('Microsoft Windows 11 Pro') })
    const network = before.find(({ text }) => text.includes('with NAT does not exist'))
    expect(network).toMatchObject({ status: 'warning', remedy: expect.stringContaining('New-NetNat -Name') })
    await provider.createVm('AB-1', IMAGE, options)
    await provider.startVm(VM)
    expect(await provider.isolated?.()).toMatchObject({ isolated: true })
    const after = (await provider.diagnose?.(signal)) ?? []
    expect(after.some(({ status, text }) => status === 'ok' && text.includes('fixed addresses'))).toBe(true)
    const begun = standIn.processes()
    await provider.capacity?.()
    expect(standIn.processes() - begun).toBe(1)
  } finally {
    close()
  }
})

test.skipIf(noPwsh !== null)(`isolation is that of the rules in force${leftOut}`, { timeout: 600_000 }, async () => {
  const { provider, standIn, close } = await openHypervHome()
  const change = (edit: (adapters: StandInVm['adapters']) => void) =>
    standIn.change(({ vms }) => {
      for (const { adapters } of vms) edit(adapters)
    })
  const report = async () => {
    const begun = standIn.processes()
    const isolation = await provider.isolated?.()
    expect(standIn.processes() - begun).toBe(1)
    return isolation
  }
  const not = (reason: string) => ({
    ...{ isolated: false, reason },
    remedy: expect.stringMatching(/^Stop and start them, .*agent-swarm stop <TICKET>, agent-swarm start <TICKET>/),
  })
  try {
    await provider.createVm('AB-1', IMAGE, options)
    await provider.startVm(VM)
    expect(await report()).toMatchObject({ isolated: true })
    // Somebody took one rule away.
    expect(standIn.loseRule(VM, 'Outbound', '10.0.0.0/8')).toBe(1)
    expect(await report()).toMatchObject(not(`${VM} lost a rule of its port, "Outbound 201 Deny 10.0.0.0/8"`))
    const { signal } = new AbortController()
    expect(await provider.diagnose?.(signal)).toContainEqual(
      expect.objectContaining({ status: 'warning', text: expect.stringContaining('lost a rule of its port') }),
    )
    // The remedy.
    await provider.stopVm(VM)
    expect(await report()).toMatchObject({ isolated: true })
    await provider.startVm(VM)
    expect(await report()).toMatchObject({ isolated: true })
    const rule = { Direction: 'Outbound', Weight: 999, Action: 'Allow', RemoteIPAddress: '10.9.0.0/16' }
    change(([first]) => first?.acls.push(rule))
    expect(await report()).toMatchObject(
      not(`${VM} has a rule that agent-swarm did not give it, "Outbound 999 Allow 10.9.0.0/16"`),
    )
    change(([first]) => first?.acls.pop())
    // Another adapter has none.
    change(adapters => {
      const [first] = adapters
      if (first !== undefined) adapters.push({ ...first, acls: [] })
    })
    expect(await report()).toMatchObject(not(`${VM} runs without rules`))
  } finally {
    close()
  }
})
