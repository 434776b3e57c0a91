/** How promises are tried one after the other, and what a transcript keeps. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { fail } from '../../src/errors.ts'
import type { Bench } from '../../src/selftest/bench.ts'
import type { ProviderPromise } from '../../src/selftest/promises.ts'
import { runPromises } from '../../src/selftest/run.ts'
import { type Transcript, writeTranscript } from '../../src/selftest/transcript.ts'

const kept = async () => {}
const broken = async () => {
  throw fail('unknown', 'it broke', 'Repair it.')
}
/** Of a provider without optional members. */
const runThem = async (promises: ProviderPromise[], { deadlineMs = 60_000, ending = new AbortController() } = {}) => {
  const bench = { provider: { name: 'acme' } } as unknown as Bench
  const limits = { signal: ending.signal, deadlineMs, abort: (reason: Error) => ending.abort(reason) }
  const results = await runPromises(promises, bench, { begin: () => {}, end: () => {} }, limits)
  return results.map(({ name, result, why }) => [name, result, why])
}

test('a broken promise keeps the others from nothing, and what the provider cannot do is left out', async () => {
  expect(
    await runThem([
      { name: 'a', run: broken },
      { name: 'b', needs: 'usage', run: broken },
      { name: 'c', run: kept },
    ]),
  ).toEqual([
    ['a', 'failed', 'it broke\nRepair it.'],
    ['b', 'left-out', 'acme has no usage'],
    ['c', 'ok', null],
  ])
})

test('without its basis the rest is left out', async () => {
  expect(
    await runThem([
      { name: 'a', isBasis: true, run: broken },
      { name: 'b', run: kept },
    ]),
  ).toMatchObject([
    ['a', 'failed', expect.any(String)],
    ['b', 'left-out', 'without this there is nothing to try: a'],
  ])
})

test('a promise that does not end is aborted at its deadline, and nothing is tried beside it', async () => {
  const ending = new AbortController()
  const untilAborted = () =>
    new Promise<never>((_, reject) => ending.signal.addEventListener('abort', () => reject(new Error('stopped'))))
  const promises = [
    { name: 'a', run: untilAborted },
    { name: 'b', run: kept },
  ]
  expect(await runThem(promises, { deadlineMs: 1, ending })).toEqual([
    ['a', 'failed', 'it did not end within 0 min: stopped'],
    ['b', 'left-out', 'the selftest was ended before'],
  ])
})

const transcript = (second: number, more: Partial<Transcript> = {}): Transcript => ({
  ...{ version: '0.1.0', at: new Date(Date.UTC(2026, 10, 23, 9, 45, second)), provider: 'acme', machines: '1' },
  ...{ host: [], tried: [], ...more },
})
const tempHome = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-proven-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  return home
}

test('the newest 20 transcripts are kept, for their owner alone, and no other file is removed', () => {
  const home = tempHome()
  mkdirSync(join(home, 'proven'), { mode: 0o755 })
  writeFileSync(join(home, 'proven', 'notes.txt'), '')
  for (let second = 0; second < 23; second += 1) writeTranscript(home, transcript(second), '00ff')
  const names = readdirSync(join(home, 'proven')).sort()
  expect(names).toHaveLength(21)
  expect([names[0], names.at(-2), names.at(-1)]).toEqual([
    '20261123-094503-acme-00ff.txt',
    '20261123-094522-acme-00ff.txt',
    'notes.txt',
  ])
  const mode = (...path: string[]) => statSync(join(home, 'proven', ...path)).mode & 0o777
  expect([mode(), mode(names[0] ?? '')]).toEqual([0o700, 0o600])
})

test('what tools and guests wrote moves no cursor in a transcript, and its lines have a bound', () => {
  const tried = [
    {
      ...({ name: 'a promise', result: 'failed', milliseconds: 1_234, why: `first\nsec\x1b[2Jond` } as const),
      commands: [`+ virsh ${'x'.repeat(10_000)}`, ...Array(600).fill('+ ssh')],
    },
  ]
  const path = writeTranscript(tempHome(), transcript(0, { host: ['libvirt\u202e 9'], tried }), '00ff')
  const lines = readFileSync(path, 'utf8').split('\n')
  expect(lines).toContain('  libvirt? 9')
  expect(lines).toContain('failed        1.2 s  a promise')
  expect(lines.slice(lines.indexOf('    first'), lines.indexOf('    first') + 2)).toEqual([
    '    first',
    '    sec?[2Jond',
  ])
  expect(lines).toContain('result    0 promises kept, 1 broken, 0 left out')
  expect(lines).toContain('  … 101 more commands')
  expect(Math.max(...lines.map(line => line.length))).toBeLessThan(600)
})
