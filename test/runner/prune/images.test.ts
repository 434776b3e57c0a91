/** Base images of a hypervisor that may have images of other homes. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { BaseImage } from '../../../providers/provider.ts'
import { homeId } from '../../../src/config/home.ts'
import { planPrune, prune } from '../../../src/runner/prune/prune.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'

const DAY = 24 * 60 * 60_000
let it: TestContext
let images: BaseImage[]
let ownHome: string
beforeEach(async () => {
  it = await openTestContext()
  ownHome = await homeId(it.home)
  images = []
  wrapProviders(it.context, provider => ({
    ...provider,
    describeBaseImages: async () => images,
    deleteBaseImage: async name => {
      images = images.filter(image => image.name !== name)
    },
  }))
})
afterEach(() => it.close())

const image = (
  name: string,
  { days = 31, home = ownHome, machines = [] }: { days?: number; home?: string | null; machines?: string[] } = {},
): BaseImage => ({
  ...{ name, machines },
  manifest: {
    ...{
      name,
      provider: 'synthetic',
      sha256: '',
      source: '',
      profile: 'minimal',
      contents: [],
      proven: [],
      unproven: [],
    },
    ...{ createdAt: new Date(Date.now() - days * DAY).toISOString(), homeId: home, sizeBytes: 7 },
  },
})
const removing = { by: { via: 'cli', who: 'tester' }, signal: new AbortController().signal, onPhase: () => {} } as const
const plan = () => planPrune(it.context)

test('an image of this home that nothing uses goes after its retention; each other one is kept, with the reason', async () => {
  await it.do(actions.create('DROP-1'))
  it.context.config = { ...it.context.config, baseImage: 'configured' }
  images = [
    image('configured', { days: 1000 }),
    image('agent-swarm-base', { days: 1000 }),
    image('young', { days: 29 }),
    image('foreign', { home: '00000000000000ff' }),
    image('nobody-knows', { home: null }),
    image('used', { machines: ['as-x-0000000a'] }),
    { name: 'broken', manifest: null, machines: [] },
    image('old'),
  ]
  const { prunable, kept } = await plan()
  expect(prunable).toMatchObject([{ kind: 'base image', name: 'old', bytes: 7 }])
  expect(kept.map(({ name, reason }) => `${name}: ${reason}`)).toEqual([
    'configured: the configuration names it',
    'agent-swarm-base: used by DROP-1',
    'young: built or used within 30 days',
    'foreign: this home did not build it',
    'nobody-knows: this home did not build it',
    'used: disks depend on it: as-x-0000000a',
    'broken: it cannot be read; delete it by its name: agent-swarm init-base --delete broken',
  ])
  expect(await prune(prunable, removing)).toMatchObject({ removed: [{ name: 'old' }], failed: [] })
  expect(images).toHaveLength(7)
})

test('an image that a machine was made from lately stays, also when that machine is gone', async () => {
  images = [image('agent-swarm-base')]
  await it.do(actions.create('DROP-1'))
  await it.do(actions.delete('DROP-1'))
  it.context.config = { ...it.context.config, baseImage: 'another' }
  expect(await plan()).toMatchObject({ prunable: [], kept: [{ reason: 'built or used within 30 days' }] })
  it.context.clock = () => new Date(Date.now() + 40 * DAY)
  expect((await plan()).prunable).toMatchObject([{ name: 'agent-swarm-base' }])
})

test('an image that a machine is made from meanwhile stays', async () => {
  images = [image('old')]
  const { prunable } = await plan()
  const { registry } = it.context
  registry.adopt({
    ticket: 'DROP-7',
    provider: 'synthetic',
    vmId: 'as-drop-7-0000000a',
    baseImage: 'old',
    status: 'running',
  })
  expect(await prune(prunable, removing)).toMatchObject({
    failed: [{ failure: { message: expect.stringContaining('used by DROP-7') } }],
  })
  expect(images).toHaveLength(1)
})
