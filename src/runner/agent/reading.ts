/** What the output of a run says so far, read as it comes. It may lie: it decides nothing that costs money. */
import type { Program, Reading, Step } from './programs.ts'

/** Bytes of a line that is read; a longer one is passed over. */
const MAX_LINE = 1024 * 1024
/** Characters of the last words that are kept. */
const MAX_WORDS = 20_000

export type RunReading = {
  session: string | null
  turns: number
  /** What the agent said last. */
  words: string
  result: NonNullable<Reading['result']> | null
}

/** Cuts bytes into lines. Calls `onLine` with each, and with null for one that is too long. */
export const openLines = (onLine: (line: string | null) => void) => {
  let parts: Buffer[] = []
  let length = 0
  const add = (bytes: Buffer) => {
    length += bytes.length
    if (length <= MAX_LINE) parts.push(bytes)
    else parts = []
  }
  const end = () => {
    if (length > 0) onLine(length > MAX_LINE ? null : Buffer.concat(parts).toString('utf8'))
    parts = []
    length = 0
  }
  return {
    add: (bytes: Buffer): void => {
      let from = 0
      for (let at = bytes.indexOf(10); at !== -1; at = bytes.indexOf(10, from)) {
        add(bytes.subarray(from, at))
        end()
        from = at + 1
      }
      add(bytes.subarray(from))
    },
    /** The last line may have no end. */
    end,
  }
}

export const openRunReading = (program: Pick<Program, 'read'>) => {
  const state: RunReading = { session: null, turns: 0, words: '', result: null }
  let turn: string | null = null
  const onStep = ({ kind, text }: Step) => {
    if (kind === 'says' && text.trim() !== '') state.words = text.slice(-MAX_WORDS)
  }
  const lines = openLines(line => {
    const reading = line === null ? {} : program.read(line)
    // The first name holds: a later line cannot lead the next run into another conversation.
    state.session ??= reading.session ?? null
    if (reading.turn !== undefined && reading.turn !== turn) state.turns += 1
    turn = reading.turn ?? turn
    for (const step of reading.steps ?? []) onStep(step)
    if (reading.result !== undefined) state.result = reading.result
  })
  return { state, add: lines.add, end: lines.end }
}

/** The last line of what an agent says when it cannot go on; null when it says no such thing. */
export const blockedReason = (words: string): string | null =>
  /(?:^|\n)[\s*_`]*BLOCKED:[\s*_`]*(\S[^\n]*?)[\s*_`]*$/.exec(words.trimEnd())?.[1] ?? null
