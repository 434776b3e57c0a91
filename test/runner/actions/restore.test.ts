import { renameSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { actions, openTestWorld } from '../../support/context.ts'

let it: Awaited<ReturnType<typeof openTestWorld>>
beforeEach(async () => {
  it = await openTestWorld()
})
afterEach(() => it.close())

const state = () => it.inside('DROP-1', 'cat state')
const write = (text: string) => it.inside('DROP-1', `echo ${text} > state`)
const preRestores = () =>
  it.world.registry
    .checkpoints('DROP-1')
    .filter(one => one.why === 'before restore')
    .map(one => one.name)

beforeEach(async () => {
  await it.do(actions.create('DROP-1'))
  await write('one')
  await it.do(actions.checkpoint('DROP-1', 'one'))
  await write('two')
})

test('two in one second each keep what they replace', async () => {
  const now = Date.now()
  it.world.clock = () => new Date(now)
  await it.do(actions.restore('DROP-1', 'one'))
  await write('three')
  await it.do(actions.restore('DROP-1', 'one'))
  expect(preRestores()).toHaveLength(2)
  await it.do(actions.restore('DROP-1', preRestores()[1]))
  expect(await state()).toBe('three')
})

test('one that failed and is tried again keeps also what was done meanwhile', async () => {
  const disk = join(it.home, 'synthetic', it.machines()[0] ?? '', 'checkpoints/one/disk')
  renameSync(disk, `${disk}.away`)
  const again = () => it.do(actions.restore('DROP-1', 'one'), { actionId: 'github:1:0' })
  expect(await again()).toMatchObject({ result: 'failed' })
  renameSync(`${disk}.away`, disk)
  await write('three')
  const outcome = await again()
  expect(await state()).toBe('one')
  const [before, meanwhile] = preRestores()
  expect(outcome).toMatchObject({ said: expect.stringContaining(`is kept as ${before} and ${meanwhile}. `) })
  await it.do(actions.restore('DROP-1', meanwhile))
  expect(await state()).toBe('three')
})

test('one that was brought back before its process died is not brought back again', async () => {
  expect(await it.dieAt('address', actions.restore('DROP-1', 'one'), 'github:1:0')).toBe(true)
  expect(await state()).toBe('one')
  await write('later')
  expect(await it.do(actions.restore('DROP-1', 'one'), { actionId: 'github:1:0' })).toMatchObject({
    result: 'done',
    said: expect.stringContaining(`is kept as ${preRestores()[0]}. `),
  })
  expect(await state()).toBe('later')
  expect(preRestores()).toHaveLength(1)
})
