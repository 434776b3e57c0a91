/** The last lines of a log in a file, and what is added to it. The file may be replaced by a new one meanwhile. */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

/** Bytes of the end of the file that are looked through, and lines of it that are shown. */
const TAIL_BYTES = 256 * 1024
const LINES = 200
const POLL_MS = 500
const CHUNK = 64 * 1024

type Reading = { onLine: (line: string) => void; follow: AbortSignal | null }

/** The bytes from `at` on, and the id of the file. Null: there is no file. */
const readFrom = (file: string, at: (size: number, id: number) => number, onBytes: (bytes: Buffer) => void) => {
  if (statSync(file, { throwIfNoEntry: false }) === undefined) return null
  const handle = openSync(file, 'r')
  try {
    const { size, ino } = fstatSync(handle)
    let offset = at(size, ino)
    const buffer = Buffer.alloc(CHUNK)
    for (let read = -1; read !== 0; ) {
      read = readSync(handle, buffer, 0, CHUNK, offset)
      offset += read
      if (read > 0) onBytes(buffer.subarray(0, read))
    }
    return { offset, id: ino }
  } finally {
    closeSync(handle)
  }
}

/** False when there is no file yet. With `follow`, goes on until then. */
export const showLogFile = async (file: string, { onLine, follow }: Reading): Promise<boolean> => {
  let decoder = new TextDecoder()
  let rest = ''
  const lines: string[] = []
  const take = (bytes: Buffer) => {
    const parts = (rest + decoder.decode(bytes, { stream: true })).split('\n')
    rest = parts.pop() ?? ''
    lines.push(...parts)
  }
  let known = readFrom(file, size => Math.max(0, size - TAIL_BYTES), take)
  if (follow === null && rest !== '') lines.push(rest)
  for (const line of lines.splice(0).slice(-LINES)) onLine(line)
  while (follow !== null && !follow.aborted) {
    await delay(POLL_MS, undefined, { signal: follow }).catch(() => {})
    const before = known
    const next = readFrom(
      file,
      (size, id) => {
        const isSame = before !== null && id === before.id && size >= before.offset
        if (isSame) return before.offset
        decoder = new TextDecoder()
        rest = ''
        return 0
      },
      take,
    )
    known = next ?? known
    for (const line of lines.splice(0)) onLine(line)
  }
  return known !== null
}
