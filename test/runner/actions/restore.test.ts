import { renameSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { recoverAll } from '../../../src/runner/recovery.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'

let it: TestContext
const state = () => it.read('DROP-1', 'state')
const write = (text: string) => it.write('DROP-1', 'state', text)
const preRestores = () =>
  it.context.registry
    .checkpoints('DROP-1')
    .filter(({ why }) => why === 'before restore')
    .map(({ name }) => name)

beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
  write('one')
  await it.do(actions.checkpoint('DROP-1', 'one'))
  write('two')
})
afterEach(() => it.close())

test('two restores in one second each keep the state that they replace', async () => {
  const now = Date.now()
  it.context.clock = () => new Date(now)
  await it.do(actions.restore('DROP-1', 'one'))
  write('three')
  await it.do(actions.restore('DROP-1', 'one'))
  expect(preRestores()).toHaveLength(2)
  await it.do(actions.restore('DROP-1', preRestores()[1]))
  expect(state()).toBe('three')
})

test('another attempt after a failed one keeps also what was done in between', async () => {
  const disk = join(it.home, 'synthetic', it.machines()[0] ?? '', 'checkpoints/one/disk')
  renameSync(disk, `${disk}.away`)
  const attempt = () => it.do(actions.restore('DROP-1', 'one'), { actionId: 'github:1:0' })
  expect(await attempt()).toMatchObject({ result: 'failed' })
  renameSync(`${disk}.away`, disk)
  write('three')
  const outcome = await attempt()
  expect(state()).toBe('one')
  const [first, second] = preRestores()
  expect(outcome).toMatchObject({ summary: expect.stringContaining(`are kept as ${first} and ${second}`) })
  await it.do(actions.restore('DROP-1', second))
  expect(state()).toBe('three')
})

test('a checkpoint that was restored before the process died is not restored again', async () => {
  expect(await it.dieAt('address', actions.restore('DROP-1', 'one'), 'github:1:0')).toBe(true)
  expect(state()).toBe('one')
  write('later')
  expect(await it.do(actions.restore('DROP-1', 'one'), { actionId: 'github:1:0' })).toMatchObject({
    result: 'done',
    summary: expect.stringContaining(`is kept as ${preRestores()[0]}`),
  })
  expect(state()).toBe('later')
  expect(preRestores()).toHaveLength(1)
})

test('after an interrupted restore, the mark is written again: by the next start, and by another attempt', async () => {
  const assigned: string[] = []
  wrapProviders(it.context, provider => ({ ...provider, assign: async (_id, ticket) => void assigned.push(ticket) }))
  await it.do(actions.restore('DROP-1', 'one'))
  expect(assigned).toEqual([])
  expect(await it.dieAt('restore', actions.restore('DROP-1', 'one'))).toBe(true)
  expect(await recoverAll(it.context)).toEqual([])
  expect(assigned).toEqual(['DROP-1'])
  expect(await it.dieAt('restore', actions.restore('DROP-1', 'one'), 'github:1:0')).toBe(true)
  await it.do(actions.restore('DROP-1', 'one'), { actionId: 'github:1:0' })
  expect(assigned).toEqual(['DROP-1', 'DROP-1'])
})
