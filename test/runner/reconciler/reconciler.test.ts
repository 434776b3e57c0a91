/** The reconciler in a runner: at its start. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fail } from '../../../src/errors.ts'
import type { Listings } from '../../../src/runner/reconciler/look.ts'
import { openReconciler, type Reconciler } from '../../../src/runner/reconciler/reconciler.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../../support/context.ts'
import { until } from '../../support/wait.ts'

let it: TestContext
let reconciler: Reconciler
let lines: { level: number; msg: string }[]
let changes: number
let looks: Listings[]
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
  lines = []
  changes = 0
  looks = []
})
afterEach(async () => {
  await reconciler.close(5_000)
  it.close()
})
const open = () => {
  const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) })
  const onChange = () => {
    changes += 1
  }
  reconciler = openReconciler(it.context, { log, onChange, onLook: listings => void looks.push(listings) })
}
const status = async () => (await it.provider()).status(it.vmIdOf('DROP-1'))

test('it brings machines back, says so, and tells the rest of the runner', async () => {
  await it.losePower('DROP-1')
  open()
  await until('the machine to run', async () => changes > 0 && (await status()) === 'running')
  expect(lines).toMatchObject([{ level: 30, msg: 'it is stopped, and nobody stopped it: it should run; start it' }])
  expect(looks[0]?.listings.get('synthetic')?.vms).toMatchObject([{ ticket: 'DROP-1' }])
})

test('what is kept, and a step that fails, are warnings', async () => {
  mkdirSync(join(it.home, 'synthetic', 'as-drop-9-0000000a', 'disk'), { recursive: true })
  await it.losePower('DROP-1')
  wrapProviders(it.context, provider => ({
    ...provider,
    startVm: async () => {
      throw fail('capacity', 'no memory is left')
    },
  }))
  open()
  const warnings = () => lines.filter(({ level }) => level === 40).map(({ msg }) => msg)
  await until('both warnings', () => warnings().length === 2)
  expect(warnings()).toEqual([
    expect.stringMatching(/^a disk that no machine has; it may hold work; none: it is kept/),
    expect.stringMatching(/could not be changed: no memory is left$/),
  ])
  expect(changes).toBe(0)
})

test('a hypervisor that does not answer is a warning', async () => {
  wrapProviders(it.context, provider => ({
    ...provider,
    listVms: async () => {
      throw fail('hypervisor-unreachable', 'listing: no answer')
    },
  }))
  open()
  await until('the warning', () => lines.some(({ msg }) => msg === 'listing: no answer'))
  expect(it.context.registry.environment('DROP-1')?.status).toBe('running')
})
