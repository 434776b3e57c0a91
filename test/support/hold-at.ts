/**
 * Preloaded into a command (`NODE_OPTIONS=--import`): when it shows one of the phases of HOLD_AT, it stands still until a file
 * named HOLD_AT_FILE followed by the phase exists.
 */
import { existsSync } from 'node:fs'

const { HOLD_AT = '', HOLD_AT_FILE = '' } = process.env
const pending = new Set(HOLD_AT.split(','))
const cell = new Int32Array(new SharedArrayBuffer(4))
const write = process.stderr.write.bind(process.stderr)
process.stderr.write = ((text: string) => {
  const result = write(text)
  for (const phase of pending) {
    if (!text.includes(phase)) continue
    pending.delete(phase)
    while (!existsSync(`${HOLD_AT_FILE}${phase}`)) Atomics.wait(cell, 0, 0, 5)
  }
  return result
}) as typeof process.stderr.write
