/**
 * In long runs: the disk of the machines is full before a command writes to it, or in the middle. The command fails and says so, no
 * machine hangs once there is room again, nothing is left over, and the same command works then.
 */
import { cpSync, mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isLong } from '../support/samples.ts'
import { until } from '../support/wait.ts'
import { BASE, ensureBase, everything, inside, list, listed, program, succeed, swarm, swarmEnvironment } from './cli.ts'
import { ours, PATIENT, POOL, problemsOf } from './crash-rounds.ts'
import { endPools, fill, poolMachines, setPools } from './ready.ts'

// With an older QEMU, too, whose memory then goes through a pipe.
process.env.AGENT_SWARM_KVM_LIVE_CHECKPOINTS = 'on'
const [TICKET, READY] = ['FULL-1', 'READY-1'] as const
const MIB = 1024 ** 2
const ROOM = 10 * 1024 * MIB

const used = (): number => {
  const { bsize, blocks, bfree } = statfsSync(POOL)
  return (blocks - bfree) * bsize
}
const resize = (bytes: number) => program('mount', ['-o', `remount,size=${bytes}`, POOL])
/** No file grows any more. A size below what is used is refused, and a file may grow meanwhile. */
const fillUp = () => until('a full disk', async () => (await resize(used())).code === 0, { every: 1 })

/** What the command says when the disk gets full after so many bytes. It may have ended before. */
const whileFull = async (words: readonly string[], after: number) => {
  const begin = used()
  if (after === 0) await fillUp()
  const running = program(process.execPath, words, swarmEnvironment)
  let isOver = false
  const ended = running.finally(() => {
    isOver = true
  })
  if (after > 0) {
    await until('a disk in use', () => isOver || used() - begin >= after, { within: 600_000, every: 5 })
    await fillUp()
  }
  const ran = await ended
  await succeed(resize(ROOM))
  return ran
}

let before: Awaited<ReturnType<typeof everything>>
beforeAll(async () => {
  if (!isLong) return
  await ensureBase()
  // The pool as it is, in memory: a disk whose size can be changed.
  const copy = mkdtempSync(join(tmpdir(), 'agent-swarm-full-'))
  cpSync(POOL, join(copy, 'pool'), { recursive: true })
  await succeed(program('mount', ['-t', 'tmpfs', '-o', `size=${ROOM},mode=711`, 'tmpfs', POOL]))
  await succeed(program('cp', ['-a', `${copy}/pool/.`, POOL]))
  rmSync(copy, { recursive: true })
  await succeed(program('virsh', ['-q', 'pool-refresh', 'agent-swarm']))
  before = await everything()
  await succeed(swarm('create', TICKET))
  await inside(TICKET, 'echo saved >state; sync')
})
afterAll(async () => {
  if (!isLong) return
  await succeed(resize(ROOM))
  for (const { ticket } of await list())
    if (ticket.startsWith(TICKET) || ticket === READY) await swarm('delete', ticket, '--force')
  await endPools()
  await succeed(program('umount', [POOL]))
  await succeed(program('virsh', ['-q', 'pool-refresh', 'agent-swarm']))
})

/** Once there is room again, nothing is wrong, and the machine has its state. */
const isWell = async (ticket: string = TICKET) => {
  await succeed(swarm('reconcile'))
  expect(await problemsOf(before, ticket, 'running')).toEqual([])
  if (ticket === TICKET) expect(await inside(TICKET, 'cat state')).toBe('saved')
}
const SAYS = /no room|not enough|is full|No space left|free/i
/** The command fails, says why, and leaves nothing; then it works. */
const failsAndWorks = async (words: readonly string[], after: number) => {
  const { code, stderr } = await whileFull(words, after)
  expect(code).not.toBe(0)
  expect(stderr).toMatch(SAYS)
  await isWell()
  await succeed(program(process.execPath, words, swarmEnvironment))
  await isWell()
}

test.skipIf(!isLong)('a checkpoint', PATIENT, async () => {
  await failsAndWorks(ours('checkpoint', TICKET, 'first'), 0)
  await inside(TICKET, 'dd if=/dev/urandom of=ballast bs=1M count=60 status=none; sync')
  await failsAndWorks(ours('checkpoint', TICKET, 'second'), 40 * MIB)
})

test.skipIf(!isLong)('the delete of a checkpoint, whose layer and the next one become one', PATIENT, async () => {
  const { code } = await whileFull(ours('checkpoint', TICKET, '--delete', 'first'), 0)
  await isWell()
  // The checkpoint is gone in any case, and its layer with the next look at layers.
  if (code !== 0) await succeed(swarm('checkpoint', TICKET, '--delete', 'first'))
  expect((await listed(TICKET)).checkpoints).toEqual(['second'])
  await succeed(swarm('restore', TICKET, 'second'))
  expect(await inside(TICKET, 'wc -c <ballast')).toBe(String(60 * MIB))
  await isWell()
})

test.skipIf(!isLong)('a fork', PATIENT, async () => {
  await failsAndWorks(ours('fork', TICKET), 0)
  await failsAndWorks(ours('fork', TICKET), 40 * MIB)
  expect((await list()).filter(({ ticket }) => ticket.startsWith(`${TICKET}~`))).toHaveLength(2)
})

test.skipIf(!isLong)('promote', PATIENT, async () => {
  const attempt = (await list()).find(({ ticket }) => ticket.startsWith(`${TICKET}~`))
  const words = ours('promote', attempt?.ticket ?? '')
  const full = await whileFull(words, 0)
  await isWell()
  const { stdout } = full.code === 0 ? full : await program(process.execPath, words, swarmEnvironment)
  expect((await listed(TICKET)).vmId).toBe(attempt?.vmId)
  // A machine that cannot say whether it has unsaved work is kept, and the answer names it.
  for (const { ticket } of (await list()).filter(row => row.ticket.startsWith(`${TICKET}~`))) {
    expect(stdout).toContain(ticket)
    await succeed(swarm('delete', ticket))
  }
})

test.skipIf(!isLong)('the making of a ready machine, and its hand-out', PATIENT, async () => {
  setPools(`{image: ${BASE}, ready: 1, most: 3, hold: memory}`)
  const words = [resolve(import.meta.dirname, 'ready.ts')]
  for (const after of [0, 40 * MIB]) {
    const { code, stderr } = await whileFull(words, after)
    expect(code).not.toBe(0)
    expect(stderr).toMatch(SAYS)
    await isWell()
  }
  const ready = (await fill()).find(({ state }) => state === 'ready')
  expect(ready).toBeDefined()
  const { code } = await whileFull(ours('create', READY), 0)
  await succeed(swarm('reconcile'))
  // Where it failed, it is the next one's.
  if (code !== 0) await succeed(swarm('create', READY))
  const { vmId } = await listed(READY)
  expect(await inside(READY, 'hostname')).toBe(`as-ready-1-${vmId.slice(-8)}`)
  expect((await poolMachines()).filter(({ state }) => state !== 'template')).toEqual([])
  await isWell(READY)
})
