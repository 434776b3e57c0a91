/**
 * Waits for a program that may never end: one that something outlives which holds its pipes, or that cannot be killed. On Linux
 * what it started is found by a mark in its environment, also in a session of its own, and ended with it.
 */

import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** How often the pipes of a program that has ended are looked at, while something else holds them. Milliseconds. */
const LOOK_MS = 500
/** Looks without output after which nobody waits: more than one, because a blocked event loop reads nothing either. */
const QUIET_LOOKS = 4
/** A pipe holds little, so that what goes on printing is something else. */
const MAX_LOOKS = 10
/** Milliseconds from SIGKILL until nobody waits any more: a process that waits for a dead disk or mount cannot be killed. */
const UNKILLABLE_MS = 3_000
const MAX_SWEEPS = 5
const MARK = 'AGENT_SWARM_COMMAND'

/** An environment variable by which everything that a program starts is known. */
export const newMark = (): Record<string, string> => ({ [MARK]: randomUUID() })

/** A daemon writes into no pipe, for example libvirt's own of a user, which the first virsh starts and the next ones use. */
const isDaemon = (pid: string): boolean =>
  ['1', '2'].every(descriptor => !/^(?:pipe|socket):/.test(readlinkSync(`/proc/${pid}/fd/${descriptor}`)))

const markedProcesses = (mark: string): number[] =>
  readdirSync('/proc').flatMap(name => {
    const pid = Number(name)
    if (!Number.isInteger(pid) || pid === process.pid) return []
    try {
      const isMarked = readFileSync(`/proc/${name}/environ`, 'latin1').split('\0').includes(mark)
      return isMarked && !isDaemon(name) ? [pid] : []
    } catch {
      // It is gone, or another user's.
      return []
    }
  })

/** Ends what the program left behind. Elsewhere than on Linux, its process group is all that can be found of it. */
const endMarked = (mark: Readonly<Record<string, string>>): void => {
  if (process.platform !== 'linux') return
  const text = `${MARK}=${mark[MARK]}`
  // Whoever starts others may do it between two looks.
  for (let sweep = 0; sweep < MAX_SWEEPS; sweep += 1) {
    const found = markedProcesses(text)
    if (found.length === 0) return
    for (const pid of found) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It is gone.
      }
    }
  }
}

type Ended = { timedOut: boolean; isCanceled: boolean; isMaxBuffer: boolean }
type Pipe = { destroy(): unknown; bytesRead?: number } | null | undefined
/** What is used of Node's own object. */
type Process = { stdio?: readonly Pipe[]; stdout?: Pipe; stderr?: Pipe; once(event: 'exit', act: () => void): unknown }
type Child<Ran> = PromiseLike<Ran> & { nodeChildProcess: Process }

/** `isSlow`: what reads the output may stop for long, so that a quiet pipe shows nothing. */
type Terms = { mark: Readonly<Record<string, string>>; ending: AbortSignal; graceMs: number; isSlow?: boolean }

/**
 * The program's end; null when it cannot be ended. `ending` aborts when the program is to end, and `graceMs` after that it is
 * killed. Whatever of it is left is ended then; what a program that ended by itself left behind goes on.
 */
export const settled = async <Ran extends Ended>(
  child: Child<Ran>,
  { mark, ending, graceMs, isSlow = false }: Terms,
): Promise<Ran | null> => {
  const { nodeChildProcess } = child
  const { promise: unkillable, resolve } = Promise.withResolvers<null>()
  const timers = new Set<NodeJS.Timeout>()
  const after = (ms: number, act: () => void) => timers.add(setTimeout(act, ms))
  const closePipes = () => {
    for (const stream of nodeChildProcess.stdio ?? []) stream?.destroy()
  }
  const bytesRead = (): string => `${nodeChildProcess.stdout?.bytesRead} ${nodeChildProcess.stderr?.bytesRead}`
  const watchPipes = (before: string, looks: number, quiet: number) =>
    after(LOOK_MS, () => {
      const now = bytesRead()
      const isQuiet = now === before ? quiet + 1 : 0
      if (ending.aborted || (!isSlow && (isQuiet >= QUIET_LOOKS || looks >= MAX_LOOKS))) closePipes()
      else watchPipes(now, looks + 1, isQuiet)
    })
  const giveUp = () =>
    after(graceMs + UNKILLABLE_MS, () => {
      closePipes()
      resolve(null)
    })
  nodeChildProcess.once('exit', () => watchPipes(bytesRead(), 1, 0))
  ending.addEventListener('abort', giveUp, { once: true })
  if (ending.aborted) giveUp()
  try {
    const ran = await Promise.race([child, unkillable])
    if (ran === null || ran.timedOut || ran.isCanceled || ran.isMaxBuffer || ending.aborted) endMarked(mark)
    return ran
  } finally {
    ending.removeEventListener('abort', giveUp)
    for (const timer of timers) clearTimeout(timer)
  }
}
