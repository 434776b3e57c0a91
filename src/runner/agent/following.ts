/** One run that is followed: what its machine sends of its output goes to the transcript, and is read on the way. */
import type { AgentRow } from '../../registry/registry.ts'
import type { AgentGuest } from './guest.ts'
import type { Program } from './programs.ts'
import { blockedReason, openRunReading, type RunReading } from './reading.ts'
import { appendTranscript, beginTranscript, readTranscript, transcriptFile, transcriptSize } from './transcript.ts'

export type Following = {
  run: string
  /** Of this run, milliseconds. */
  workedMs: number
  /** The clock's time of the last tick; null before the first. */
  seenAt: number | null
  /** Monotonic milliseconds. */
  lookedAt: number
  writtenAt: number
  drainSince: number | null
  /** Since when the machine was asked to end it. */
  stoppingSince: number | null
  isActive(): boolean
  /** Whether the machine says that the program has ended. */
  hasEnded(): boolean
  size(): number
  session(): string | null
  turns(): number
  words(): string
  reading(): RunReading
  /** There is no more output. */
  end(): void
  stop(): void
}

type Options = {
  home: string
  guest: AgentGuest
  vmId: string
  row: AgentRow
  program: Program
  nudge: () => void
}

/** Goes on where the transcript on disk ends. */
export const followRun = async ({ home, guest, vmId, row, program, nudge }: Options): Promise<Following> => {
  const { run } = row
  const file = transcriptFile(home, vmId, run)
  beginTranscript(home, vmId, run)
  const reading = openRunReading(program)
  await readTranscript(file, reading.add)
  let size = transcriptSize(home, vmId, run)
  let hasEnded = false
  let isActive = true
  let isShorter = false
  const stopOutput = guest.follow(`${run}/out.jsonl`, size, {
    onChunk: async (bytes, offset) => {
      if (!isActive) return
      await appendTranscript(file, bytes, offset)
      reading.add(bytes)
      size = offset + bytes.length
    },
    onShorter: () => {
      isShorter = true
      nudge()
    },
  })
  const stopExit = guest.follow(`${run}/exit`, 0, {
    onChunk: () => {
      hasEnded = true
      nudge()
    },
  })
  return {
    run,
    workedMs: row.workedMs,
    seenAt: null,
    lookedAt: Number.NEGATIVE_INFINITY,
    writtenAt: Number.NEGATIVE_INFINITY,
    drainSince: null,
    stoppingSince: null,
    isActive: () => isActive,
    hasEnded: () => hasEnded || isShorter,
    size: () => size,
    session: () => reading.state.session,
    turns: () => reading.state.turns,
    words: () => wordsOf(reading.state),
    reading: () => reading.state,
    end: reading.end,
    stop: () => {
      isActive = false
      stopOutput()
      stopExit()
    },
  }
}

const MAX_SUMMARY = 5_000
/** The last words, without the line that says why it is blocked: the reason has that. */
const wordsOf = ({ words, result }: RunReading): string => {
  const text = words === '' ? (result?.text ?? '') : words
  const lines = text.trimEnd().split('\n')
  return (blockedReason(text) === null ? text : lines.slice(0, -1).join('\n')).trim().slice(-MAX_SUMMARY)
}
