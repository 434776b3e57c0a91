/** Room for the memory of a machine, which a checkpoint and a save write to the disk. */
import { statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { expect, test } from 'vitest'
import { makeCheckpoint } from '../../../providers/hyperv/checkpoints.ts'
import type { Context } from '../../../providers/hyperv/context.ts'
import { forkMachine } from '../../../providers/hyperv/fork.ts'
import { saveMachine } from '../../../providers/hyperv/machines.ts'

const VM = 'as-ab-1-0000000a'
const HOME_ID = '0011'
const { bavail, bsize } = statfsSync(tmpdir())
const hostKey = { privateKey: 'private', publicKey: 'ssh-ed25519 BBBB' }
const target = { vmId: 'as-ab-1-1-0000000b', ticket: 'AB-1~1', publicKey: 'ssh-ed25519 AAAA', hostKey }

/** A machine with so much memory, on the disk of `tmpdir`. `ran`: the scripts. */
const machineWith = (state: string, assigned: number, home = HOME_ID) => {
  const ran: string[] = []
  const mark = { vmId: VM, ticket: 'AB-1', home, mac: '06:a5:0a:b1:00:0a', address: null, made: true }
  const notes = `agent-swarm ${JSON.stringify(mark)}`
  const row = { name: VM, id: '', state, notes, path: '', cpus: 1, memory: assigned, assigned, addresses: [] }
  const context = {
    ...{ home: tmpdir(), homeId: HOME_ID },
    survey: { machines: async () => ({ machines: [row] }), host: async () => ({ machines: [row] }) },
    script: async (name: string) => {
      ran.push(name)
      return { done: true, state: 'Saved' }
    },
  }
  return { context: context as unknown as Context, ran }
}
const writers = {
  checkpoint: (context: Context) => makeCheckpoint(context, VM, 'one'),
  save: (context: Context) => saveMachine(context, VM),
}

test.for(['checkpoint', 'save'] as const)(
  'a %s whose memory would fill the disk is refused before Hyper-V begins it',
  async name => {
    const { context, ran } = machineWith('Running', bavail * bsize)
    await expect(writers[name](context)).rejects.toMatchObject({
      failure: { kind: 'disk-full', message: expect.stringMatching(/needs \d+ MiB/) },
    })
    expect(ran).toEqual([])
  },
)
test('a fork whose copies would fill the disk is refused before Hyper-V begins it', async () => {
  const { context, ran } = machineWith('Running', bavail * bsize)
  await expect(forkMachine(context, VM, null, [target])).rejects.toMatchObject({
    failure: { kind: 'disk-full', message: expect.stringMatching(/^forking as-ab-1-0000000a: it needs \d+ MiB/) },
  })
  expect(ran).toEqual([])
})

test.for([
  ['a memory that fits', machineWith('Running', 1024 ** 2)],
  ['a stopped machine, which has no memory', machineWith('Off', 0)],
  ['a machine of another home, which the script refuses', machineWith('Running', bavail * bsize, '0022')],
] as const)('%s is left to the script', async ([, { context, ran }]) => {
  for (const write of Object.values(writers)) await write(context)
  expect(ran).toEqual(['checkpoint', 'save'])
})
