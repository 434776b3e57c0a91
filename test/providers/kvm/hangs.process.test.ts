/** Each call of kvm with a real program in place of virsh: one that is missing, sleeps for ever or ignores SIGTERM. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Provider } from '../../../providers/provider.ts'
import { isRetryable } from '../../../src/errors.ts'
import { openRun, type Run } from '../../../src/exec.ts'
import { failureOf, fakeKvm, options, VM } from './fake-virsh.ts'

let home: string
let bin: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-hangs-'))
  bin = join(home, 'bin')
  mkdirSync(bin)
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

/** kvm with this script as its virsh. Deadlines are short. */
const kvm = (script: string | null): Provider => {
  if (script !== null) {
    writeFileSync(join(bin, 'virsh'), `#!/bin/sh\n${script}\n`)
    chmodSync(join(bin, 'virsh'), 0o755)
  }
  const real = openRun({ PATH: script === null ? bin : `${bin}:${process.env.PATH}`, HOME: home })
  const run: Run = (program, argv, more) => real(program, argv, { ...more, deadline: 300 })
  return fakeKvm([], { home, run }).provider
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
