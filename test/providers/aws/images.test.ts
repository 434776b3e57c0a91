/** Base images: built of a plain AMI, listed, deleted, and what a killed build leaves. */
import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { BuildBase, GuestAccess, Provider } from '../../../providers/provider.ts'
import { awsOptions, BASE, OTHER_HOME_ID, openUnit } from '../../support/ec2/bench.ts'
import { guestOn } from '../../support/ec2/guest.ts'

const open = () => {
  const unit = openUnit()
  onTestFinished(unit.ec2.close)
  const source = unit.ec2.publishImage()
  const guest = guestOn(unit.ec2)
  const run: GuestAccess['run'] = async ({ host }, script) => {
    const instance = [...unit.ec2.state.instances.values()].find(({ publicIp }) => publicIp === host)
    const vmId = instance?.tags.find(({ Key }) => Key === 'agent-swarm:vm')?.Value ?? ''
    return guest(vmId, script === 'true' ? 'true' : 'sudo -n sh -s', script)
  }
  const ids: string[] = []
  const build = (more: Partial<BuildBase> = {}, access: Partial<GuestAccess> = {}, by: Provider = unit.provider) =>
    by.buildBase?.({
      name: 'node-24',
      setup: { profile: 'minimal', extra: [] },
      from: { kind: 'reference', reference: source },
      newMachine: () => {
        ids.push(`as-base-0000000${ids.length}`)
        return ids.at(-1) ?? ''
      },
      onPhase: () => {},
      signal: new AbortController().signal,
      guest: { publicKey: 'ssh-ed25519 A', hostKey: { privateKey: 'P', publicKey: 'ssh-ed25519 B' }, run, ...access },
      proofGuest: {
        publicKey: 'ssh-ed25519 A',
        hostKey: { privateKey: 'Q', publicKey: 'ssh-ed25519 C' },
        run,
        ...access,
      },
      ...more,
    })
  return { ...unit, source, build, run }
}
const names = (unit: ReturnType<typeof open>) => [...unit.ec2.state.images.values()].map(({ name }) => name)

test('an image is built of a plain AMI, proven by a machine of it, and its snapshot has its tags', async () => {
  const unit = open()
  const phases: string[] = []
  const manifest = await unit.build({ onPhase: phase => phases.push(phase) })
  expect(manifest).toMatchObject({
    ...{ name: 'node-24', provider: 'aws', sha256: null, source: unit.source, profile: 'minimal' },
    ...{ contents: ['git 1:2.39', 'sudo 1.9'], proven: [{ piece: 'boot', how: 'it boots' }], sizeBytes: 8 * 1024 ** 3 },
  })
  expect(phases).toEqual(['boot', 'set up', 'seal', 'image', 'prove', 'verify'])
  expect(await unit.provider.listBaseImages?.()).toEqual([BASE, 'node-24'])
  const { state } = unit.ec2
  const image = [...state.images.values()].find(({ name }) => name === 'agent-swarm-node-24')
  expect(state.snapshots.get(image?.snapshot ?? '')?.tags).toContainEqual({
    Key: 'agent-swarm:image',
    Value: 'node-24',
  })
  // No machine of the build is left, and machines of the image boot.
  expect(unit.ec2.everything()).toEqual([image?.snapshot])
  await unit.provider.createVm('AB-1', 'node-24', awsOptions('as-ab-1-00000001'))
  expect(await unit.provider.describeBaseImages?.()).toMatchObject([
    { name: BASE, machines: [] },
    { name: 'node-24', manifest: { contents: ['git 1:2.39', 'sudo 1.9'] }, machines: ['as-ab-1-00000001'] },
  ])
  await expect(unit.provider.deleteBaseImage?.('node-24')).rejects.toMatchObject({ failure: { kind: 'refused' } })
})

test('another home sees the image with what its tags say', async () => {
  const unit = open()
  await unit.build()
  const { rmSync } = await import('node:fs')
  rmSync(`${unit.home}/aws`, { recursive: true })
  const other = unit.open({ homeId: OTHER_HOME_ID })
  expect((await other.describeBaseImages?.())?.find(({ name }) => name === 'node-24')?.manifest).toMatchObject({
    ...{ source: unit.source, profile: 'minimal', contents: [], homeId: '00112233445566ff' },
  })
})

test('an image that another home is proving is left alone: nobody builds over it, and nobody deletes it', async () => {
  const unit = open()
  const other = unit.open({ homeId: OTHER_HOME_ID, home: mkdtempSync(join(unit.ec2.root, 'other-')) })
  const tried: unknown[] = []
  const kinds = (work: Promise<unknown> | undefined) =>
    work?.then(
      () => 'done',
      error => error.failure?.kind,
    )
  let meanwhile: Promise<void> = Promise.resolve()
  const run: GuestAccess['run'] = async (ssh, script, options) => {
    await meanwhile
    return unit.run(ssh, script, options)
  }
  const onPhase = (phase: string) => {
    if (phase !== 'prove') return
    meanwhile = (async () => {
      tried.push(await kinds(unit.build({}, {}, other)), await kinds(other.deleteBaseImage?.('node-24')))
    })()
  }
  await unit.build({ onPhase }, { run })
  expect(tried).toEqual(['busy', 'not-ours'])
  expect(await unit.provider.listBaseImages?.()).toContain('node-24')
  // A proven one, too. Machines are made of it in every home.
  const before = unit.ec2.everything()
  await expect(other.deleteBaseImage?.('node-24')).rejects.toMatchObject({ failure: { kind: 'not-ours' } })
  expect(unit.ec2.everything()).toEqual(before)
  await other.createVm('AB-1', 'node-24', awsOptions('as-ab-1-00000001'))
})

test("a snapshot with an image's tags that another home made is kept", async () => {
  const unit = open()
  await unit.build()
  const [snapshot] = [...unit.ec2.state.snapshots.values()]
  if (snapshot === undefined) throw new Error('it has no snapshot')
  const tags = snapshot.tags.map(tag => (tag.Key === 'agent-swarm:home' ? { ...tag, Value: OTHER_HOME_ID } : tag))
  unit.ec2.state.snapshots.set('snap-0fffffffffffffff0', { ...snapshot, id: 'snap-0fffffffffffffff0', tags })
  await unit.provider.deleteBaseImage?.('node-24')
  expect(unit.ec2.everything()).toEqual(['snap-0fffffffffffffff0'])
  await expect(unit.provider.deleteBaseImage?.('node-24')).rejects.toMatchObject({ failure: { kind: 'not-ours' } })
})

test('a delete deregisters the image before its snapshot, and can be done once', async () => {
  const unit = open()
  await unit.build()
  const from = unit.ec2.calls.length
  await unit.provider.deleteBaseImage?.('node-24')
  const order = unit.ec2.calls
    .slice(from)
    .map(({ action }) => action)
    .filter(action => /^De(register|lete)/.test(action))
  expect(order).toEqual(['DeregisterImage', 'DeleteSnapshot'])
  expect(unit.ec2.everything()).toEqual([])
  await expect(unit.provider.deleteBaseImage?.('node-24')).rejects.toMatchObject({ failure: { kind: 'no-such-image' } })
})

test.for([
  ['the set-up fails', 'swarm_steps=here'],
  ['the proof fails', 'set -- verify'],
  ['the machine of the image has another name', 'login-keys'],
] as const)('%s: no image, no snapshot and no machine is left', async ([, word]) => {
  const unit = open()
  const run: GuestAccess['run'] = async (ssh, script, options) =>
    script.includes(word) && (word !== 'swarm_steps=here' || !script.startsWith('set -- verify'))
      ? { stdout: 'broken', stderr: 'broken', exitCode: 1 }
      : unit.run(ssh, script, options)
  await expect(unit.build({}, { run })).rejects.toThrow(/broken/)
  expect(unit.ec2.everything()).toEqual([])
  expect(names(unit)).not.toContain('agent-swarm-node-24')
})

test('a build that fails says why, also when its machines cannot be removed, and its image goes', async () => {
  const unit = open()
  const run: GuestAccess['run'] = async (ssh, script, options) => {
    if (!script.startsWith('set -- verify')) return unit.run(ssh, script, options)
    unit.ec2.failNext('TerminateInstances', 'ExpiredToken')
    return { stdout: 'broken', stderr: 'broken', exitCode: 1 }
  }
  await expect(unit.build({}, { run })).rejects.toThrow(/broken/)
  expect(names(unit)).not.toContain('agent-swarm-node-24')
})

test('what a killed build left is listed without a manifest, does not count, and the next build removes it', async () => {
  const unit = open()
  let isDead = false
  unit.ec2.watch(({ action, when }) => {
    isDead ||= action === 'CreateImage' && when === 'after'
    if (isDead) throw new Error('killed')
  })
  await expect(unit.build()).rejects.toThrow('killed')
  unit.ec2.watch(() => {})
  unit.ec2.call('DescribeImages', {})
  expect(await unit.provider.listBaseImages?.()).toEqual([BASE])
  expect(await unit.provider.describeBaseImages?.()).toContainEqual({ name: 'node-24', manifest: null, machines: [] })
  await expect(unit.provider.createVm('AB-1', 'node-24', awsOptions('as-ab-1-00000001'))).rejects.toMatchObject({
    failure: { kind: 'no-such-image' },
  })
  await unit.build()
  expect(names(unit).filter(name => name === 'agent-swarm-node-24')).toHaveLength(1)
})

test.for([
  ['a file', { kind: 'file', open: async () => ({ path: '/x', source: 'x' }) }, 'usage'],
  ['the packages of this system', { kind: 'debian-packages' }, 'usage'],
  ['an image that does not exist', { kind: 'reference', reference: 'ami-00000000000000999' }, 'no-such-image'],
] as const)('%s is refused before anything is made', async ([, from, kind]) => {
  const unit = open()
  await expect(unit.build({ from })).rejects.toMatchObject({ failure: { kind } })
  expect(unit.ec2.everything()).toEqual([])
})

test('an image that exists is never overwritten, and its name is checked', async () => {
  const unit = open()
  await expect(unit.build({ name: BASE })).rejects.toMatchObject({ failure: { kind: 'already-exists' } })
  await expect(unit.build({ name: 'as-x' })).rejects.toMatchObject({ failure: { kind: 'usage' } })
})
