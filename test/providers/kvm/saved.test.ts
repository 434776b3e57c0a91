/** Machines whose memory libvirt has saved. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { parseSaved } from '../../../providers/kvm/parse.ts'
import type { Provider } from '../../../providers/provider.ts'
import { until } from '../../support/wait.ts'
import { type Answer, disk, failureOf, fakeKvm, mark, pool, RUNNING, STOPPED, state, VM } from './fake-virsh.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-saved-'))
})
afterEach(() => rmSync(home, { recursive: true }))

const IDLE: Answer = { to: 'domjobinfo', stdout: 'Job type:         None' }
const ACTIVE: Answer = { to: 'net-info', stdout: 'Active:         yes' }
const SAVED: Answer = { to: 'dominfo', stdout: 'Managed save:   yes' }
const kvm = (...answers: Answer[]) => fakeKvm([mark(), IDLE, ACTIVE, disk(900), ...answers], { home })
const commands = (calls: readonly string[]) => calls.map(call => call.replace(/^.*--quiet /, ''))

test('a running machine is saved, and one that is off is left as it is', async () => {
  const running = kvm(RUNNING)
  await running.provider.save?.(VM)
  expect(commands(running.calls).at(-1)).toBe(`managedsave ${VM} --running`)
  const stopped = kvm(STOPPED)
  await stopped.provider.save?.(VM)
  expect(stopped.calls.join()).not.toContain('managedsave')
})

test('a memory that does not fit is not written, and the figures are said', async () => {
  const huge: Answer = {
    to: 'domstats',
    stdout: `Domain: '${VM}'\n  state.state=1\n  state.reason=1\n  balloon.maximum=4000000000000\n  balloon.rss=4000000000000\n`,
  }
  const { provider, calls } = kvm(huge)
  expect(await failureOf(provider.save?.(VM) ?? Promise.resolve())).toMatchObject({
    kind: 'disk-full',
    message: expect.stringMatching(
      /^saving the memory of as-a-1-0000000a: it needs about \d+ MiB, but \/\S* has \d+ MiB free/,
    ),
  })
  expect(calls.join()).not.toContain('managedsave')
})

test('a machine that is paused, and one that libvirt does not save, run on', async () => {
  const paused = kvm(state(3, VM, 1))
  expect(await failureOf(paused.provider.save?.(VM) ?? Promise.resolve())).toMatchObject({ kind: 'busy' })
  const full = kvm(RUNNING, { to: 'managedsave', stderr: 'error: write: No space left on device' })
  expect(await failureOf(full.provider.save?.(VM) ?? Promise.resolve())).toMatchObject({
    kind: 'disk-full',
    message: expect.stringMatching(/MiB free$/),
  })
})

test('a list says which machines are saved, among other output', async () => {
  const { provider } = kvm(STOPPED, { to: '--with-managed-save', stdout: `${VM}\n` })
  expect(await provider.listVms()).toEqual([{ vmId: VM, ticket: 'A-1', ip: null, status: 'stopped', saved: true }])
  expect(await kvm(STOPPED).provider.listVms()).toEqual([{ vmId: VM, ticket: 'A-1', ip: null, status: 'stopped' }])
  expect([...parseSaved(` 2026-11-24 10:00:00  52:54:00:00:00:0a  ipv4  192.0.2.1/24  ${VM}\n${VM}\nother\n`)]).toEqual(
    [VM],
  )
})

test('a memory that cannot be read is kept, and the way on is a boot without it', async () => {
  const { provider } = kvm(STOPPED, SAVED, {
    to: `start ${VM}`,
    stderr: 'error: internal error: qemu unexpectedly closed the monitor: load of migration failed: Input/output error',
  })
  expect(await failureOf(provider.startVm(VM))).toMatchObject({
    message: expect.stringContaining('Its memory was saved, and is kept'),
    remedy: expect.stringContaining('agent-swarm restart <TICKET>'),
  })
  const cold = kvm(STOPPED, SAVED)
  await cold.provider.startVm(VM, { cold: true })
  expect(commands(cold.calls).at(-1)).toBe(`start ${VM} --force-boot`)
})

test('the mark of a woken machine is the present one', async () => {
  const { provider, calls } = fakeKvm(
    [
      IDLE,
      ACTIVE,
      SAVED,
      STOPPED,
      { to: 'domtime', stdout: '<vm name="as-a-1-0000000a" ticket="OLD-1" home="00112233445566ff" mac="m"/>' },
      mark(),
    ],
    { home },
  )
  await provider.startVm(VM)
  expect(calls.at(-1)).toMatch(/metadata as-a-1-0000000a urn:agent-swarm:1 --key as --set .*ticket="A-1"/)
})

test.for([
  ['woken', (provider: Provider) => provider.startVm(VM), [STOPPED, SAVED]],
  ['stopped', (provider: Provider) => provider.stopVm(VM), [RUNNING]],
  ['captured', (provider: Provider) => provider.checkpoint(VM, 'one'), [RUNNING, pool(90_000)]],
] as const)(
  'the definition names the disk that a machine uses before it is used again: %s',
  async ([, act, answers]) => {
    const definition: Answer = {
      to: `dumpxml ${VM} --inactive`,
      stdout: `<domain><disk type='file' device='disk'><source file='/pool/${VM}.1.qcow2'/></disk></domain>`,
    }
    const both: Answer[] = [
      { to: `domblklist ${VM};`, stdout: ` vda   /pool/${VM}.qcow2` },
      { to: `domblklist ${VM} --inactive`, stdout: ` vda   /pool/${VM}.1.qcow2` },
    ]
    const layers = mark({ checkpoints: 'external' })
    const of = fakeKvm([layers, IDLE, ACTIVE, disk(900), ...both, definition, ...answers], { home })
    // A stop waits for a guest that never ends here.
    const acted = act(of.provider).catch(() => {})
    await until('the definition', () => of.calls.some(call => / define /.test(call)), { within: 20_000 })
    expect(of.files.find(text => text.startsWith('<domain>'))).toContain(`<source file="/pool/${VM}.qcow2"/>`)
    void acted
  },
)
