/** Each call of kvm with a real program in place of virsh: one that is missing, sleeps for ever or ignores SIGTERM. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
import { isRetryable } from '../../../src/errors.ts'
import { openRun, type Run } from '../../../src/exec.ts'
import { until } from '../../support/wait.ts'
import { failureOf, fakeKvm, options, VM } from './fake-virsh.ts'

let home: string
let bin: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-hangs-'))
  bin = join(home, 'bin')
  mkdirSync(bin)
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

/** kvm with this script as its virsh. Deadlines are short, unless the script answers. */
const kvm = (script: string | null, kvmDomainType: 'auto' | 'qemu' = 'qemu', deadline = 300): Provider => {
  if (script !== null) {
    writeFileSync(join(bin, 'virsh'), `#!/bin/sh\n${script}\n`)
    chmodSync(join(bin, 'virsh'), 0o755)
  }
  const real = openRun({ PATH: script === null ? bin : `${bin}:${process.env.PATH}`, HOME: home })
  const run: Run = (program, argv, more) => real(program, argv, { ...more, deadline })
  return fakeKvm([], { home, run, settings: { kvmDomainType } }).provider
}

const calls = (provider: Provider): Record<string, Promise<unknown> | undefined> => ({
  createVm: provider.createVm('A-1', 'agent-swarm-base', options),
  startVm: provider.startVm(VM),
  stopVm: provider.stopVm(VM),
  deleteVm: provider.deleteVm(VM),
  sshInfo: provider.sshInfo(VM),
  checkpoint: provider.checkpoint(VM, 'one'),
  restore: provider.restore(VM, 'one'),
  listCheckpoints: provider.listCheckpoints(VM),
  status: provider.status(VM),
  listVms: provider.listVms(),
  assign: provider.assign?.(VM, 'A-2'),
  deleteCheckpoint: provider.deleteCheckpoint?.(VM, 'one'),
  hasLeftDisk: provider.hasLeftDisk?.(VM),
  usage: provider.usage?.(),
})

test.for<[what: string, script: string | null, kind: string]>([
  ['is missing', null, 'provider-missing'],
  ['sleeps for ever', 'exec sleep 1000', 'timeout'],
  ['ignores SIGTERM', 'trap "" TERM; sleep 1000 & while :; do wait; done', 'timeout'],
  ['leaves a process that holds its pipes', `setsid sh -c 'trap "" TERM; sleep 1000' & sleep 1000`, 'timeout'],
])('a virsh that %s fails each call, and each says why', async ([, script, kind]) => {
  const provider = kvm(script)
  const available = await provider.available()
  expect(available.available).toBe(false)
  const failures = Object.entries(calls(provider)).map(async ([name, call]) => [name, await failureOf(call)] as const)
  for (const [name, failure] of await Promise.all(failures)) {
    expect(failure.kind, `${name}: ${failure.message}`).toBe(kind)
    expect(failure.message, name).toMatch(/virsh|libvirt|no answer/)
  }
  // What hangs may answer the next time.
  expect(isRetryable('timeout')).toBe(true)
})

test.for<[what: string, script: string | null, text: RegExp, remedy: RegExp]>([
  ['is missing', null, /virsh, the client of libvirt, is not installed/, /[Ii]nstall/],
  ['sleeps for ever', 'exec sleep 1000', /no answer within/, /sudo systemctl restart (libvirtd|virtqemud)/],
  ['ignores SIGTERM', 'trap "" TERM; sleep 1000 & while :; do wait; done', /no answer within/, /restart/],
  [
    'may not use the socket',
    `echo "error: failed to connect to the hypervisor
error: Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied" >&2; exit 1`,
    /this user may not use qemu:\/\/\/system/,
    /sudo usermod -aG libvirt "\$USER"/,
  ],
])('doctor, of a virsh that %s: one error with its remedy', async ([, script, text, remedy]) => {
  const findings = (await kvm(script).diagnose?.(new AbortController().signal)) ?? []
  const errors = findings.filter(({ status }) => status === 'error')
  expect(errors).toEqual([
    { status: 'error', text: expect.stringMatching(text), remedy: expect.stringMatching(remedy) },
  ])
})

test('what ends doctor ends the test guest too', async () => {
  const log = join(home, 'log')
  const ending = new AbortController()
  const provider = kvm(
    `echo "$*" >>${log}
case "$*" in
  *version*) echo 'Running against daemon: 9.0.0' ;;
  *domstate*) sleep 0.05; echo running ;;
esac`,
    'auto',
    60_000,
  )
  const diagnosed = provider.diagnose?.(ending.signal)
  const calls = () => (existsSync(log) ? readFileSync(log, 'utf8') : '')
  const ended = diagnosed?.then(checks => {
    throw new Error(`it ended before: ${JSON.stringify(checks)}\n${calls()}`)
  })
  await Promise.race([until('the test guest to run', () => calls().includes('domstate as-probe-')), ended])
  ended?.catch(() => {})
  ending.abort()
  await diagnosed
  expect(calls()).toMatch(/destroy as-probe-[0-9a-f]{8}\n$/)
})
