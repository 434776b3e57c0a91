/** A registry is made again from the hypervisor: damaged, lost, or with the whole home. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { writeBackup } from '../../../src/backups.ts'
import { openRunnerContext } from '../../../src/runner/context.ts'
import { listOtherHomes, planRebuild, rebuild } from '../../../src/runner/reconciler/rebuild.ts'
import { actions, configFor, openTestContext, type TestContext } from '../../support/context.ts'

let it: TestContext
let vmId: string
let isOpen: boolean
beforeEach(async () => {
  it = await openTestContext()
  isOpen = true
  await it.do(actions.create('DROP-1'))
  await it.do(actions.checkpoint('DROP-1', 'one'))
  await it.do(actions.create('DROP-2'))
  await it.do(actions.stop('DROP-2'))
  vmId = it.vmIdOf('DROP-1')
})
afterEach(() => {
  if (isOpen) it.context.close()
  rmSync(it.home, { recursive: true, force: true })
})
/** The process that had it is gone. */
const closeRegistry = () => {
  it.context.close()
  isOpen = false
}

/** On a host without another hypervisor. */
const configOf = (home: string) => configFor(home, { PATH: '/nowhere' })
const config = () => configOf(it.home)
const rows = async (home = it.home) => {
  const context = openRunnerContext(await configOf(home))
  const found = context.registry.environments().map(({ ticket, status, desired }) => ({
    ticket,
    status,
    desired,
    checkpoints: context.registry.checkpoints(ticket).map(({ name }) => name),
  }))
  context.close()
  return found
}
const both = [
  { ticket: 'DROP-1', status: 'running', desired: 'running', checkpoints: ['one'] },
  { ticket: 'DROP-2', status: 'stopped', desired: 'stopped', checkpoints: [] },
]
const own = { homeId: null }
const path = () => join(it.home, 'registry.db')

test('a registry that is whole: nothing to do', async () => {
  expect(await planRebuild(await config(), own)).toMatchObject({ machines: [], unread: [], would: [] })
})

test.for<[string, () => void]>([
  ['in its head', () => writeFileSync(path(), 'x'.repeat(8192), { flag: 'r+' })],
  ['at its end', () => truncateSync(path(), 8192)],
  ['to nothing that SQLite knows', () => writeFileSync(path(), 'this is no database')],
])('a registry that is damaged %s: shown first, then made again; the old file is kept', async ([, damage]) => {
  closeRegistry()
  damage()
  const before = readFileSync(path())
  const plan = await planRebuild(await config(), own)
  expect(plan.would).toEqual(['move the damaged registry.db away'])
  expect(plan.machines).toMatchObject([
    { ticket: 'DROP-1', vmId, status: 'running', canLogIn: true, kept: null },
    { ticket: 'DROP-2', status: 'stopped', kept: null },
  ])
  expect(readFileSync(path())).toEqual(before)
  expect(readdirSync(it.home).filter(name => name.startsWith('rebuild-'))).toEqual([])
  await rebuild(await config(), own)
  expect(await rows()).toEqual(both)
  const kept = readdirSync(it.home).filter(name => /^registry\.db\.damaged-[0-9-]+$/.test(name))
  expect(kept.map(name => readFileSync(join(it.home, name)))).toEqual([before])
  expect(await rebuild(await config(), own)).toMatchObject({ machines: [], would: [] })
})

test('a registry that is lost', async () => {
  closeRegistry()
  rmSync(path())
  await planRebuild(await config(), own)
  expect(existsSync(path())).toBe(false)
  await rebuild(await config(), own)
  expect(await rows()).toEqual(both)
})

test('a registry that is lost, or without a good backup, beside its backups', async () => {
  closeRegistry()
  const { file } = writeBackup(path(), Date.now())
  for (const harm of [() => rmSync(path()), () => truncateSync(path(), 0), () => truncateSync(path(), 8192)]) {
    truncateSync(file, 4096)
    harm()
    expect((await planRebuild(await config(), own)).machines).toHaveLength(2)
    await rebuild(await config(), own)
    expect(await rows()).toEqual(both)
    expect(await planRebuild(await config(), own)).toMatchObject({ machines: [], would: [] })
  }
})

test('two machines of one ticket: the second is kept, and told', async () => {
  await (await it.provider()).assign?.(it.vmIdOf('DROP-2'), 'DROP-1')
  it.context.registry.remove('DROP-1')
  it.context.registry.remove('DROP-2')
  const { machines } = await planRebuild(await config(), own)
  expect(machines.map(({ kept }) => kept === null)).toEqual([true, false])
})

test('a home that is lost: another one takes over its machines, and says which cannot be logged in to', async () => {
  const id = readFileSync(join(it.home, 'id'), 'utf8').trim()
  const home = join(it.home, 'another')
  mkdirSync(home)
  for (const name of ['synthetic', 'synthetic-state'])
    cpSync(join(it.home, name), join(home, name), { recursive: true })
  const context = openRunnerContext(await configOf(home))
  expect(await listOtherHomes(context)).toMatchObject([
    { homeId: id, machines: [{ ticket: 'DROP-1', vmId }, { ticket: 'DROP-2' }] },
  ])
  context.close()
  const request = { homeId: id }
  expect(await planRebuild(await configOf(home), request)).toMatchObject({
    homeId: id,
    machines: [{ ticket: 'DROP-1', vmId }, { ticket: 'DROP-2' }],
    would: [`make ${home} the home ${id}`],
  })
  expect(readFileSync(join(home, 'id'), 'utf8').trim()).not.toBe(id)
  await rebuild(await configOf(home), request)
  expect(readFileSync(join(home, 'id'), 'utf8').trim()).toBe(id)
  expect(await rows(home)).toEqual(both)
})

test('a home with machines of its own takes over no other', async () => {
  await expect(planRebuild(await config(), { homeId: '00000000deadbeef' })).rejects.toThrow('has machines of its own')
  await expect(planRebuild(await config(), { homeId: 'mine' })).rejects.toThrow('is not the id of a home')
})

test('no home is taken over while a hypervisor that may have machines of this one does not answer', async () => {
  const home = join(it.home, 'new')
  const bin = join(it.home, 'bin')
  mkdirSync(home, { mode: 0o700 })
  mkdirSync(bin)
  writeFileSync(join(bin, 'virsh'), '#!/bin/sh\necho "error: internal error: it is broken" >&2\nexit 1\n', {
    mode: 0o755,
  })
  const request = { homeId: '00000000deadbeef' }
  const broken = await configFor(home, { PATH: bin })
  await expect(rebuild(broken, request)).rejects.toThrow(/may have machines of its own, since .*it is broken/)
  expect(readFileSync(join(home, 'id'), 'utf8')).not.toContain(request.homeId)
})
