import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { listRescued, sweepRescues } from '../../../src/runner/rescue/list.ts'

let home: string
let folder: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
  folder = join(home, 'rescued')
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

const make = (name: string, note: object | string | null = null) => {
  mkdirSync(join(folder, name), { recursive: true })
  if (note !== null)
    writeFileSync(join(folder, name, 'rescued.json'), typeof note === 'string' ? note : JSON.stringify(note))
}

test('the list is empty before anything is rescued', async () => expect(await listRescued(home)).toEqual([]))

test('the list shows the newest first, also where a note cannot be read, and no other folder', async () => {
  make('DROP-1-20261124-100000', {
    repositories: [
      { path: '/a', bytes: 2 },
      { path: '/b', bytes: 3 },
    ],
  })
  make('DROP-2-20261124-110000', 'not json')
  make('DROP-3-20261124-090000-2')
  make('.new-DROP-1-01234567')
  make('else')
  writeFileSync(join(folder, 'DROP-4-20261124-080000'), 'a file')
  const entry = (
    ticket: string,
    savedAt: string,
    name: string,
    bytes: number | null,
    repositories: string[] | null,
  ) => ({
    name,
    ticket,
    savedAt,
    folder: join(folder, name),
    bytes,
    repositories,
  })
  expect(await listRescued(home)).toEqual([
    entry('DROP-2', '2026-11-24T11:00:00Z', 'DROP-2-20261124-110000', null, null),
    entry('DROP-1', '2026-11-24T10:00:00Z', 'DROP-1-20261124-100000', 5, ['/a', '/b']),
    entry('DROP-3', '2026-11-24T09:00:00Z', 'DROP-3-20261124-090000-2', null, null),
    entry('DROP-4', '2026-11-24T08:00:00Z', 'DROP-4-20261124-080000', null, null),
  ])
})

test('a note of the first version is listed', async () => {
  make('DROP-1-20261124-100000', {
    ticket: 'DROP-1',
    savedAt: '2026-11-24T10:00:00.000Z',
    by: { via: 'cli', who: 'dev' },
    host: 'studio',
    machine: { provider: 'kvm', vmId: 'as-drop-1-00000001', baseImage: 'base' },
    how: 'Each bundle stands alone.',
    repositories: [
      {
        ...{ path: '/home/agent/shop', uncommitted: 1, untracked: 0, stashes: 0, unpushed: 2, commits: 3, files: 1 },
        ...{
          bundle: '1-shop.bundle',
          bytes: 1234,
          refs: { 'refs/heads/main': '1'.repeat(40) },
          getBack: ['git init shop'],
        },
      },
    ],
  })
  expect(await listRescued(home)).toMatchObject([{ ticket: 'DROP-1', bytes: 1234, repositories: ['/home/agent/shop'] }])
})

test('a sweep removes unfinished folders of idle tickets only', async () => {
  for (const name of ['.new-DROP-1-01234567', '.new-DROP-2-01234567', 'DROP-1-20261124-100000', '.new-else']) make(name)
  await sweepRescues(home, async (ticket, work) => {
    if (ticket === 'DROP-1') await work()
  })
  expect(readdirSync(folder).sort()).toEqual(['.new-DROP-2-01234567', '.new-else', 'DROP-1-20261124-100000'])
})

test('a sweep without rescued work makes nothing', async () => {
  await sweepRescues(home, (_ticket, work) => work())
  expect(existsSync(folder)).toBe(false)
})
