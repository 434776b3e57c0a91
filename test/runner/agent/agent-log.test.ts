import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { DAY_MS } from '../../../src/clock.ts'
import { lastAgentLines, showAgentLog } from '../../../src/runner/agent/agent-log.ts'
import { beginTranscript, newestTranscript, transcriptFile } from '../../../src/runner/agent/transcript.ts'
import { until } from '../../support/wait.ts'

const VM = 'as-drop-1-00000001'
const openHome = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-log-'))
  onTestFinished(() => rmSync(home, { recursive: true, force: true }))
  return home
}
const log = (home: string) => ({ home, vmId: VM, use: 'command' }) as const
const write = (home: string, run: string, text: string) => {
  const file = transcriptFile(home, VM, run)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
}

test('the last lines of the newest run; without a transcript there are none', async () => {
  const home = openHome()
  expect(await lastAgentLines(log(home), 2)).toEqual([])
  write(home, '00000001', 'one\ntwo\n\u001b[2Jthree')
  expect(await lastAgentLines(log(home), 2)).toEqual(['two', 'three'])
})

test('what comes is followed, also into the next run', async () => {
  const home = openHome()
  const ending = new AbortController()
  const lines: string[] = []
  const showing = showAgentLog(log(home), line => lines.push(line), ending.signal)
  write(home, '00000001', 'one\ntw')
  await until('a line', () => lines.includes('one'))
  appendFileSync(transcriptFile(home, VM, '00000001'), 'o\n')
  await until('the rest of a line', () => lines.includes('two'))
  write(home, '00000002', 'next\n')
  await until('the next run', () => lines.includes('next'))
  ending.abort()
  expect(await showing).toBe(true)
  expect(lines).toEqual(['one', 'two', '== run 00000002 ==', 'next'])
})

test('transcripts of a clock that was ahead are the first to go, and the newest is one of now', () => {
  const home = openHome()
  const future = new Date(Date.now() + 400 * DAY_MS)
  const begin = (run: string) => {
    beginTranscript(home, VM, run)
    write(home, run, '')
  }
  for (let n = 10; n < 30; n += 1) {
    begin(`000000${n}`)
    utimesSync(transcriptFile(home, VM, `000000${n}`), future, future)
  }
  for (const run of ['00000001', '00000002']) begin(run)
  expect(readdirSync(join(home, 'transcripts', VM))).toEqual(
    expect.arrayContaining(['00000001.jsonl', '00000002.jsonl']),
  )
  expect(newestTranscript(home, VM)).toMatch(/0000000[12]\.jsonl$/)
})

test('the newest twenty runs of a machine are kept', () => {
  const home = openHome()
  for (let n = 10; n < 40; n += 1) {
    beginTranscript(home, VM, `000000${n}`)
    write(home, `000000${n}`, '')
  }
  expect(readdirSync(join(home, 'transcripts', VM))).toHaveLength(20)
  expect(() => transcriptFile(home, VM, '../../x')).toThrow(RangeError)
  expect(() => transcriptFile(home, '../x', '00000001')).toThrow()
})
