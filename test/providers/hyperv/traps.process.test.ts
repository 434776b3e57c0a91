/** What bites on Hyper-V, sprung by the stand-in. traps.test.ts has the whole list. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { stateAnswer } from '../../../providers/hyperv/parse.ts'
import { answerIn, openScripts, scriptText } from '../../../providers/hyperv/powershell.ts'
import { openRun } from '../../../src/exec.ts'
import { HOME_ID, hypervOptions, IMAGE, openHypervHome, openHypervIn } from '../../support/hyperv/bench.ts'
import { noPwsh } from '../../support/hyperv/stand-in.ts'
import { until } from '../../support/wait.ts'

const VM = 'as-ab-1-0000000a'
const options = hypervOptions(VM)
const timeout = 600_000
const failsWith = (kind: string, words?: RegExp) => ({
  failure: { kind, ...(words && { message: expect.stringMatching(words) }) },
})

type Home = Awaited<ReturnType<typeof openHypervHome>>
let opened: Home | null = null
const open = async (...parameters: Parameters<typeof openHypervHome>): Promise<Home> => {
  opened = await openHypervHome(...parameters)
  return opened
}
afterEach(async () => {
  const home = opened
  opened = null
  try {
    expect((await home?.standIn.violations()) ?? '').toBe('')
  } finally {
    home?.close()
  }
})

describe.skipIf(noPwsh !== null)(`Hyper-V's traps${noPwsh === null ? '' : ` (left out: ${noPwsh})`}`, () => {
  test('how a machine is made, and what it survives', { timeout }, async () => {
    const { provider, otherHome, home, standIn } = await open()
    await provider.createVm('AB-1', IMAGE, options)
    const vm = standIn.vm(VM)
    // Windows 10 would take a checkpoint at every start, and production checkpoints hold no memory.
    expect(vm).toMatchObject({
      automatic: false,
      checkpoints: 'Standard',
      stopAction: 'ShutDown',
      startAction: 'Nothing',
    })
    expect(vm).toMatchObject({ template: 'MicrosoftUEFICertificateAuthority', dynamic: false })
    // 172.30.0.0/20 overlaps the Default Switch, and 10.20.30.40 is another network.
    expect(standIn.state().nats).toEqual([{ name: 'agent-swarm', prefix: '10.177.0.0/20' }])
    // Nothing gives addresses on such a switch.
    const seed = readFileSync(vm.dvd ?? '', 'latin1')
    expect(seed).toContain('"addresses":["10.177.0.10/20"]')
    expect(seed).toContain('"gateway4":"10.177.0.1"')
    expect(seed).toContain('"macaddress":"06:a5:0a:b1:00:0a"')
    expect(vm.adapters[0]?.mac).toBe('06A50AB1000A')
    // Permissions that are set after a file was attached keep the machine from starting.
    const folder = join(home, 'hyperv', VM)
    expect(standIn.permissions().trim().split('\n')).toEqual([
      `icacls ${folder} /inheritance:r /grant:r *S-1-5-21-1-2-3-1001:(OI)(CI)F *S-1-5-18:(OI)(CI)F`,
      `attach ${join(folder, 'seed.iso')}`,
    ])
    expect(statSync(join(home, 'hyperv/images/base.vhdx')).mode & 0o222).toBe(0)
    expect(standIn.state().vhds[vm.disk]).toMatchObject({
      parent: join(home, 'hyperv/images/base.vhdx'),
      size: 8 * 1024 ** 3,
    })
    // A list of one machine is a list.
    expect(await provider.listVms()).toMatchObject([{ vmId: VM, ticket: 'AB-1', status: 'stopped' }])

    // Names are not unique: somebody else's machine has this one, too.
    standIn.change(({ vms }) =>
      vms.unshift({ ...vm, id: '11111111-1111-1111-1111-111111111111', notes: 'mine', path: '/elsewhere' }),
    )
    expect(await provider.status(VM)).toBe('stopped')
    await provider.assign?.(VM, 'AB-2')
    expect(standIn.state().vms.map(({ notes }) => notes.slice(0, 20))).toEqual(['mine', 'agent-swarm {"vmId":'])
    // An imported copy has the mark, too.
    standIn.change(({ vms }) => {
      const [first, ours] = vms
      if (first !== undefined && ours !== undefined) first.notes = ours.notes
    })
    await expect(provider.deleteVm(VM)).rejects.toMatchObject(failsWith('not-ours', /imported a copy/))
    // New-VM takes no notes: whose machine it is, its folder says.
    standIn.change(state => {
      state.vms = state.vms.slice(1)
      for (const each of state.vms) each.notes = ''
    })
    expect(await provider.listVms()).toMatchObject([{ vmId: VM, ticket: null, status: 'creating' }])
    expect(await otherHome.listVms()).toEqual([])
    await expect(otherHome.deleteVm(VM)).rejects.toMatchObject(failsWith('not-ours'))
    await provider.createVm('AB-3', IMAGE, options)
    expect(await provider.listVms()).toMatchObject([{ vmId: VM, ticket: 'AB-3', status: 'stopped' }])
    expect(standIn.state().vms).toHaveLength(1)
  })

  test('a restore, whatever state it leaves', { timeout }, async () => {
    const { provider, standIn, script } = await open()
    await provider.createVm('AB-1', IMAGE, options)
    await provider.startVm(VM)
    await script(VM, 'echo before >"$HOME/state"')
    await provider.checkpoint(VM, 'one')
    await script(VM, 'echo after >"$HOME/state"')
    await provider.assign?.(VM, 'AB-2')
    const rules = standIn.vm(VM).adapters[0]?.acls.length
    expect(rules).toBeGreaterThan(15)
    for (const restoreLeaves of ['Saved', 'Off', 'Running'] as const) {
      // The configuration of the capture comes back: its notes, and the rules that it had.
      standIn.change(state => {
        state.restoreLeaves = restoreLeaves
        for (const { config } of state.snapshots) config.adapters[0]?.acls.splice(0)
      })
      await provider.restore(VM, 'one')
      const vm = standIn.vm(VM)
      expect([restoreLeaves, vm.state, vm.notes.includes('AB-2'), vm.adapters[0]?.acls.length]).toEqual([
        ...[restoreLeaves, 'Running', true, rules],
      ])
    }
    expect(await script(VM, 'cat "$HOME/state"')).toBe('before')
    standIn.change(state => {
      state.restoreLeaves = 'Saved'
    })
    await provider.restore(VM, 'one', { cold: true })
    expect(standIn.vm(VM).state).toBe('Off')
    // Names of checkpoints are not unique.
    standIn.change(({ snapshots }) => {
      const [first] = snapshots
      if (first !== undefined) snapshots.push({ ...first, id: '22222222-2222-2222-2222-222222222222' })
    })
    await expect(provider.restore(VM, 'one')).rejects.toMatchObject(failsWith('refused', /two checkpoints/))
  })

  test('merges go on after their command returned', { timeout }, async () => {
    const { provider, standIn, home, machineFolders } = await open({ mergeMs: 8_000 })
    await provider.createVm('AB-1', IMAGE, options)
    await provider.startVm(VM)
    for (const name of ['one', 'two', 'three']) await provider.checkpoint(VM, name)
    await provider.deleteCheckpoint?.(VM, 'two')
    expect(standIn.merging()).toBe(0)
    // Hyper-V takes no checkpoint while it merges.
    await provider.checkpoint(VM, 'four')
    expect(await provider.listCheckpoints(VM)).toEqual(['one', 'three', 'four'])
    await provider.deleteVm(VM)
    expect(standIn.merging()).toBe(0)
    expect(machineFolders()).toEqual([])
    expect(existsSync(join(home, 'hyperv/images/base.vhdx'))).toBe(true)
    expect(standIn.state()).toMatchObject({ vms: [], snapshots: [] })
  })

  test('a guest that does not shut down, a disk that is full, and a memory that is saved', { timeout }, async () => {
    const { provider, standIn, home } = await open()
    await provider.createVm('AB-1', IMAGE, options)
    await provider.startVm(VM)
    await provider.save?.(VM)
    expect(await provider.listVms()).toMatchObject([{ status: 'stopped', saved: true }])
    await provider.startVm(VM, { cold: true })
    standIn.change(({ vms }) => {
      for (const vm of vms) vm.hangs = true
    })
    const run = openRun({ ...standIn.environment, HOME: home })
    const about = { vmId: VM, homeId: HOME_ID, folder: join(home, 'hyperv', VM), ownsFolder: true }
    const answer = await openScripts(run)('stop', { ...about, grace: 1 }, stateAnswer, { doing: 'stopping' })
    expect(answer).toEqual({ state: 'Off' })
    standIn.change(state => {
      state.fullDisk = true
    })
    await expect(provider.startVm(VM)).rejects.toMatchObject(failsWith('disk-full'))
    const critical = { status: 'running', paused: expect.stringContaining('PausedCritical'), pauseCause: 'disk-full' }
    expect(await provider.listVms()).toMatchObject([critical])
    expect((await provider.usage?.())?.get(VM)).toMatchObject({ cpus: 2, cpuSeconds: null })
  })

  test('messages in another language: ids, categories and codes decide', { timeout }, async () => {
    const { provider, standIn, machineFolders } = await open()
    const message = 'Sie verfügen nicht über die erforderliche Berechtigung.'
    const denied = {
      id: 'AccessDenied,Microsoft.HyperV.PowerShell.Commands.GetVM',
      category: 'PermissionDenied',
      message,
    }
    standIn.change(({ faults }) => {
      faults['Get-VM'] = { ...denied, code: 0 }
    })
    expect(await provider.available()).toMatchObject({
      available: false,
      reason: expect.stringContaining(message),
      remedy: expect.stringContaining('S-1-5-32-578'),
    })
    standIn.change(state => {
      state.faults = {}
      state.free = 1024 ** 3
    })
    await provider.createVm('AB-1', IMAGE, options)
    await expect(provider.startVm(VM)).rejects.toMatchObject(failsWith('capacity'))
    // No right, no list, and no error: the machine is not lost.
    standIn.change(state => {
      state.silent = true
    })
    await expect(provider.listVms()).rejects.toMatchObject(failsWith('permission'))
    await expect(provider.deleteVm(VM)).rejects.toMatchObject(failsWith('permission'))
    expect(machineFolders()).toEqual([VM])
    // Without stubs of Hyper-V's module there is none.
    standIn.write('before', 'export PSModulePath=/nowhere\n')
    await expect(provider.listVms()).rejects.toMatchObject(failsWith('provider-missing', /not installed/))
    standIn.remove('before')
  })

  test('without an Administrator: the Default Switch, where Hyper-V learns addresses from the guest', {
    timeout,
  }, async () => {
    const state = { unprivileged: true, kvp: '172.30.9.9', kvpLooks: 3 }
    const { provider, standIn } = await open(state)
    await provider.createVm('AB-1', IMAGE, options)
    // Half of a network would be in the way of the remedy: names of switches are not unique.
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
    const vm = standIn.vm(VM)
    expect(vm.adapters[0]).toMatchObject({
      switch: 'Default Switch',
      spoofing: 'Off',
      dhcp: 'On',
      router: 'On',
      acls: [],
    })
    expect(readFileSync(vm.dvd ?? '', 'latin1')).toContain('"dhcp4":true')
    await provider.startVm(VM)
    await expect(provider.sshInfo(VM)).rejects.toMatchObject(failsWith('no-address-yet'))
    const mac = vm.notes.match(/"mac":"([^"]*)"/)?.[1] ?? ''
    standIn.change(each => {
      each.neighbours = [{ address: '172.30.8.8', mac: mac.replaceAll(':', '-').toUpperCase() }]
    })
    expect(await provider.sshInfo(VM)).toMatchObject({ host: '172.30.8.8', port: 22 })
    // The guest's own answer counts more, and not what it gave itself.
    expect(await provider.sshInfo(VM)).toMatchObject({ host: '172.30.9.9' })
    expect(await provider.isolated?.()).toMatchObject({
      isolated: false,
      reason: expect.stringContaining('Default Switch'),
    })
  })

  test('a VM that somebody renamed is neither made again nor deleted', { timeout }, async () => {
    const { provider, standIn, home } = await open()
    await provider.createVm('AB-1', IMAGE, options)
    standIn.change(({ vms }) => {
      for (const vm of vms) vm.name = 'Drop shop'
    })
    const before = [standIn.state().vms, standIn.state().vhds, readdirSync(join(home, 'hyperv', VM))]
    const refused = failsWith('refused', /renamed/)
    await expect(provider.deleteVm(VM)).rejects.toMatchObject(refused)
    await expect(provider.createVm('AB-1', IMAGE, options)).rejects.toMatchObject(refused)
    await expect(provider.recoverVm?.(VM, 'AB-1', options)).rejects.toMatchObject(refused)
    await expect(provider.status(VM)).rejects.toMatchObject(refused)
    expect([standIn.state().vms, standIn.state().vhds, readdirSync(join(home, 'hyperv', VM))]).toEqual(before)
  })

  test('two machines at once never have one address', { timeout }, async () => {
    // And a Hyper-V that gives a differencing disk its parent's size.
    const { provider, standIn, home } = await open({ parentSizes: true })
    const second = openHypervIn(standIn, home)
    const other = 'as-ab-2-0000000b'
    await Promise.all([provider.createVm('AB-1', IMAGE, options), second.createVm('AB-2', IMAGE, hypervOptions(other))])
    const addresses = standIn.state().vms.map(({ notes }) => notes.match(/"address":"([^"]*)"/)?.[1])
    expect(addresses.sort()).toEqual(['10.177.0.10/20', '10.177.0.11/20'])
    const { vms, vhds } = standIn.state()
    expect(vms.map(({ disk }) => vhds[disk]?.size)).toEqual([8 * 1024 ** 3, 8 * 1024 ** 3])
    // A script goes on when its caller was killed: the next one for the same machine waits for it.
    const written = () => standIn.cmdlets().filter(line => line.startsWith('Set-VM -Notes')).length
    const before = written()
    standIn.change(state => {
      state.pauses = { 'Set-VM': 6_000 }
    })
    const assigned = provider.assign?.(VM, 'AB-9')
    await until('the mark that is being written', () => written() > before)
    // One that waits too long does nothing. It waits for five minutes.
    const text = scriptText('look').replace('300000', '300')
    const words = ['-NoLogo', '-NoProfile', '-NonInteractive', '-ExecutionPolicy', 'Bypass', '-EncodedCommand']
    const { stdout } = await openRun({ ...standIn.environment, HOME: home })(
      'powershell.exe',
      [...words, Buffer.from(text, 'utf16le').toString('base64')],
      { input: JSON.stringify({ vmId: VM, homeId: HOME_ID }) },
    )
    expect(answerIn(stdout)).toEqual({ refused: 'locked' })
    await second.deleteVm(VM)
    await assigned
    expect(standIn.state().vms.map(({ name }) => name)).toEqual([other])
  })
})
