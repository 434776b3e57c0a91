/** Creates of several processes at once, of which each ready machine goes to one. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { RunnerContext } from '../../../src/runner/context.ts'
import { findAll } from '../../../src/runner/reconciler/reconcile.ts'
import { compiled, openProcesses } from '../../support/cli-processes.ts'
import { openContext } from '../../support/context.ts'
import { openTestFiller } from '../../support/pools.ts'

let home: string
let context: RunnerContext
beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
  writeFileSync(join(home, 'config.yaml'), 'pool: [{image: agent-swarm-base, ready: 2}]\n', { mode: 0o600 })
  context = await openContext(home, 'in-process')
  await openTestFiller(context).fill()
})
afterEach(() => {
  context.close()
  rmSync(home, { recursive: true, force: true })
})

const { swarm } = openProcesses((more = {}) => ({
  ...{ PATH: process.env.PATH, HOME: home, AGENT_SWARM_HOME: home, AGENT_SWARM_PROVIDER: 'synthetic' },
  ...compiled,
  ...more,
}))

test('of four creates at once, two get the ready machines, and each ticket has a machine of its own', async () => {
  const ready = context.registry.poolMachines().map(({ vmId }) => vmId)
  const tickets = ['DROP-1', 'DROP-2', 'DROP-3', 'DROP-4']
  const ran = await Promise.all(tickets.map(ticket => swarm(['create', ticket])))
  expect(ran.map(({ code, stderr }) => [code, code === 0 ? '' : stderr])).toEqual(tickets.map(() => [0, '']))
  const taken = context.registry.environments().map(({ vmId }) => vmId)
  expect(new Set(taken).size).toBe(4)
  expect(taken.filter(vmId => ready.includes(vmId)).sort()).toEqual(ready.toSorted())
  expect(ran.filter(({ stdout }) => stdout.includes('a ready machine of the pool agent-swarm-base'))).toHaveLength(2)
  expect(context.registry.poolMachines()).toEqual([])
  const marks = new Map((await (await context.provider('synthetic')).listVms()).map(vm => [vm.vmId, vm.ticket]))
  for (const { ticket, vmId } of context.registry.environments()) expect(marks.get(vmId)).toBe(ticket)
  expect((await findAll(context)).found).toEqual([])
})
