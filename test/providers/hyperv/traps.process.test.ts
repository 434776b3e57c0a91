/** What bites on Hyper-V in a machine's life, sprung by the stand-in. traps.test.ts has the whole list. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { stateAnswer } from '../../../providers/hyperv/parse.ts'
import { answerIn, openScripts, scriptText } from '../../../providers/hyperv/powershell.ts'
import { openRun } from '../../../src/exec.ts'
import { HOME_ID, IMAGE, multiplyMachine } from '../../support/hyperv/bench.ts'
import { noPwsh, type StandInState } from '../../support/hyperv/stand-in.ts'
import { until } from '../../support/wait.ts'
import { failsWith, type Home, homeOf, options, timeout, VM } from './home.ts'

const leftOut = noPwsh === null ? '' : ` (left out: ${noPwsh})`
const create = ({ provider }: Home) => provider.createVm('AB-1', IMAGE, options)
const start = async (home: Home) => {
  await create(home)
  await home.provider.startVm(VM)
}

describe.skipIf(noPwsh !== null)(`restores on Hyper-V${leftOut}`, { timeout }, () => {
  let rules = 0
  const opened = homeOf([], async home => {
    const { provider, standIn, script } = home
    await start(home)
    await script(VM, 'echo before >"$HOME/state"')
    await provider.checkpoint(VM, 'one')
    await script(VM, 'echo after >"$HOME/state"')
    await provider.assign?.(VM, 'AB-2')
    rules = standIn.vm(VM).adapters[0]?.acls.length ?? 0
  })

  test('a restore goes on from whatever state it leaves, and a cold one is stopped', async () => {
    const { provider, standIn, script } = opened()
    for (const restoreLeaves of ['Saved', 'Off', 'Running'] as const) {
      standIn.change(state => {
        state.restoreLeaves = restoreLeaves
      })
      await provider.restore(VM, 'one')
      expect([restoreLeaves, standIn.vm(VM).state]).toEqual([restoreLeaves, 'Running'])
    }
    expect(await script(VM, 'cat "$HOME/state"')).toBe('before')
    standIn.change(state => {
      state.restoreLeaves = 'Saved'
    })
    await provider.restore(VM, 'one', { cold: true })
    expect(standIn.vm(VM).state).toBe('Off')
  })

  test('a restored machine keeps its present mark', async () => {
    const { provider, standIn } = opened()
    expect(standIn.state().snapshots.map(({ config }) => config.notes.includes('"AB-1"'))).toEqual([true])
    await provider.restore(VM, 'one')
    expect(standIn.vm(VM).notes).toContain('"AB-2"')
  })

  test('a restored machine has its rules, also when it had none at the capture', async () => {
    const { provider, standIn } = opened()
    expect(rules).toBeGreaterThan(15)
    standIn.change(({ snapshots }) => {
      for (const { config } of snapshots) config.adapters[0]?.acls.splice(0)
    })
    await provider.restore(VM, 'one')
    expect(standIn.vm(VM).adapters[0]?.acls).toHaveLength(rules)
  })

  test('two rules close the port until all of them are written, also when that is interrupted', async () => {
    const { provider, standIn } = opened()
    const acls = () => standIn.vm(VM).adapters[0]?.acls ?? []
    const guards = () => acls().filter(({ Weight, Action }) => Weight === 65_535 && Action === 'Deny')
    await provider.stopVm(VM)
    const before = acls()
    // Somebody lets every address of the machine out.
    standIn.change(({ vms }) => {
      for (const rule of vms[0]?.adapters[0]?.acls ?? []) if (rule.Weight === 100) rule.LocalIPAddress = undefined
    })
    standIn.change(state => {
      const id = 'Unspecified,Microsoft.HyperV.PowerShell.Commands.RemoveVMNetworkAdapterExtendedAcl'
      state.faults['Remove-VMNetworkAdapterExtendedAcl'] = { id, category: 'NotSpecified', message: 'Nein.', code: 0 }
    })
    await expect(provider.startVm(VM)).rejects.toMatchObject(failsWith('unknown'))
    expect(guards().map(({ Direction }) => Direction)).toEqual(['Inbound', 'Outbound'])
    standIn.change(state => {
      state.faults = {}
    })
    const began = standIn.cmdlets().length
    await provider.startVm(VM)
    expect(acls()).toEqual(before)
    const removed = standIn.cmdlets().slice(began)
    const ends = removed.filter(line => line.startsWith('Remove-VMNetworkAdapterExtendedAcl')).slice(-2)
    for (const line of ends) expect(line).toContain('-Weight 65535')
    expect(removed.findLastIndex(line => line.startsWith('Add-'))).toBeLessThan(removed.indexOf(ends[0] ?? ''))
  })

  test('of two checkpoints with one name none is restored', async () => {
    const { provider, standIn } = opened()
    standIn.change(({ snapshots }) => {
      const [first] = snapshots
      if (first !== undefined) snapshots.push({ ...first, id: '22222222-2222-2222-2222-222222222222' })
    })
    await expect(provider.restore(VM, 'one')).rejects.toMatchObject(failsWith('refused', /two checkpoints/))
  })
})

describe.skipIf(noPwsh !== null)(`merges go on after their command returned${leftOut}`, { timeout }, () => {
  const opened = homeOf([{ mergeMs: 8_000 }], async home => {
    await start(home)
    for (const name of ['one', 'two', 'three']) await home.provider.checkpoint(VM, name)
  })

  test('a checkpoint is deleted when its disk is merged, and the next one can be made', async () => {
    const { provider, standIn } = opened()
    await provider.deleteCheckpoint?.(VM, 'two')
    expect(standIn.merging()).toBe(0)
    // Hyper-V takes no checkpoint while it merges.
    await provider.checkpoint(VM, 'four')
    expect(await provider.listCheckpoints(VM)).toEqual(['one', 'three', 'four'])
  })

  test('a machine is deleted when the disks of its checkpoints are merged, with its disks and not its image', async () => {
    const { provider, standIn, home, machineFolders } = opened()
    await provider.deleteVm(VM)
    expect(standIn.merging()).toBe(0)
    expect(machineFolders()).toEqual([])
    expect(existsSync(join(home, 'hyperv/images/base.vhdx'))).toBe(true)
    expect(standIn.state()).toMatchObject({ vms: [], snapshots: [] })
  })
})

describe.skipIf(noPwsh !== null)(`states on Hyper-V${leftOut}`, { timeout }, () => {
  const opened = homeOf([], start)
  const about = () => {
    const { home, standIn } = opened()
    const run = openRun({ ...standIn.environment, HOME: home })
    return { run, data: { vmId: VM, homeId: HOME_ID, folder: join(home, 'hyperv', VM), ownsFolder: true } }
  }

  test('the usage of a machine has no processor seconds', async () =>
    expect((await opened().provider.usage?.())?.get(VM)).toMatchObject({ cpus: 2, cpuSeconds: null }))

  test('a state is a word and not the number of its enum: a memory that is saved', async () => {
    const { provider } = opened()
    await provider.save?.(VM)
    expect(await provider.listVms()).toMatchObject([{ status: 'stopped', saved: true }])
    await provider.startVm(VM, { cold: true })
  })

  /** Gives the machine a ticket, by a script that takes long. Resolves when the script is at work; it goes on then. */
  const assignSlowly = async (ticket: string) => {
    const { provider, standIn } = opened()
    const written = () => standIn.cmdlets().filter(line => line.startsWith('Set-VM -Notes')).length
    const before = written()
    standIn.change(state => {
      state.pauses = { 'Set-VM': 6_000 }
    })
    const assigned = provider.assign?.(VM, ticket)
    await until('the mark that is being written', () => written() > before)
    const end = async () => {
      await assigned
      standIn.change(state => {
        state.pauses = {}
      })
    }
    return { end }
  }

  test('the next script for a machine waits for one that is still at work', async () => {
    const { provider, standIn } = opened()
    const { end } = await assignSlowly('AB-9')
    await provider.checkpoint(VM, 'later')
    await end()
    expect(standIn.state().snapshots.map(({ config }) => config.notes.includes('"AB-9"'))).toEqual([true])
  })

  test('a script that does not get its lock in time does nothing', async () => {
    const { run, data } = about()
    const { end } = await assignSlowly('AB-8')
    // It waits for five minutes.
    const text = scriptText('look').replace('300000', '300')
    const words = ['-NoLogo', '-NoProfile', '-NonInteractive', '-ExecutionPolicy', 'Bypass', '-EncodedCommand']
    const argv = [...words, Buffer.from(text, 'utf16le').toString('base64')]
    const { stdout } = await run('powershell.exe', argv, { input: JSON.stringify(data) })
    expect(answerIn(stdout)).toEqual({ refused: 'locked' })
    await end()
  })

  test('a guest that does not shut down is turned off after its time', async () => {
    const { standIn } = opened()
    standIn.change(({ vms }) => {
      for (const vm of vms) vm.hangs = true
    })
    const { run, data } = about()
    const answer = await openScripts(run)('stop', { ...data, grace: 1 }, stateAnswer, { doing: 'stopping' })
    expect(answer).toEqual({ state: 'Off' })
  })

  test('a disk that is full pauses a machine, and its start says so', async () => {
    const { provider, standIn } = opened()
    standIn.change(state => {
      state.fullDisk = true
    })
    await expect(provider.startVm(VM)).rejects.toMatchObject(failsWith('disk-full'))
    const critical = { status: 'running', paused: expect.stringContaining('PausedCritical'), pauseCause: 'disk-full' }
    expect(await provider.listVms()).toMatchObject([critical])
  })
})

describe.skipIf(noPwsh !== null)(`a machine that goes while another command reads it${leftOut}`, { timeout }, () => {
  const OTHER = 'as-ab-1-f0000001'
  const opened = homeOf([], async home => {
    await start(home)
    multiplyMachine(home.standIn, VM, 2)
  })
  /** What one cmdlet does from now on. */
  const change = (more: Partial<StandInState>) => opened().standIn.change(state => void Object.assign(state, more))

  test('a survey leaves out a machine that is deleted meanwhile, and fails for one that it cannot read', async () => {
    const { provider, standIn } = opened()
    const fault = { id: 'ObjectNotFound,Nothing', category: 'ObjectNotFound', message: 'Nein.', code: 0 }
    change({ faults: { 'Get-VMNetworkAdapter': fault } })
    await expect(provider.isolated?.()).rejects.toMatchObject(failsWith('unknown'))
    change({ faults: {}, leaves: { 'Get-VMNetworkAdapter': OTHER } })
    expect(await provider.isolated?.()).toMatchObject({ isolated: true })
    expect(standIn.state().vms.map(({ name }) => name)).toEqual([VM])
  })

  test('a machine that is deleted while it is read is absent', async () => {
    change({ leaves: { 'Get-VMSnapshot': VM } })
    await expect(opened().provider.listCheckpoints(VM)).rejects.toMatchObject(failsWith('no-such-vm'))
  })
})

describe.skipIf(noPwsh !== null)(`rights and failures on Hyper-V${leftOut}`, { timeout }, () => {
  const opened = homeOf([], create)

  test('a refusal in German names the group to join', async () => {
    const { provider, standIn } = opened()
    const message = 'Sie verfügen nicht über die erforderliche Berechtigung.'
    const id = 'AccessDenied,Microsoft.HyperV.PowerShell.Commands.GetVM'
    standIn.change(({ faults }) => {
      faults['Get-VM'] = { id, category: 'PermissionDenied', message, code: 0 }
    })
    expect(await provider.available()).toMatchObject({
      available: false,
      reason: expect.stringContaining(message),
      remedy: expect.stringContaining('S-1-5-32-578'),
    })
    standIn.change(state => {
      state.faults = {}
    })
  })

  test('a start for which the memory does not suffice fails with capacity', async () => {
    const { provider, standIn } = opened()
    standIn.change(state => {
      state.free = 1024 ** 3
    })
    await expect(provider.startVm(VM)).rejects.toMatchObject(failsWith('capacity'))
  })

  test('where a user without the right gets an empty list, the machine is not lost', async () => {
    const { provider, standIn, machineFolders } = opened()
    standIn.change(state => {
      state.silent = true
    })
    await expect(provider.listVms()).rejects.toMatchObject(failsWith('permission'))
    await expect(provider.deleteVm(VM)).rejects.toMatchObject(failsWith('permission'))
    expect(machineFolders()).toEqual([VM])
    standIn.change(state => {
      state.silent = false
    })
  })

  test("without Hyper-V's module, it says what is not installed", async () => {
    const { provider, standIn } = opened()
    // Without stubs of the module there is none.
    standIn.write('before', 'export PSModulePath=/nowhere\n')
    await expect(provider.listVms()).rejects.toMatchObject(failsWith('provider-missing', /not installed/))
    standIn.remove('before')
  })
})
