/** A program on a real terminal, and what a person types there. */
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const CTRL_C = '\u0003'
export const CTRL_D = '\u0004'

/** Once `prompt` is on the screen, `does` is called and `text` is typed. */
export type Step = { prompt: string; does?: () => void; text?: string }

/** A word as sh reads it back. */
export const quoted = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`

/** A terminal of 100 columns and 40 rows (script of util-linux), on which both streams are one. Steps follow each other. */
export const onTerminal = (
  words: readonly string[],
  environment: Record<string, string | undefined>,
  steps: readonly Step[] = [],
): Promise<{ screen: string; code: number }> =>
  new Promise(done => {
    const command = `stty cols 100 rows 40; exec ${words.map(quoted).join(' ')}`
    const child = spawn('script', ['-qec', command, '/dev/null'], {
      cwd: tmpdir(),
      env: { LC_ALL: 'C.UTF-8', ...environment, TERM: 'xterm-256color', SHELL: '/bin/sh' },
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    const left = [...steps]
    let screen = ''
    let read = 0
    child.stdout.on('data', chunk => {
      screen += chunk
      for (let [step] = left; step !== undefined && screen.includes(step.prompt, read); [step] = left) {
        read = screen.indexOf(step.prompt, read) + step.prompt.length
        left.shift()
        step.does?.()
        if (step.text !== undefined) child.stdin.write(step.text)
      }
    })
    child.on('close', code => done({ screen: screen.replaceAll('\r\n', '\n'), code: code ?? 1 }))
  })

/** For a process that stands still at each of these phases until Ctrl-C is pressed there. `folder` holds its marks. */
export const pressedAt = (
  phases: readonly string[],
  folder: string,
): { environment: Record<string, string>; type: Step[] } => ({
  environment: {
    NODE_OPTIONS: `--import ${join(import.meta.dirname, 'hold-at.ts')}`,
    HOLD_AT: phases.join(','),
    HOLD_AT_FILE: join(folder, 'go-'),
  },
  type: phases.flatMap(phase => [
    { prompt: phase, text: CTRL_C },
    // The terminal echoes this once it has sent the signal.
    { prompt: '^C', does: () => writeFileSync(join(folder, `go-${phase}`), '') },
  ]),
})
