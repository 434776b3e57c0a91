/**
 * Preloaded into a process of agent-swarm (`--import`), which knows nothing of it: counts the steps (points.ts) that matter across
 * processes, and kills it (-9) at one. CRASH_LOG: a file that gets the name of each. CRASH_AT: the step, counted from 0.
 * CRASH_AFTER_US: not at once, but so many microseconds later, in the middle of the step. CRASH_PID: the process to kill, if it is
 * another one.
 */
import { appendFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { isAcrossProcesses, type OnPoint, watchPoints } from './points.ts'

const { AGENT_SWARM_HOME = '', CRASH_LOG, CRASH_AT, CRASH_AFTER_US, CRASH_PID } = process.env
const append = appendFileSync
const at = CRASH_AT === undefined ? -1 : Number(CRASH_AT)
const victim = Number(CRASH_PID ?? process.pid)
let count = 0

const killNow = () => {
  try {
    process.kill(victim, 'SIGKILL')
  } catch {
    // It has ended already.
  }
}

/** Another thread, because this one is busy with the step. */
const openKiller = (microseconds: number): (() => void) => {
  const cell = new Int32Array(new SharedArrayBuffer(4))
  const source = `
    const { workerData: { cell, milliseconds, victim } } = require('node:worker_threads')
    Atomics.wait(cell, 0, 0)
    const end = performance.now() + milliseconds
    while (performance.now() < end);
    try { process.kill(victim, 'SIGKILL') } catch {}`
  new Worker(source, { eval: true, workerData: { cell, milliseconds: microseconds / 1000, victim } }).unref()
  return () => {
    Atomics.store(cell, 0, 1)
    Atomics.notify(cell, 0)
  }
}
const kill = CRASH_AFTER_US === undefined ? killNow : openKiller(Number(CRASH_AFTER_US))

const on: OnPoint = point => {
  if (!isAcrossProcesses(point)) return undefined
  if (CRASH_LOG !== undefined) append(CRASH_LOG, `${point.when} ${point.name}\n`)
  if (count === at) kill()
  count += 1
  return undefined
}
watchPoints(AGENT_SWARM_HOME, on)
