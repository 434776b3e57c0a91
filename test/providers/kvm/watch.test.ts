/** Whether the rules are on the host, as answers show it. Guests are addresses of loopback, which refuse, and others, which nobody has. */
import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import type { Mark } from '../../../providers/kvm/marks.ts'
import { isUnfiltered } from '../../../providers/kvm/probe.ts'
import { areRulesGone } from '../../../providers/kvm/watch.ts'

const LOOPBACK = '127.0.0.1'
const EPHEMERAL = { from: 32_768, to: 60_999 }
/** Nobody can be reached there from loopback. */
const SILENT = '192.0.2.1'

const guests = (...addresses: string[]) => {
  const machines = addresses.map((ip, n) => {
    const mark = { vmId: `as-a-1-0000000${n}`, mac: `m${n}`, ip } as Mark
    return { mark, status: 'running' as const }
  })
  return { machines, leases: new Map(machines.map(({ mark }) => [mark.mac, mark.ip ?? ''])) }
}
const areGone = ({ machines, leases }: ReturnType<typeof guests>) => {
  const surroundings = { gateway: 0x7f_00_00_01, subnet: { base: 0x7f_00_00_00, bits: 8 }, own: [], allowed: [] }
  return areRulesGone({ surroundings: { ...surroundings, ephemeral: EPHEMERAL } }, machines, leases)
}

test('a guest whose answers reach a closed port shows that the rules are gone', async () =>
  expect(await isUnfiltered(LOOPBACK, { gateway: LOOPBACK, ephemeral: EPHEMERAL })).toBe(true))

test('a port that this host may not use says nothing about the rules', async () => {
  // Of the ports below this, there is one: root alone may take it, and here it is in use.
  const taken = createServer()
  await new Promise<void>(resolve => {
    taken.once('error', () => resolve()).listen(1, LOOPBACK, resolve)
  })
  expect(await isUnfiltered(LOOPBACK, { gateway: LOOPBACK, ephemeral: { from: 2 } })).toBe(null)
  taken.close()
})

test('of three guests, two of which do not answer, the third tells, whichever is asked first', async () => {
  for (let tries = 0; tries < 20; tries += 1) expect(await areGone(guests(SILENT, LOOPBACK, SILENT))).toBe(true)
})
test('without an answer it is unknown; without a running machine, nothing is lost', async () => {
  expect(await areGone(guests(SILENT, SILENT))).toBe(null)
  expect(await areGone(guests())).toBe(false)
})
