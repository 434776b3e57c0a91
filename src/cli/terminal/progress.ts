/** How work under way is shown on stderr: a live line with the time of each phase on a terminal, plain lines elsewhere. */
import { styleText } from 'node:util'

export type ProgressView = {
  phase(name: string): void
  /** A line of its own, above what is live. */
  note(text: string): void
  end(ok: boolean): void
}

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
const FRAME_MS = 100
/** The phase that undoes: what came before it went wrong. */
export const UNDOING = 'undoing'

const err = process.stderr
const seconds = (since: number) => `${((performance.now() - since) / 1000).toFixed(1)} s`

/** For `--quiet`: nothing is shown but what was noted. */
const silent: ProgressView = { phase: () => {}, note: text => void err.write(`${text}\n`), end: () => {} }

const plain = (): ProgressView => {
  const began = performance.now()
  return {
    ...silent,
    phase: name => void err.write(`${seconds(began).padStart(8)}  ${name}\n`),
  }
}

const live = (): ProgressView => {
  let current: { name: string; since: number } | null = null
  let frame = 0
  const line = (sign: string) =>
    current === null ? '' : `${sign} ${current.name.padEnd(10)} ${seconds(current.since).padStart(8)}`
  const clear = () => err.write('\r\x1b[K')
  const draw = () => {
    if (current !== null)
      err.write(`\r\x1b[K${line(styleText('cyan', FRAMES[frame % FRAMES.length] ?? '', { stream: err }))}`)
  }
  const timer = setInterval(() => {
    frame += 1
    draw()
  }, FRAME_MS).unref()
  const finish = (ok: boolean) => {
    if (current === null) return
    clear()
    err.write(`${line(ok ? styleText('green', '✔', { stream: err }) : styleText('red', '✖', { stream: err }))}\n`)
    current = null
  }
  return {
    phase: name => {
      finish(name !== UNDOING)
      current = { name, since: performance.now() }
      draw()
    },
    note: text => {
      clear()
      err.write(`${text}\n`)
      draw()
    },
    end: ok => {
      clearInterval(timer)
      finish(ok)
    },
  }
}

export const openProgress = ({ quiet }: { quiet: boolean }): ProgressView =>
  quiet ? silent : err.isTTY ? live() : plain()
