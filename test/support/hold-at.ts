/**
 * Preloaded into a command (`NODE_OPTIONS=--import`): when it shows one of the phases of HOLD_AT, it stands still until the
 * file HOLD_AT_FILE with the phase's name behind it is there.
 */
import { existsSync } from 'node:fs'

const { HOLD_AT = '', HOLD_AT_FILE = '' } = process.env
const held = new Set(HOLD_AT.split(','))
const clock = new Int32Array(new SharedArrayBuffer(4))
const write = process.stderr.write.bind(process.stderr)
process.stderr.write = ((text: string) => {
  const written = write(text)
  for (const phase of held) {
    if (!text.includes(phase)) continue
    held.delete(phase)
    while (!existsSync(`${HOLD_AT_FILE}${phase}`)) Atomics.wait(clock, 0, 0, 5)
  }
  return written
}) as typeof process.stderr.write
