import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { isFailure } from '../src/errors.ts'
import { createFileAtomic, writeFileAtomic } from '../src/files.ts'

let folder: string
let file: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-files-'))
  file = join(folder, 'file')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))
const modeOf = (path: string) => statSync(path).mode & 0o777

test('a new file is private, and so are the folders that it needs', () => {
  const deep = join(folder, 'a', 'b', 'file')
  writeFileAtomic(deep, 'x')
  expect(readFileSync(deep, 'utf8')).toBe('x')
  expect([modeOf(deep), modeOf(join(folder, 'a'))]).toEqual([0o600, 0o700])
})

test('an existing file keeps its mode, unless one is given', () => {
  writeFileSync(file, 'old')
  chmodSync(file, 0o644)
  writeFileAtomic(file, 'new')
  expect([readFileSync(file, 'utf8'), modeOf(file)]).toEqual(['new', 0o644])
  writeFileAtomic(file, 'newer', { mode: 0o600 })
  expect(modeOf(file)).toBe(0o600)
})

test('bytes stay bytes, and a link is followed', () => {
  writeFileSync(file, 'old')
  const link = join(folder, 'link')
  symlinkSync('file', link)
  writeFileAtomic(link, Buffer.from([255, 0]))
  expect(readlinkSync(link)).toBe('file')
  expect([...readFileSync(file)]).toEqual([255, 0])
})

test('a failed write leaves the file and nothing beside it, and says what went wrong', () => {
  mkdirSync(file)
  writeFileSync(join(file, 'inside'), '')
  let error: unknown
  try {
    writeFileAtomic(file, 'x')
  } catch (thrown) {
    error = thrown
  }
  if (!isFailure(error)) throw new Error('expected a failure')
  expect(error.failure).toMatchObject({ kind: 'unknown', message: expect.stringContaining(`writing ${file}: E`) })
  expect(error.cause).toMatchObject({ code: expect.stringMatching(/^E/) })
  expect(readdirSync(folder)).toEqual(['file'])
})

test('what a killed process left is removed by the next write; what a living one is writing stays', () => {
  const [dead, alive] = [`${file}.${2 ** 30}.new`, `${file}.1.new`]
  for (const path of [dead, alive, join(folder, 'other.new')]) writeFileSync(path, 'half')
  writeFileAtomic(file, 'x')
  expect(readdirSync(folder).sort()).toEqual(['file', 'file.1.new', 'other.new'])
})

test('of two that make a file once, the first one does', () => {
  expect([createFileAtomic(file, 'first'), createFileAtomic(file, 'second')]).toEqual([true, false])
  expect(readFileSync(file, 'utf8')).toBe('first')
  expect(readdirSync(folder)).toEqual(['file'])
})
