/** `--watch`: a page that is drawn again and again on the alternate screen. */
import { setTimeout as delay } from 'node:timers/promises'
import { fail } from '../../errors.ts'
import { harmless, type Invocation, print } from './output.ts'

const EVERY_MS = 2_000
const ENTER = '\x1b[?1049h\x1b[?25l'
const LEAVE = '\x1b[?25h\x1b[?1049l'

/** Draws `page` once, or with `--watch` until Ctrl-C. Lines below the terminal's last row are left out. */
export const draw = async (invocation: Invocation, page: () => Promise<string>): Promise<void> => {
  const { flags, json, signal, terminal } = invocation
  if (flags.watch !== true) {
    const text = await page()
    if (text !== '') print(text, terminal)
    return
  }
  const { stdout } = terminal
  if (json || stdout.isTTY !== true)
    throw fail(
      'usage',
      '--watch needs a terminal, and cannot be combined with --json',
      'In a script, poll: agent-swarm list --json',
    )
  stdout.write(ENTER)
  const leave = () => void stdout.write(LEAVE)
  // A second Ctrl-C exits at once.
  process.once('exit', leave)
  try {
    while (!signal.aborted) {
      const header = `${new Date().toLocaleTimeString()}  every ${EVERY_MS / 1000} s, Ctrl-C to end`
      const lines = harmless(`${header}\n\n${await page()}`).split('\n')
      stdout.write(`\x1b[H\x1b[J${lines.slice(0, Math.max((stdout.rows ?? 24) - 1, 3)).join('\n')}`)
      await delay(EVERY_MS, undefined, { signal }).catch(() => {})
    }
  } finally {
    process.off('exit', leave)
    leave()
  }
}
