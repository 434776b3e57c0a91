/** What the rows of traps share: the machine of a row, and what a whole life of it springs. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { seedImage } from '../../../../base-image/seed.ts'
import type { ForkTarget } from '../../../../providers/provider.ts'
import { HOME_ID, IMAGE, ready, type TartBench, tartOptions } from '../../../support/tart/bench.ts'

export const ID = 'as-drop-1-0000000a'
export const OTHER = 'as-drop-2-0000000b'
export const VM = `${ID}.DROP-1.${HOME_ID}`

export type Row = { trap: string; says: string; spring: (bench: TartBench) => Promise<unknown> }

export const created = async ({ provider }: TartBench, id = ID, ticket = 'DROP-1'): Promise<void> =>
  void (await provider.createVm(ticket, IMAGE, tartOptions(id)))
export const started = async (bench: TartBench, id = ID, ticket = 'DROP-1'): Promise<void> => {
  await created(bench, id, ticket)
  await bench.provider.startVm(id)
  await ready(bench, id)
}
/** The first attempt of DROP-1, with keys of its own. */
export const forkTarget = (vmId: string): ForkTarget => ({
  ...{ vmId, ticket: 'DROP-1~1', publicKey: `ssh-ed25519 AAAA ${vmId}` },
  hostKey: { privateKey: `PRIVATE ${vmId}\n`, publicKey: `ssh-ed25519 BBBB ${vmId}` },
})
/** A whole life. */
export const lived = async (bench: TartBench): Promise<void> => {
  const { provider } = bench
  await started(bench)
  await provider.checkpoint(ID, 'one')
  await provider.restore(ID, 'one')
  await provider.fork?.(ID, 'one', [forkTarget(OTHER)])
  await provider.startVm(OTHER)
  await ready(bench, OTHER)
  await provider.deleteVm(OTHER)
  await provider.assign?.(ID, 'DROP-9')
  await provider.stopVm(ID)
  await provider.deleteVm(ID)
}
/** The traps that a whole life springs. */
export const inLife = new Set<string>()
/** What the provider's life never springs, though a person may. */
export const never = async (trap: string, spring: () => unknown): Promise<void> => {
  expect(inLife.size).toBeGreaterThan(0)
  expect([...inLife]).not.toContain(trap)
  await spring()
}
export const kind = (failure: string) => ({ failure: { kind: failure } })
export const config = ({ mac }: TartBench, name: string) =>
  JSON.parse(readFileSync(join(mac.tartHome, 'vms', name, 'config.json'), 'utf8')) as { macAddress: string }
export const seed = (bench: TartBench, name: string, bytes: Buffer): string => {
  const path = join(bench.home, name)
  mkdirSync(bench.home, { recursive: true })
  writeFileSync(path, bytes)
  return path
}
export const seedFor = (mac: string) =>
  seedImage({ hostname: 'x', publicKey: 'k', hostKey: { privateKey: '', publicKey: '' }, network: { by: 'mac', mac } })
