import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Link, MAX_CHUNK } from '../../src/runner/link/types.ts'

/** Reads a file of a machine that is a folder, as the link does. `state`: the folder of agents. */
export const followFile =
  (state: string): Link['follow'] =>
  (path, offset, { onChunk, onShorter }) => {
    const ending = new AbortController()
    const read = async () => {
      let at = offset
      for (; !ending.signal.aborted; await delay(20, undefined, { signal: ending.signal }).catch(() => {})) {
        const file = join(state, path)
        const bytes = existsSync(file) ? readFileSync(file) : Buffer.alloc(0)
        if (bytes.length < at) onShorter?.(bytes.length)
        while (at < bytes.length && !ending.signal.aborted) {
          const chunk = bytes.subarray(at, at + MAX_CHUNK)
          await onChunk(chunk, at)
          at += chunk.length
        }
      }
    }
    void read()
    return () => ending.abort()
  }
