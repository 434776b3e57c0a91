/** A machine that sleeps on real libvirt: its memory is saved, plain ssh wakes it, and it goes on where it was. */
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config/config.ts'
import { openRunnerContext } from '../../src/runner/context.ts'
import { execute } from '../../src/runner/executor.ts'
import type { Action } from '../../src/schema/action.ts'
import { isLong } from '../support/samples.ts'
import { ensureMachines, FIRST, inside, listed, program, swarmEnvironment, swarmWith, virsh } from './cli.ts'

const TICKET = FIRST
let person: string

const swarm = (...words: string[]) => swarmWith({ HOME: person }, ...words)
/** ssh asks the system for the person's home folder, which is ours in this one process. */
const plain = (...words: string[]) =>
  program(
    'unshare',
    ['--mount', 'sh', '-c', 'mount --bind "$0" "$1" && shift && exec "$@"', person, userInfo().homedir, ...words],
    { HOME: person },
  )

/** What the runner does with a machine that nobody uses. */
const sleep = async () => {
  const context = openRunnerContext(await readConfig({}, { ...swarmEnvironment, HOME: person }))
  try {
    const by = { via: 'clock', who: null } as const
    const action: Action = { kind: 'stop', ticket: TICKET, by, replyTo: null, idle: true }
    return await execute(context, action, {
      ...{ actionId: null, correlation: null, signal: new AbortController().signal, onPhase: () => {} },
    })
  } finally {
    context.close()
  }
}
const isSaved = async (vmId: string) => /Managed save:\s+yes/.test(await virsh('dominfo', vmId))

beforeAll(async () => {
  await ensureMachines(TICKET)
  person = mkdtempSync(join(tmpdir(), 'agent-swarm person-'))
  mkdirSync(join(person, '.ssh'), { mode: 0o700 })
  writeFileSync(join(person, '.ssh/config'), '')
  expect(await swarm('ssh', '--config', '--install')).toMatchObject({ code: 0 })
})
afterAll(async () => {
  await swarm('ssh', '--config', '--uninstall')
  rmSync(person, { recursive: true })
})

test.skipIf(!isLong)(
  'its memory is saved, plain ssh wakes it, a counter in its memory goes on, and its clock is right',
  async () => {
    const { vmId, diskBytes } = await listed(TICKET)
    await inside(
      TICKET,
      "sudo mkdir -p /dev/shm && (setsid sh -c 'n=0; while :; do n=$((n+1)); echo $n >/dev/shm/counter; sleep 1; done' >/dev/null 2>&1 &)",
    )
    const before = Number(await inside(TICKET, 'sleep 3; cat /dev/shm/counter'))
    const boot = await inside(TICKET, 'cat /proc/sys/kernel/random/boot_id')
    expect(await sleep()).toMatchObject({
      result: 'done',
      environment: { status: 'stopped', idle: { state: 'saved' } },
    })
    expect(await isSaved(vmId)).toBe(true)
    expect((await swarm('status', TICKET)).stdout).toContain('stopped (memory saved)')
    // The memory counts as disk.
    expect((await listed(TICKET)).diskBytes).toBeGreaterThan(Number(diskBytes) + 50 * 1024 ** 2)
    // Nobody starts it again by itself.
    expect(JSON.parse((await swarm('reconcile', '--dry-run', '--json')).stdout)).toEqual([])
    // Behind the host by more than a second, unless it is set.
    await new Promise(resolve => setTimeout(resolve, 5_000))

    const woken = await plain('ssh', TICKET, 'date +%s; cat /proc/sys/kernel/random/boot_id; cat /dev/shm/counter')
    const now = Date.now() / 1000
    expect(woken).toMatchObject({ code: 0, stderr: expect.stringContaining('It is being woken.') })
    const [date = '', sameBoot, after] = woken.stdout.trim().split('\n')
    expect(Math.abs(Number(date) - now)).toBeLessThan(5)
    expect(sameBoot).toBe(boot)
    expect(Number(after)).toBeGreaterThanOrEqual(before)
    expect(await isSaved(vmId)).toBe(false)
    expect(await listed(TICKET)).toMatchObject({ status: 'running' })
    const later = Number(await inside(TICKET, 'sleep 3; cat /dev/shm/counter'))
    expect(later).toBeGreaterThan(Number(after))
  },
)

test.skipIf(!isLong)('a memory that cannot be read is said, and restart boots without it', async () => {
  const { vmId } = await listed(TICKET)
  const boot = await inside(TICKET, 'sync; cat /proc/sys/kernel/random/boot_id')
  expect(await sleep()).toMatchObject({ result: 'done' })
  truncateSync(`/var/lib/libvirt/qemu/save/${vmId}.save`, 1024 * 1024)
  const failed = await swarm('start', TICKET)
  expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining(`agent-swarm restart`) })
  expect(await listed(TICKET)).toMatchObject({ status: 'stopped' })
  expect(await swarm('restart', TICKET)).toMatchObject({ code: 0 })
  expect(await inside(TICKET, 'cat /proc/sys/kernel/random/boot_id')).not.toBe(boot)
  expect(await isSaved(vmId)).toBe(false)
})
