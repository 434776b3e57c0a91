/** Work in progress on stderr: on a terminal a live line with the time of each phase, elsewhere plain lines. */
import { harmless, onOneLine, showsUnicode, styled, type Terminal } from './output.ts'

export type ProgressView = {
  phase(name: string): void
  /** How far the phase is: beside its name; in a pipe at most every few seconds a line. */
  detail(text: string): void
  /** Prints a line of its own above the live one. */
  note(text: string): void
  /** Ends the phase without a line: its result is shown elsewhere. */
  drop(): void
  end(ok: boolean): void
}

const FRAME_MS = 100
/** Between two details in a pipe. */
const DETAIL_MS = 5_000
/** The phase that undoes what failed before it. */
export const UNDOING = 'undoing'

const unicode = { frames: ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'], ok: '✔', failed: '✖', cut: '…' }
const ascii = { frames: ['-', '\\', '|', '/'], ok: '+', failed: 'x', cut: '...' }

const seconds = (since: number) => `${((performance.now() - since) / 1000).toFixed(1)} s`

/** For `--quiet`: shows nothing but notes. */
const silent = ({ stderr }: Terminal): ProgressView => ({
  phase: () => {},
  detail: () => {},
  note: text => void stderr.write(`${harmless(text)}\n`),
  drop: () => {},
  end: () => {},
})

const plain = (terminal: Terminal): ProgressView => {
  const startedAt = performance.now()
  let phase = ''
  let shownAt = startedAt
  const write = (text: string) => {
    shownAt = performance.now()
    terminal.stderr.write(harmless(`${seconds(startedAt).padStart(8)}  ${text}\n`))
  }
  return {
    ...silent(terminal),
    phase: name => {
      phase = name
      write(name)
    },
    detail: text => {
      if (performance.now() - shownAt >= DETAIL_MS) write(`${phase}: ${text}`)
    },
  }
}

const live = (terminal: Terminal): ProgressView => {
  const { stderr } = terminal
  const symbols = showsUnicode(terminal) ? unicode : ascii
  let current: { name: string; since: number; detail: string } | null = null
  let frame = 0
  const line = (symbol: string, style: 'cyan' | 'green' | 'red', columns = Number.POSITIVE_INFINITY) => {
    if (current === null) return ''
    const { name, since, detail } = current
    const time = ` ${seconds(since).padStart(8)}`
    const left = columns - 2 - time.length
    const shown = name.length > left ? `${name.slice(0, Math.max(0, left - symbols.cut.length))}${symbols.cut}` : name
    const text = `${shown.padEnd(10)}${time}${detail === '' ? '' : `  ${detail}`}`
    return `${styled(symbol, style, stderr, terminal)} ${text.slice(0, columns - 2)}`
  }
  const clear = () => stderr.write('\r\x1b[K')
  const draw = () => {
    if (current === null) return
    const symbol = symbols.frames[frame % symbols.frames.length] ?? ''
    // A line that wraps cannot be drawn over.
    stderr.write(`\r\x1b[K${line(symbol, 'cyan', (stderr.columns || 80) - 1)}`)
  }
  const timer = setInterval(() => {
    frame += 1
    draw()
  }, FRAME_MS).unref()
  const finish = (ok: boolean) => {
    if (current === null) return
    clear()
    stderr.write(`${ok ? line(symbols.ok, 'green') : line(symbols.failed, 'red')}\n`)
    current = null
  }
  return {
    phase: name => {
      finish(name !== UNDOING)
      // A machine may have written a part of it.
      current = { name: onOneLine(name), since: performance.now(), detail: '' }
      draw()
    },
    detail: text => {
      // Drawn with the next frame: details may come thousands a second.
      if (current !== null) current.detail = onOneLine(text)
    },
    note: text => {
      clear()
      stderr.write(`${harmless(text)}\n`)
      draw()
    },
    drop: () => {
      clear()
      current = null
    },
    end: ok => {
      clearInterval(timer)
      finish(ok)
    },
  }
}

export const openProgress = ({ quiet, terminal }: { quiet: boolean; terminal: Terminal }): ProgressView => {
  if (quiet) return silent(terminal)
  return terminal.stderr.isTTY === true && terminal.env.TERM !== 'dumb' ? live(terminal) : plain(terminal)
}
