/** `--watch`: a screen that is drawn again and again, and gone afterwards. */
import { setTimeout as delay } from 'node:timers/promises'
import { fail } from '../../errors.ts'
import { type Invocation, print } from './output.ts'

const EVERY_MS = 2_000
const ENTER = '\x1b[?1049h\x1b[?25l'
const LEAVE = '\x1b[?25h\x1b[?1049l'

/** Draws `page` once, or with `--watch` until Ctrl-C. What is longer than the terminal is cut. */
export const draw = async ({ flags, json, signal }: Invocation, page: () => Promise<string>): Promise<void> => {
  if (flags.watch !== true) {
    const text = await page()
    if (text !== '') print(text)
    return
  }
  if (json || !process.stdout.isTTY)
    throw fail('usage', '--watch needs a terminal', 'Ask again and again instead: agent-swarm list --json')
  process.stdout.write(ENTER)
  const leave = () => void process.stdout.write(LEAVE)
  // Ctrl-C twice ends at once.
  process.once('exit', leave)
  try {
    while (!signal.aborted) {
      const lines =
        `${new Date().toLocaleTimeString()}  every ${EVERY_MS / 1000} s, Ctrl-C ends it\n\n${await page()}`.split('\n')
      process.stdout.write(`\x1b[H\x1b[J${lines.slice(0, Math.max(process.stdout.rows - 1, 3)).join('\n')}`)
      await delay(EVERY_MS, undefined, { signal }).catch(() => {})
    }
  } finally {
    process.off('exit', leave)
    leave()
  }
}
