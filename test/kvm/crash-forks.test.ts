/**
 * The crash matrix on real libvirt, in long runs (see crash.test.ts), of what is made of forks: ready machines, their hand-out, and
 * an attempt that becomes the ticket's machine.
 */
import { resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isLong } from '../support/samples.ts'
import { BASE, ensureBase, everything, FIRST, inside, list, listed, succeed, swarm } from './cli.ts'
import { ours, PATIENT, play, problemsOf } from './crash-rounds.ts'
import { endPools, fill, poolMachines, setPools } from './ready.ts'

// With an older QEMU, too, whose memory then goes through a pipe.
process.env.AGENT_SWARM_KVM_LIVE_CHECKPOINTS = 'on'
const READY = 'READY-1'

let before: Awaited<ReturnType<typeof everything>>
beforeAll(async () => {
  if (!isLong) return
  await ensureBase()
  before = await everything()
})
afterAll(async () => {
  if (!isLong) return
  await swarm('delete', READY, '--force')
  await endPools()
})

/** One machine is ready, and the ticket has none. */
const full = async (): Promise<string> => {
  await swarm('delete', READY, '--force')
  setPools(`{image: ${BASE}, ready: 1, most: 3, hold: memory}`)
  await fill()
  return readyOf()
}
const readyOf = async () => (await poolMachines()).find(({ state }) => state === 'ready')?.vmId ?? ''
/** None is ready, and their template is there. */
const emptied = async (): Promise<string> => {
  const vmId = await full()
  await succeed(swarm('create', READY))
  return vmId
}

test.skipIf(!isLong)('a create that takes a ready machine', PATIENT, async () => {
  const problems = async () => {
    const wrong = await problemsOf(before, READY, 'running')
    const { vmId } = await listed(READY)
    const name = await inside(READY, 'hostname')
    return [
      ...wrong,
      ...(name === `as-ready-1-${vmId.slice(-8)}` ? [] : [`its name is ${name}`]),
      ...((await readyOf()) === vmId ? ['its machine is still ready for another ticket'] : []),
    ]
  }
  expect(await play({ name: 'claim', prepare: full, words: () => ours('create', READY), problems })).toEqual([])
})

test.skipIf(!isLong)('the making of a ready machine', PATIENT, async () => {
  const words = () => [resolve(import.meta.dirname, 'ready.ts')]
  const problems = async () => {
    const wrong = await problemsOf(before, READY, 'running')
    const unfinished = (await poolMachines()).filter(({ state }) => state !== 'ready' && state !== 'template')
    const vmId = await readyOf()
    await succeed(swarm('delete', READY, '--force'))
    await succeed(swarm('create', READY))
    return [
      ...wrong,
      ...unfinished.map(machine => `${machine.vmId} is ${machine.state}`),
      ...((await listed(READY)).vmId === vmId ? [] : ['the machine is not handed out']),
    ]
  }
  expect(await play({ name: 'fill', prepare: emptied, words, problems })).toEqual([])
})

test.skipIf(!isLong)('promote', PATIENT, async () => {
  setPools()
  await fill()
  let attempt = { ticket: '', vmId: '' }
  const prepare = async () => {
    if (!(await list()).some(({ ticket }) => ticket === FIRST)) await succeed(swarm('create', FIRST))
    await succeed(swarm('fork', FIRST))
    attempt = (await list()).find(({ ticket }) => ticket.startsWith(`${FIRST}~`)) ?? attempt
    await inside(attempt.ticket, `echo ${attempt.vmId} >state; sync`)
    return attempt.vmId
  }
  const isPromoted = async () => (await listed(FIRST)).vmId === attempt.vmId
  const problems = async () => {
    // When the killed command had promoted it, the second one fails: the attempt has gone.
    const wrong = (await isPromoted()) ? [] : ['it is not promoted']
    await succeed(swarm('reconcile'))
    const attempts = (await list()).filter(({ ticket }) => ticket.startsWith(`${FIRST}~`))
    const state = await inside(FIRST, 'cat state')
    return [
      ...wrong,
      ...attempts.map(({ ticket }) => `${ticket} is left`),
      ...(state === attempt.vmId ? [] : [`it has the state of ${state}`]),
      ...(await problemsOf(before, FIRST, 'running')),
    ]
  }
  expect(
    await play({
      ...{ name: 'promote', prepare, problems, wasDone: () => true },
      words: () => ours('promote', attempt.ticket),
    }),
  ).toEqual([])
  await succeed(swarm('delete', FIRST, '--force'))
})
