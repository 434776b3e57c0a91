/**
 * The crash matrix on real libvirt, in long runs: at a commit or a command of virsh of a command on a running machine, the command,
 * libvirtd or the machine's QEMU is killed (-9). What virsh had begun goes on. The same command again, and the machine is as asked,
 * with nothing left over.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isLong } from '../support/samples.ts'
import { ensureMachines, everything, FIRST, inside, list, listed, succeed, swarm } from './cli.ts'
import { ours, PATIENT, play, problemsOf } from './crash-rounds.ts'

// With an older QEMU, too, whose memory then goes through a pipe.
process.env.AGENT_SWARM_KVM_LIVE_CHECKPOINTS = 'on'
const SAVED = 'crash'

let before: Awaited<ReturnType<typeof everything>>
beforeAll(async () => {
  if (!isLong) return
  await ensureMachines(FIRST)
  await inside(FIRST, 'echo saved >state; sync')
  await succeed(swarm('checkpoint', FIRST, SAVED))
  before = await everything()
})
const deleteCheckpoints = async () => {
  const { checkpoints } = await listed(FIRST)
  for (const name of checkpoints.filter(each => /^(crash-|pre-restore-)/.test(each)))
    await succeed(swarm('checkpoint', FIRST, '--delete', name))
}
afterAll(async () => {
  if (!isLong) return
  await swarm('start', FIRST)
  await deleteCheckpoints()
  await succeed(swarm('checkpoint', FIRST, '--delete', SAVED))
})

const back = async () => {
  await succeed(swarm('restore', FIRST, SAVED))
  return (await listed(FIRST)).vmId
}
const isSaved = async () => ((await inside(FIRST, 'cat state')) === 'saved' ? [] : ['it has another state'])
const isRunning = async () => [...(await problemsOf(before, FIRST, 'running')), ...(await isSaved())]

test.skipIf(!isLong)('restore', PATIENT, async () => {
  const words = () => ours('restore', FIRST, SAVED)
  expect(await play({ name: 'restore', prepare: back, words, problems: isRunning })).toEqual([])
})

test.skipIf(!isLong)('stop', PATIENT, async () => {
  const problems = () => problemsOf(before, FIRST, 'shut off')
  expect(await play({ name: 'stop', prepare: back, words: () => ours('stop', FIRST), problems })).toEqual([])
})

test.skipIf(!isLong)('start of a machine whose memory is saved', PATIENT, async () => {
  const prepare = async () => {
    const vmId = await back()
    await succeed(swarm('stop', FIRST, '--save'))
    return vmId
  }
  expect(await play({ name: 'start', prepare, words: () => ours('start', FIRST), problems: isRunning })).toEqual([])
})

test.skipIf(!isLong)('checkpoint', PATIENT, async () => {
  // Each time another name: a checkpoint stays.
  const words = (at: number) => ours('checkpoint', FIRST, `${SAVED}-${at + 1}`)
  const wasDone = ({ stderr }: { stderr: string }) => stderr.includes('already has a checkpoint')
  expect(await play({ name: 'checkpoint', prepare: back, words, wasDone, problems: isRunning })).toEqual([])
})

test.skipIf(!isLong)('the delete of a checkpoint, whose layer and the next one become one', PATIENT, async () => {
  const prepare = async () => {
    await deleteCheckpoints()
    const vmId = await back()
    for (const name of ['first', 'second']) {
      await inside(FIRST, `dd if=/dev/urandom of=${name} bs=1M count=40 status=none; sync`)
      await succeed(swarm('checkpoint', FIRST, `${SAVED}-${name}`))
    }
    return vmId
  }
  const words = () => ours('checkpoint', FIRST, '--delete', `${SAVED}-first`)
  const wasDone = ({ stderr }: { stderr: string }) => stderr.includes('has no checkpoint')
  const problems = async () => {
    const wrong = await isRunning()
    const { checkpoints } = await listed(FIRST)
    await succeed(swarm('restore', FIRST, `${SAVED}-second`))
    const isWhole = (await inside(FIRST, 'wc -c <first; wc -c <second')) === '41943040\n41943040'
    return [
      ...wrong,
      ...(checkpoints.includes(`${SAVED}-first`) ? ['the checkpoint is still there'] : []),
      ...(isWhole ? [] : ['the next checkpoint is not whole']),
    ]
  }
  expect(await play({ name: 'delete of a checkpoint', prepare, words, wasDone, problems })).toEqual([])
})

test.skipIf(!isLong)('fork', PATIENT, async () => {
  /** A round makes as many attempts as tries went through. */
  const problems = async () => {
    for (const { ticket } of await list())
      if (ticket.startsWith(`${FIRST}~`)) await succeed(swarm('delete', ticket, '--force'))
    return isRunning()
  }
  expect(await play({ name: 'fork', prepare: back, words: () => ours('fork', FIRST), problems })).toEqual([])
})

test.skipIf(!isLong)('delete', PATIENT, async () => {
  const attempts = async () => (await list()).filter(({ ticket }) => ticket.startsWith(`${FIRST}~`))
  let attempt = ''
  const prepare = async () => {
    await succeed(swarm('fork', FIRST))
    const [made] = await attempts()
    attempt = made?.ticket ?? ''
    return made?.vmId ?? ''
  }
  const problems = async () => [...(await attempts()).map(({ ticket }) => `${ticket} is left`), ...(await isRunning())]
  expect(await play({ name: 'delete', prepare, words: () => ours('delete', attempt), problems })).toEqual([])
})
