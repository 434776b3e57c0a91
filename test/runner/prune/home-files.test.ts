/** Rescued work, logs, transcripts, mirrors, downloads and what else lies in a home: real files. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { lockFile } from '../../../src/lock-file.ts'
import { withLock } from '../../../src/registry/lock.ts'
import { planPrune, prune } from '../../../src/runner/prune/prune.ts'
import { actions, openTestContext, type TestContext } from '../../support/context.ts'

const DAY = 24 * 60 * 60_000
let it: TestContext
let outside: string
beforeEach(async () => {
  it = await openTestContext()
  outside = mkdtempSync(join(tmpdir(), 'agent-swarm-outside-'))
})
afterEach(() => {
  it.close()
  rmSync(outside, { recursive: true })
})

const removing = { by: { via: 'cli', who: 'tester' }, signal: new AbortController().signal, onPhase: () => {} } as const
const plan = () => planPrune(it.context)
/** `kind name`, of what may go. */
const names = async () => (await plan()).prunable.map(({ kind, name }) => `${kind} ${name}`)
const run = async () => prune((await plan()).prunable, removing)
const setAge = (path: string, days: number) => {
  const at = new Date(Date.now() - days * DAY)
  utimesSync(path, at, at)
}
/** A file that was written so many days ago. */
const file = (name: string, days: number, text = 'text') => {
  const path = join(it.home, name)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
  setAge(path, days)
  return path
}
const stamp = (days: number) =>
  new Date(Date.now() - days * DAY).toISOString().replaceAll(/[-:]/g, '').replace('T', '-').slice(0, 15)

test('rescued work goes after its retention, under the lock of its ticket', async () => {
  const [old, young] = [`DROP-1-${stamp(91)}`, `DROP-1-${stamp(89)}`]
  for (const name of [old, young]) file(`rescued/${name}/1-shop.bundle`, 0, '12345')
  const { prunable, kept } = await plan()
  expect(prunable).toMatchObject([{ kind: 'rescued work', name: old, bytes: 5, reason: 'saved more than 90 days ago' }])
  expect(kept).toMatchObject([{ name: '1 in rescued/', bytes: 5, reason: expect.stringContaining('within 90 days') }])
  await withLock(it.home, 'DROP-1', { signal: removing.signal, onWait: () => {} }, async () => {
    expect(await prune(prunable, removing)).toMatchObject({ removed: [], failed: [{ failure: { kind: 'busy' } }] })
  })
  expect(await prune(prunable, removing)).toMatchObject({ removed: [{ name: old }], failed: [] })
  expect(readdirSync(join(it.home, 'rescued'))).toEqual([young])
  // Another prune was faster.
  expect(await prune(prunable, removing)).toMatchObject({ failed: [] })
})

test('the setting decides how long', async () => {
  file(`rescued/DROP-1-${stamp(20)}/1-shop.bundle`, 0)
  file('logs/DROP-1.log', 20)
  expect(await names()).toEqual([])
  const { config } = it.context
  it.context.config = { ...config, retention: { ...config.retention, rescuedDays: 10, logDays: 19 } }
  expect(await names()).toEqual([`rescued work DROP-1-${stamp(20)}`, 'log DROP-1.log'])
})

test('logs and transcripts go when they are old and have no machine; one that is written again stays', async () => {
  await it.do(actions.create('DROP-1'))
  const own = it.vmIdOf('DROP-1')
  const folderOf = (ticket: string) => (ticket === 'DROP-1' ? own : `as-${ticket.toLowerCase()}-00000001`)
  for (const ticket of ['DROP-1', 'DROP-2', 'DROP-3', 'DROP-4']) {
    file(`logs/${ticket}.log`, ticket === 'DROP-4' ? 1 : 91)
    file(`transcripts/${folderOf(ticket)}/0000000a.jsonl`, ticket === 'DROP-4' ? 1 : 91)
    setAge(join(it.home, 'transcripts', folderOf(ticket)), 91)
  }
  file('logs/notes.txt', 1000)
  file('logs/my.log', 1000)
  file('transcripts/notes/0000000a.jsonl', 1000)
  const { prunable } = await plan()
  expect(prunable.map(({ kind, name }) => `${kind} ${name}`)).toEqual([
    ...['log DROP-1.log', 'log DROP-2.log', 'log DROP-3.log'],
    ...['transcript as-drop-2-00000001', 'transcript as-drop-3-00000001'],
  ])
  writeFileSync(join(it.home, 'logs', 'DROP-2.log'), 'a command began')
  writeFileSync(join(it.home, 'transcripts', folderOf('DROP-2'), '0000000b.jsonl'), 'an agent began')
  const machine = { provider: 'synthetic', baseImage: 'base', status: 'running' } as const
  it.context.registry.adopt({ ...machine, ticket: 'DROP-3', vmId: folderOf('DROP-3') })
  expect(await prune(prunable, removing)).toMatchObject({
    removed: [{ name: 'DROP-1.log' }, { name: 'DROP-3.log' }],
    failed: [{ name: 'DROP-2.log' }, { name: folderOf('DROP-2') }, { name: folderOf('DROP-3') }],
  })
  expect(readdirSync(join(it.home, 'logs')).sort()).toEqual(['DROP-2.log', 'DROP-4.log', 'my.log', 'notes.txt'])
  const folders = ['DROP-1', 'DROP-2', 'DROP-3', 'DROP-4'].map(folderOf)
  expect(readdirSync(join(it.home, 'transcripts')).sort()).toEqual([...folders, 'notes'].sort())
})

test('a mirror that no machine uses goes, but not while somebody has it', async () => {
  for (const repo of ['acme/shop', 'acme/web', 'acme/new'])
    file(`mirrors/${repo}.git/agent-swarm-updated`, repo === 'acme/new' ? 0 : 1)
  file('mirrors/.hooks/pre-receive', 100)
  expect(await names()).toEqual(['mirror acme/new', 'mirror acme/shop', 'mirror acme/web'])
  const release = lockFile(join(it.home, 'mirrors', 'acme', 'web.git.lock'))
  const { removed, failed } = await run()
  release?.()
  expect([removed.map(({ name }) => name), failed.map(({ name }) => name)]).toEqual([
    ['acme/shop'],
    // Used ten minutes ago at most: a machine may be about to get it.
    ['acme/new', 'acme/web'],
  ])
  expect(existsSync(join(it.home, 'mirrors', '.hooks', 'pre-receive'))).toBe(true)
})

test('a broken download goes, but not one that goes on', async () => {
  const [broken, running] = ['a'.repeat(64), 'b'.repeat(64)].map(sha => `${sha}.part`)
  file(`downloads/${broken}`, 0, '123')
  file(`downloads/${running}`, 0)
  const release = lockFile(join(it.home, 'downloads', `${running}.lock`))
  const { prunable } = await plan()
  expect(prunable).toMatchObject([{ kind: 'download', name: broken, bytes: 3 }])
  const again = lockFile(join(it.home, 'downloads', `${broken}.lock`))
  expect(await prune(prunable, removing)).toMatchObject({ failed: [{ name: broken }] })
  again?.()
  expect(await prune(prunable, removing)).toMatchObject({ removed: [{ name: broken }] })
  release?.()
  expect(readdirSync(join(it.home, 'downloads')).filter(name => name.endsWith('.part'))).toEqual([running])
})

test('code of other versions of Node, replaced databases, killed rebuilds and killed support bundles go', async () => {
  file('cache/compile/v20.0.0-x64-abc-0/code', 0)
  file(`cache/compile/${process.version}-${process.arch}-abc-0/code`, 0)
  file('cache/compile/mine/code', 0)
  file(`bot.db.damaged-${stamp(91)}`, 0)
  file(`bot.db.damaged-${stamp(91)}-wal`, 0)
  file(`registry.db.damaged-${stamp(1)}`, 1000)
  file('registry.db.damaged-by-me', 1000)
  file('rebuild-aB3dE6/registry.db', 2)
  setAge(join(it.home, 'rebuild-aB3dE6'), 2)
  file('rebuild-running/registry.db', 2)
  file('support-aB3dE6/doctor.json', 2)
  setAge(join(it.home, 'support-aB3dE6'), 2)
  file('support-aB3dE7/doctor.json', 0)
  file('rebuild-aB3dE7/registry.db', 0)
  expect(await names()).toEqual([
    'compiled code v20.0.0-x64-abc-0',
    ...[`damaged database bot.db.damaged-${stamp(91)}`, `damaged database bot.db.damaged-${stamp(91)}-wal`],
    ...['unfinished rebuild rebuild-aB3dE6', 'unfinished bundle support-aB3dE6'],
  ])
  expect(await run()).toMatchObject({ failed: [] })
  expect(await names()).toEqual([])
})

test('no link is followed, neither in place of a folder nor in one', async () => {
  const at = (...parts: string[]) => join(it.home, ...parts)
  const plant = (name: string) => {
    const path = join(outside, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, 'of somebody')
    setAge(path, 1000)
    setAge(dirname(path), 1000)
  }
  const rescue = `DROP-1-${stamp(1000)}`
  for (const name of [
    'logs/DROP-1.log',
    'transcripts/as-drop-1-00000001/0000000a.jsonl',
    `rescued/${rescue}/1-shop.bundle`,
  ])
    plant(name)
  plant(`downloads/${'a'.repeat(64)}.part`)
  plant('mirrors/acme/shop.git/agent-swarm-updated')
  plant('compile/v20.0.0-x64-abc-0/code')
  plant('file')
  const untouched = () => readdirSync(outside, { recursive: true }).sort()
  const before = untouched()

  for (const name of ['logs', 'transcripts', 'rescued', 'downloads', 'mirrors'])
    symlinkSync(join(outside, name), at(name))
  symlinkSync(outside, at('cache'))
  const { prunable, kept } = await plan()
  expect(prunable).toEqual([])
  expect(kept.map(({ name }) => name).sort()).toEqual(
    ['logs', 'transcripts', 'rescued', 'downloads', 'mirrors', 'cache'].sort(),
  )
  for (const name of ['logs', 'transcripts', 'rescued', 'downloads', 'mirrors', 'cache']) {
    rmSync(at(name))
    mkdirSync(at(name))
  }
  symlinkSync(join(outside, 'file'), at('logs', 'DROP-1.log'))
  symlinkSync(join(outside, 'transcripts', 'as-drop-1-00000001'), at('transcripts', 'as-drop-1-00000001'))
  symlinkSync(join(outside, 'rescued', rescue), at('rescued', rescue))
  symlinkSync(join(outside, 'mirrors', 'acme'), at('mirrors', 'acme'))
  symlinkSync(outside, at('rebuild-aB3dE6'))
  symlinkSync(join(outside, 'file'), at(`bot.db.damaged-${stamp(1000)}`))
  expect(await names()).toEqual([])

  // A link in a folder that goes is removed itself.
  file(`rescued/DROP-2-${stamp(1000)}/1-shop.bundle`, 0, '12')
  symlinkSync(outside, at('rescued', `DROP-2-${stamp(1000)}`, 'link'))
  expect((await plan()).prunable).toMatchObject([{ bytes: expect.any(Number) }])
  expect((await plan()).prunable[0]?.bytes).toBeLessThan(1_000)
  expect(await run()).toMatchObject({ failed: [] })
  expect(untouched()).toEqual(before)
  expect(readFileSync(join(outside, 'file'), 'utf8')).toBe('of somebody')
})
