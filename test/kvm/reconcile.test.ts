/** Registry and libvirt apart: a host that restarted, machines behind our back, a registry that was lost. */
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { openRegistry } from '../../src/registry/registry.ts'
import { isLong } from '../support/samples.ts'
import { ensureMachines, everything, FIRST, home, inside, listed, succeed, swarm, virsh } from './cli.ts'

type Finding = { ticket: string | null; vmId: string | null; finding: string; step: string }
const plan = async (): Promise<Finding[]> => JSON.parse(await succeed(swarm('reconcile', '--dry-run', '--json')))
/** Of the machine; others may have left something in the pool. */
const about = (findings: readonly Finding[]) => findings.filter(({ ticket }) => ticket === FIRST)
const reconcile = async () => about(JSON.parse(await succeed(swarm('reconcile', '--json'))))

let vmId: string
beforeAll(async () => {
  if (!isLong) return
  await ensureMachines(FIRST)
  vmId = (await listed(FIRST)).vmId
})

test('doctor has no errors on this host, and leaves nothing of its test guest', async () => {
  const before = await everything()
  const { checks } = JSON.parse(await succeed(swarm('doctor', '--json')))
  const ofKvm = (checks as { subject: string; status: string; text: string }[]).filter(
    ({ subject }) => subject === 'kvm',
  )
  expect(ofKvm.filter(({ status }) => status === 'error')).toEqual([])
  for (const text of [
    'this user may use libvirt',
    'a test guest boots|no guest boots',
    'the network .* is active',
    'the storage pool .* is active',
    'are free in',
    'machines are isolated',
  ])
    expect(ofKvm.map(check => check.text).join('\n')).toMatch(new RegExp(text))
  expect(await everything()).toEqual(before)
})

test.skipIf(!isLong)('a machine that lost its power comes back', async () => {
  await virsh('destroy', vmId)
  const findings = about(await plan())
  expect(findings).toMatchObject([{ ticket: FIRST, vmId, step: 'start it' }])
  expect(await reconcile()).toEqual(findings)
  expect(await inside(FIRST, 'echo back')).toBe('back')
  expect(about(await plan())).toEqual([])
})

test.skipIf(!isLong)('a machine that a person paused stays paused', async () => {
  await virsh('suspend', vmId)
  expect(await reconcile()).toEqual([])
  expect(await virsh('domstate', vmId)).toBe('paused')
  await succeed(swarm('start', FIRST))
})

test.skipIf(!isLong)(
  'a registry without its row: the machine is adopted, and a create makes no second one',
  async () => {
    const [before, { checkpoints }] = [await everything(), await listed(FIRST)]
    const forget = () => {
      const registry = openRegistry(join(home, 'registry.db'))
      registry.remove(FIRST)
      registry.close()
    }
    forget()
    expect(await reconcile()).toMatchObject([{ ticket: FIRST, vmId }])
    expect(await listed(FIRST)).toMatchObject({ vmId, status: 'running', checkpoints })
    forget()
    await succeed(swarm('create', FIRST))
    expect(await everything()).toEqual(before)
    expect(await inside(FIRST, 'echo same')).toBe('same')
  },
)

test.skipIf(!isLong)('a machine whose domain is undefined is lost, and made again from its disk', async () => {
  await inside(FIRST, 'echo work >work && sync')
  await virsh('destroy', vmId)
  await virsh('undefine', vmId, '--nvram', '--snapshots-metadata', '--managed-save')
  expect(await reconcile()).toMatchObject([
    { ticket: FIRST, vmId, finding: expect.stringContaining('no longer exists') },
  ])
  expect(await listed(FIRST)).toMatchObject({ vmId, status: 'lost' })
  expect(about(await plan())).toEqual([])
  await succeed(swarm('create', FIRST))
  expect(await listed(FIRST)).toMatchObject({ vmId, status: 'running' })
  expect(await inside(FIRST, 'cat work')).toBe('work')
})

test.skipIf(!isLong)('a disk without a machine and a row: prune saves the work in it, and removes it', async () => {
  await inside(FIRST, 'git init -q left && echo of-a-day >left/work && sync')
  await virsh('destroy', vmId)
  await virsh('undefine', vmId, '--nvram', '--snapshots-metadata', '--managed-save')
  const registry = openRegistry(join(home, 'registry.db'))
  registry.remove(FIRST)
  registry.close()
  const planned = JSON.parse(await succeed(swarm('prune', '--dry-run', '--json')))
  expect(planned.removed).toContainEqual(expect.objectContaining({ kind: 'disk', name: vmId, rescued: null }))
  expect((await everything()).volumes).toContain(`${vmId}.qcow2`)
  const { removed, failed } = JSON.parse(await succeed(swarm('prune', '--yes', '--json')))
  expect(failed).toEqual([])
  const { rescued } = removed.find(({ name }: { name: string }) => name === vmId)
  expect(rescued).toContain('is rescued in')
  const [name = ''] = rescued.match(/KEEP-\d+-\d{8}-\d{6}(?:-\d+)?/) ?? []
  expect(JSON.parse(await succeed(swarm('rescued', 'show', name, '--json')))).toMatchObject({
    machine: { vmId },
    repositories: expect.arrayContaining([expect.objectContaining({ path: expect.stringMatching(/left$/) })]),
  })
  const { domains, volumes } = await everything()
  expect([...domains, ...volumes].filter(each => each.includes(vmId))).toEqual([])
})
