/** When the bot last accepted a heartbeat of this home's runner, to the minute: for people, after the process has ended too. */
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Milliseconds between two notes: an idle runner writes no more than that. */
export const NOTE_MS = 60_000

const fileIn = (home: string) => join(home, 'runner-heard')

/** Returns what notes a heartbeat. */
export const openHeartbeatNote = (home: string, now: () => number): (() => void) => {
  let last = Number.NEGATIVE_INFINITY
  return () => {
    if (now() - last < NOTE_MS) return
    last = now()
    try {
      writeFileSync(fileIn(home), '', { mode: 0o600 })
    } catch {
      // A full disk keeps no heartbeat back.
    }
  }
}

/** Epoch ms; null when none was accepted yet. */
export const lastHeartbeatAt = (home: string): number | null =>
  statSync(fileIn(home), { throwIfNoEntry: false })?.mtimeMs ?? null
