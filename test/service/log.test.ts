/** A service's log in a file, where no system keeps it. */
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openLogFile } from '../../src/cli/log-into.ts'
import { showLogFile } from '../../src/service/log-file.ts'
import { until } from '../support/wait.ts'

let folder: string
let file: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-log-'))
  file = join(folder, 'service/up.log')
})
afterEach(() => rmSync(folder, { recursive: true }))

const shown = async (): Promise<string[]> => {
  const lines: string[] = []
  await showLogFile(file, { onLine: line => lines.push(line), follow: null })
  return lines
}

test('it is for its owner alone, goes on after a restart, and never grows beyond twice its limit', async () => {
  openLogFile(file, 100)('one\n')
  expect(statSync(file).mode & 0o777).toBe(0o600)
  const write = openLogFile(file, 100)
  write('two\n')
  expect(await shown()).toEqual(['one', 'two'])
  for (let n = 0; n < 100; n += 1) write(`line ${n}\n`)
  expect(statSync(file).size).toBeLessThanOrEqual(100)
  expect(statSync(`${file}.1`).size).toBeLessThanOrEqual(100)
  // Nothing is lost between the two.
  const both = `${readFileSync(`${file}.1`, 'utf8')}${readFileSync(file, 'utf8')}`.trim().split('\n')
  expect(both.at(-1)).toBe('line 99')
  expect(both).toEqual(both.map((_, n) => `line ${100 - both.length + n}`))
})

test('a line that is longer than the limit is written whole', async () => {
  const write = openLogFile(file, 10)
  write(`${'x'.repeat(50)}\n`)
  write('end\n')
  expect(readFileSync(`${file}.1`, 'utf8')).toBe(`${'x'.repeat(50)}\n`)
})

test('the last 200 lines are shown, of a file of any length', async () => {
  openLogFile(file)('')
  expect(await shown()).toEqual([])
  writeFileSync(file, Array.from({ length: 100_000 }, (_, n) => `line ${n} ü\n`).join(''))
  const lines = await shown()
  expect([lines.length, lines[0], lines.at(-1)]).toEqual([200, 'line 99800 ü', 'line 99999 ü'])
})

test('it is followed across a replacement, and waited for where there is none yet', async () => {
  const lines: string[] = []
  const ending = new AbortController()
  const ended = showLogFile(file, { onLine: line => lines.push(line), follow: ending.signal })
  const write = openLogFile(file)
  write('one\ntw')
  await until('one', () => lines.length === 1)
  write('o\n')
  await until('two', () => lines.at(-1) === 'two')
  renameSync(file, `${file}.1`)
  openLogFile(file)('three\n')
  await until('three', () => lines.at(-1) === 'three')
  expect(lines).toEqual(['one', 'two', 'three'])
  ending.abort()
  expect(await ended).toBe(true)
})

test('without a file there is nothing to show', async () => {
  expect(await showLogFile(file, { onLine: () => {}, follow: null })).toBe(false)
})
