/** What the agent of a machine did, as people read it: for `agent-swarm logs --agent`, and for an answer to `/swarm logs`. */
import { createReadStream } from 'node:fs'
import { basename } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { AgentReport } from '../../schema/environment.ts'
import { readableLine } from './readable.ts'
import { openLines } from './reading.ts'
import { newestTranscript } from './transcript.ts'

/** Milliseconds between two looks at a transcript that grows. */
const POLL_MS = 500

type Log = { home: string; vmId: string; use: AgentReport['use'] }

const readFrom = async (file: string, offset: number, onBytes: (bytes: Buffer) => void): Promise<number> => {
  let at = offset
  for await (const bytes of createReadStream(file, { start: offset })) {
    onBytes(bytes as Buffer)
    at += (bytes as Buffer).length
  }
  return at
}

/** The newest run's steps, one line each; false when there is no transcript. With `follow`, also what comes, and runs that begin, until then. */
export const showAgentLog = async (
  { home, vmId, use }: Log,
  onLine: (line: string) => void,
  follow: AbortSignal | null = null,
): Promise<boolean> => {
  const open = () => openLines(line => (line === null ? [] : readableLine(line, use)).forEach(onLine))
  let file: string | null = null
  let offset = 0
  let lines = open()
  while (true) {
    const newest = newestTranscript(home, vmId)
    if (newest !== null && newest !== file) {
      lines.end()
      lines = open()
      if (file !== null) onLine(`== run ${basename(newest, '.jsonl')} ==`)
      file = newest
      offset = 0
    }
    if (file !== null) offset = await readFrom(file, offset, lines.add)
    if (follow === null || follow.aborted) {
      lines.end()
      return file !== null
    }
    await delay(POLL_MS, undefined, { signal: follow }).catch(() => {})
  }
}

/** Its last lines, oldest first; empty when there is none. */
export const lastAgentLines = async (log: Log, most: number): Promise<string[]> => {
  const lines: string[] = []
  await showAgentLog(log, line => {
    lines.push(line)
    if (lines.length > most) lines.shift()
  })
  return lines
}
