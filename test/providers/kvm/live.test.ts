/** Live checkpoints as far as virsh's answers decide: who gets them, who ends them, and what is left by whoever died. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { resumeWhenProtected, watchPause } from '../../../providers/kvm/pause.ts'
import { openTalk } from '../../../providers/kvm/talk.ts'
import type { Virsh } from '../../../providers/kvm/virsh.ts'
import { fail } from '../../../src/errors.ts'
import { openRun } from '../../../src/exec.ts'
import { lockFile } from '../../../src/lock-file.ts'
import { until } from '../../support/wait.ts'
import { type Answer, domains, failureOf, fakeKvm, mark, pool, RUNNING, state, VM } from './fake-virsh.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-kvm-live-'))
})
afterEach(() => rmSync(home, { recursive: true }))

const EXTERNAL = mark({ checkpoints: 'external' })
const disk: Answer = { to: 'domblklist', stdout: ` vda   /pool/${VM}.qcow2` }
const qemu = (major: number, minor: number): Answer => ({
  to: 'query-version',
  stdout: `{"return":{"qemu":{"micro":0,"minor":${minor},"major":${major}},"package":""},"id":"libvirt-1"}`,
})
const capability = (isOn: boolean): Answer => ({
  to: 'query-migrate-capabilities',
  stdout: `{"return":[{"state":${isOn},"capability":"background-snapshot"}],"id":"libvirt-2"}`,
})
const PAUSED = state(3)
const turns = (isOn: boolean) => new RegExp(`migrate-set-capabilities.*"background-snapshot","state":${isOn}`)
const noteFile = () => join(home, 'kvm', `live-${VM}`)
/** Of a checkpoint that nobody makes any more, unless somebody holds its lock. */
const leaveNote = (id = VM) => {
  mkdirSync(join(home, 'kvm'), { recursive: true })
  // The id of a process says nothing: another process may have got it.
  writeFileSync(join(home, 'kvm', `live-${id}`), JSON.stringify({ pid: process.pid, fifo: null }))
}
const hold = (): (() => void) => lockFile(`${noteFile()}.lock`) ?? (() => {})

test.for([
  ['auto', qemu(7, 2), false],
  ['auto', qemu(8, 0), false],
  ['auto', qemu(9, 2), false],
  ['auto', qemu(10, 0), true],
  ['on', qemu(7, 2), true],
  ['off', qemu(10, 0), false],
] as const)('with %s, QEMU decides whether a checkpoint is live', async ([kvmLiveCheckpoints, version, isLive]) => {
  const answers = [EXTERNAL, RUNNING, disk, pool(90_000), version, capability(false)]
  const { provider, calls } = fakeKvm(answers, { home, settings: { kvmLiveCheckpoints } })
  // The fake makes no layer, which is noticed.
  expect((await failureOf(provider.checkpoint(VM, 'one'))).message).toContain('libvirt did not make the layer')
  const text = calls.join('\n')
  if (isLive) expect(text).toMatch(turns(true))
  else expect(text).not.toMatch(turns(true))
  // It is off afterwards in any case, and nothing names a checkpoint.
  expect(calls.findLastIndex(call => turns(false).test(call))).toBeGreaterThan(
    calls.findLastIndex(call => call.includes('--memspec')),
  )
  expect(text).not.toContain('.checkpoint')
  expect(existsSync(noteFile())).toBe(false)
})

test('disk and memory are two snapshots, while the guest stands still; no order to abort exists', async () => {
  const answers = [EXTERNAL, RUNNING, disk, pool(90_000), qemu(7, 2), capability(false)]
  const { provider, calls } = fakeKvm(answers, { home })
  await failureOf(provider.checkpoint(VM, 'one'))
  const taken = calls.find(call => call.includes('--memspec')) ?? ''
  expect(taken.replace(/^.*--quiet /, '').split('; ')).toEqual([
    `suspend ${VM}`,
    `snapshot-create-as ${VM} --disk-only --no-metadata --atomic --diskspec 'vda,snapshot=external,file=/pool/${VM}.1.qcow2' --diskspec 'sda,snapshot=no'`,
    `snapshot-create-as ${VM} --no-metadata --memspec 'file=/pool/${VM}.0.memory,snapshot=external' --diskspec 'vda,snapshot=no' --diskspec 'sda,snapshot=no'`,
    `resume ${VM}`,
  ])
  expect(calls.join('\n')).not.toMatch(/domjobabort|migrate_cancel/)
})

test('a guest that somebody paused stays paused', async () => {
  const answers = [EXTERNAL, PAUSED, disk, pool(90_000), qemu(10, 0), capability(false)]
  const { provider, calls } = fakeKvm(answers, { home })
  await failureOf(provider.checkpoint(VM, 'one'))
  expect(calls.join('\n')).toContain('--memspec')
  expect(calls.join('\n')).not.toMatch(/(?:suspend|resume) as-|"state":true/)
})

test.for([
  ['less than its memory, for a live one', 'auto', qemu(10, 0), 1_000, 'it needs about 1056 MiB'],
  ['what it uses, for another one', 'off', qemu(10, 0), 700, 'it needs about 732 MiB'],
] as const)('room is required first: %s', async ([, kvmLiveCheckpoints, version, free, needed]) => {
  const answers = [EXTERNAL, RUNNING, disk, pool(free), version, capability(false)]
  const { provider, calls } = fakeKvm(answers, { home, settings: { kvmLiveCheckpoints } })
  expect(await failureOf(provider.checkpoint(VM, 'one'))).toMatchObject({
    kind: 'disk-full',
    message: expect.stringContaining(needed),
  })
  expect(calls.join('\n')).not.toMatch(/suspend|snapshot-create-as|"state":true/)
})

test('a checkpoint whose process died is ended at the next look; one that is under way is left alone', async () => {
  const answers = [domains(VM), EXTERNAL, RUNNING, capability(false)]
  const { provider, calls } = fakeKvm(answers, { home })
  leaveNote()
  const release = hold()
  await provider.listVms()
  await provider.settle?.()
  expect(calls.join('\n')).not.toMatch(turns(false))
  release()
  await provider.listVms()
  expect(calls.join('\n')).toMatch(turns(false))
  expect(existsSync(noteFile())).toBe(false)
})

test('at the start of a runner, one look tells of all machines which have it on', async () => {
  const counts: number[] = []
  for (const size of [1, 20]) {
    const ids = Array.from({ length: size }, (_, n) => `as-a-1-${String(n).padStart(8, '0')}`)
    const machines = ids.flatMap(name => [mark({ name, checkpoints: 'external' }), state(1, name)])
    const { provider, calls } = fakeKvm([domains(...ids), ...machines, capability(false)], { home })
    await provider.settle?.()
    expect(calls.join('\n').match(/query-migrate-capabilities/g)).toHaveLength(size)
    counts.push(calls.length)
  }
  expect(counts[1]).toBe(counts[0])
})

test('a machine that answers nothing holds up no other', async () => {
  const OTHER = 'as-a-2-0000000b'
  const both = [RUNNING, state(1, OTHER)].map(each => ({ ...each, to: 'domstats --state' }))
  const one = { ...RUNNING, to: `domstats ${VM}` }
  const machines = [domains(VM, OTHER), EXTERNAL, mark({ name: OTHER, checkpoints: 'external' }), ...both, one]
  const answers = [...machines, capability(false)]
  const { provider } = fakeKvm(answers, { home }, text => {
    if (text.includes('query-migrate-capabilities') && text.includes(OTHER)) throw fail('timeout', 'it does not answer')
  })
  for (const id of [VM, OTHER]) leaveNote(id)
  expect(await provider.listVms()).toHaveLength(2)
  expect(existsSync(noteFile())).toBe(false)
  expect(existsSync(join(home, 'kvm', `live-${OTHER}`))).toBe(true)
})

test('a checkpoint of a machine that a person paused leaves no note, since nobody else may let it go on', async () => {
  const answers = [EXTERNAL, PAUSED, disk, pool(90_000), qemu(10, 0), capability(false)]
  const noted: boolean[] = []
  const { provider, calls } = fakeKvm(answers, { home }, text => {
    if (text.includes('--memspec')) noted.push(existsSync(noteFile()))
  })
  await failureOf(provider.checkpoint(VM, 'one'))
  expect(noted).toEqual([false])
  expect(calls.join('\n')).not.toContain(`resume ${VM}`)
})

const writes = (volume: string): Answer => ({
  to: 'query-block',
  stdout: `{"return":[{"inserted":{"image":{"filename":"/pool/${volume}"},"file":"/pool/${volume}"},"qdev":"virtio-disk0"}]}`,
})

test('a layer that QEMU writes into stays, also when libvirt does not know it', async () => {
  const volumes: Answer = {
    to: 'vol-list',
    stdout: [0, 1, 2, 3].map(n => `${VM}${n === 0 ? '' : `.${n}`}.qcow2`).join('\n'),
  }
  const active: Answer = { to: 'domblklist', stdout: ` vda   /pool/${VM}.1.qcow2` }
  const answers = [EXTERNAL, RUNNING, active, writes(`${VM}.2.qcow2`), pool(90_000), volumes, capability(false)]
  const { provider, calls } = fakeKvm(answers, { home })
  await provider.settle?.(VM)
  const deleted =
    calls
      .join('\n')
      .match(/vol-delete --pool agent-swarm \S+?\.qcow2/g)
      ?.join('\n') ?? ''
  expect(deleted).toContain(`${VM}.3.qcow2`)
  expect(deleted).not.toMatch(/\.[12]\.qcow2/)
})

test('while QEMU does not say which layers it has open, nothing is removed', async () => {
  const volumes: Answer = { to: 'vol-list', stdout: [`${VM}.qcow2`, `${VM}.1.qcow2`, `${VM}.0.memory`].join('\n') }
  const active: Answer = { to: 'domblklist', stdout: ` vda   /pool/${VM}.1.qcow2` }
  const { provider, calls } = fakeKvm([EXTERNAL, RUNNING, active, pool(90_000), volumes, capability(false)], { home })
  await provider.settle?.(VM)
  expect(calls.join('\n')).not.toContain('vol-delete')
})

test('after an operation that died, a memory without a checkpoint is removed, unless libvirt still writes it', async () => {
  const volumes: Answer = { to: 'vol-list', stdout: [`${VM}.qcow2`, `${VM}.1.qcow2`, `${VM}.0.memory`].join('\n') }
  const active: Answer = { to: 'domblklist', stdout: ` vda   /pool/${VM}.1.qcow2` }
  const answers = [EXTERNAL, RUNNING, active, writes(`${VM}.1.qcow2`), pool(90_000), volumes, capability(false)]
  const busy: Answer = { to: 'domjobinfo', stdout: 'Job type:         Unbounded\nOperation:        Snapshot' }
  for (const [more, isRemoved] of [
    [[busy], false],
    [[], true],
  ] as const) {
    const { provider, calls } = fakeKvm([...more, ...answers], { home })
    await provider.settle?.(VM)
    expect(calls.join('\n').includes(`vol-delete --pool agent-swarm ${VM}.0.memory`)).toBe(isRemoved)
  }
})

test('a machine that libvirt is still busy with is left for the next look, which waits for none', async () => {
  const OTHER = 'as-a-2-0000000b'
  const busy: Answer = { to: 'domjobinfo', stdout: 'Job type:         Unbounded\nOperation:        Snapshot' }
  const machines = [domains(VM, OTHER), EXTERNAL, mark({ name: OTHER }), RUNNING, state(1, OTHER)]
  const counts: number[] = []
  for (const noted of [[VM], [VM, OTHER]]) {
    const { provider, calls } = fakeKvm([...machines, capability(false), busy], { home })
    for (const id of noted) leaveNote(id)
    expect(await provider.listVms()).toHaveLength(2)
    counts.push(calls.length)
    expect(existsSync(noteFile())).toBe(true)
  }
  expect(counts[1]).toBe(counts[0])
})

test('a checkpoint waits for who ends the one before, and ends what that left', async () => {
  const answers = [EXTERNAL, PAUSED, disk, pool(90_000), qemu(10, 0), capability(false)]
  const { provider, calls } = fakeKvm(answers, { home })
  leaveNote()
  const release = hold()
  const made = failureOf(provider.checkpoint(VM, 'one'))
  await until('it to look for its name', () => calls.some(call => call.includes('vol-list')))
  await nextTurn()
  expect(calls.join('\n')).not.toMatch(/domjobinfo|snapshot-create-as/)
  release()
  await made
  expect(calls.join('\n')).toMatch(new RegExp(`resume ${VM}\n[\\s\\S]*${turns(false).source}[\\s\\S]*--memspec`))
})

test.for([
  ['goes on once its memory is protected', true],
  ['stands still until the end of a save that is not live', false],
] as const)('a guest %s', async ([, isLive]) => {
  const { stdout = '' } = capability(isLive)
  const answers = ['{"return":{"status":"active","ram":{"normal":1,"duplicate":0}}}', stdout, '{"return":{}}']
  const said: string[] = []
  let hasEnded = false
  const talk: Virsh['talk'] = use =>
    use({
      say: (...commands) => void said.push(...commands.map(command => command.join(' '))),
      next: async form => answers.shift()?.match(form) ?? Promise.reject(new Error('it ended')),
    }).finally(() => {
      hasEnded = true
    })
  const resumer = resumeWhenProtected({ virsh: { talk } as Virsh }, VM)
  await until('it to have no question any more', () => hasEnded)
  await resumer.end()
  expect(said.some(command => command.includes('"cont"'))).toBe(isLive)
})

test('a guest that a dead process left paused is shown as interrupted, and goes on at its start', async () => {
  const { provider, calls } = fakeKvm([domains(VM), EXTERNAL, PAUSED, capability(false), pool(90_000)], { home })
  leaveNote()
  const release = hold()
  expect(await provider.listVms()).toEqual([expect.not.objectContaining({ paused: expect.anything() })])
  release()
  expect(await provider.listVms()).toEqual([
    expect.objectContaining({ paused: 'making a checkpoint', pauseCause: 'interrupted' }),
  ])
  await provider.startVm(VM)
  expect(calls.join('\n')).toMatch(new RegExp(`${turns(false).source}[\\s\\S]*resume ${VM}`))
  expect(existsSync(noteFile())).toBe(false)
})

test('a capability that stays on is an error with the way on, and the note stays for the next look', async () => {
  const answers = [EXTERNAL, RUNNING, disk, pool(90_000), qemu(10, 0), capability(true)]
  const { provider } = fakeKvm(answers, { home })
  expect(await failureOf(provider.checkpoint(VM, 'one'))).toMatchObject({
    message: expect.stringContaining("turning QEMU's background-snapshot off"),
    remedy: expect.stringContaining('restart'),
  })
  expect(existsSync(noteFile())).toBe(true)
  // Before libvirt saves the memory in its own way, and at the start of a runner, it is looked at without any note.
  rmSync(noteFile())
  for (const call of [() => provider.save?.(VM), () => provider.settle?.()])
    expect((await failureOf(call())).message).toContain('so that the next save of its memory would be wrong')
})

test('a pause whose events were not seen is unknown, however often it is asked for', async () => {
  const never = () => new Promise<never>(() => {})
  const watch = watchPause({ virsh: { talk: never } as unknown as Virsh }, VM)
  expect([await watch.end(), await watch.end()]).toEqual([undefined, undefined])
})

test('a program that is talked to gets each command as soon as it is said, and its lines are read in order', async () => {
  const { end, inputs, onLine, say, next } = openTalk(command => command.join(' '))
  const ran = openRun({ PATH: process.env.PATH })('cat', [], { inputs, onLine }).finally(end)
  say(['one', '1'], ['two', '2'])
  expect((await next(/^t(\w+)/))[1]).toBe('wo')
  say(['three'])
  expect((await next(/thr/))[0]).toBe('thr')
  end()
  await ran
  await expect(next(/never/)).rejects.toThrow('it ended')
})
