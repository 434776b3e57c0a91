/** The note of a build: what it keeps others from, and what a killed build leaves. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { duringBuild, failIfBuilding } from '../../base-image/build-note.ts'

let home: string
let root: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-note-'))
  root = join(home, 'kvm')
})
afterEach(() => rmSync(home, { recursive: true, force: true }))
const busy = (doing: string) => ({
  failure: { kind: 'busy', message: `${doing}: another init-base is building it (process ${process.pid})` },
})

test('while an image is built it is neither built again nor deleted, and others may be', async () => {
  const built = await duringBuild(root, 'node', async folder => {
    writeFileSync(join(folder, 'disk.img'), '')
    await expect(duringBuild(root, 'node', async () => 'twice')).rejects.toMatchObject(busy('building node'))
    expect(() => failIfBuilding(root, 'node', 'deleting node')).toThrow(
      'deleting node: another init-base is building it',
    )
    failIfBuilding(root, 'other', 'deleting other')
    return duringBuild(root, 'other', async () => existsSync(join(folder, 'disk.img')))
  })
  expect(built).toBe(true)
  expect(readdirSync(root)).toEqual([])
})

test('a build that fails leaves neither its note nor its files', async () => {
  await expect(
    duringBuild(root, 'node', async folder => {
      writeFileSync(join(folder, 'disk.img'), '')
      throw new Error('no')
    }),
  ).rejects.toThrow('no')
  expect(readdirSync(root)).toEqual([])
})

test('the files of a build that was killed go with the next build of any image', async () => {
  const file = resolve(import.meta.dirname, '../../base-image/build-note.ts')
  const text = `
    import { writeFileSync } from 'node:fs'
    const { duringBuild } = await import(${JSON.stringify(file)})
    await duringBuild(${JSON.stringify(root)}, 'node', async folder => {
      writeFileSync(folder + '/disk.img', 'x')
      process.kill(process.pid, 'SIGKILL')
    })`
  expect(spawnSync(process.execPath, ['--input-type=module', '-e', text]).signal).toBe('SIGKILL')
  expect(readdirSync(root).map(name => name.slice(0, 6))).toEqual(['build-', 'buildi'])
  await duringBuild(root, 'other', async folder =>
    expect(readdirSync(root).sort()).toEqual([basename(folder), 'building-other'].sort()),
  )
  expect(readdirSync(root)).toEqual([])
})

test('a process that got the number of a killed build later is not taken for it', async () => {
  const lock = join(root, 'build-gone', 'lock')
  await duringBuild(root, 'x', async () => {})
  writeFileSync(join(root, 'building-node'), JSON.stringify({ pid: process.pid, lock, folder: dirname(lock) }))
  expect(await duringBuild(root, 'node', async () => 'built')).toBe('built')
  expect(readdirSync(root)).toEqual([])
})

test('notes of earlier versions hold the process alone', async () => {
  await duringBuild(root, 'x', async () => {})
  writeFileSync(join(root, 'building-node'), String(process.pid))
  await expect(duringBuild(root, 'node', async () => {})).rejects.toMatchObject(busy('building node'))
  writeFileSync(join(root, 'building-node'), '4194305')
  await duringBuild(root, 'node', async () =>
    expect(JSON.parse(readFileSync(join(root, 'building-node'), 'utf8'))).toMatchObject({ pid: process.pid }),
  )
})
