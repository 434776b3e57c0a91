/** (n) What an idle `up` costs: how often it wakes up, and how much of a processor it takes. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { until } from '../test/support/wait.ts'
import type { Row } from './main.ts'
import { botEnvironment, entry, privateKey, processorSeconds, withHome } from './measure.ts'

/** After everything that is loaded late, after what a start looks for, and after the first backup, whose garbage V8 collects once. */
const SETTLE_MS = 120_000
const SECONDS = 60
const TARGETS = { wakeups: 1, processor: 0.2 } as const

/** Voluntary context switches of its main thread, and seconds of processor time of all its threads. */
const costOf = (pid: number | undefined) => {
  const switches = readFileSync(`/proc/${pid}/status`, 'utf8').match(/^voluntary_ctxt_switches:\s+(\d+)/m)?.[1]
  return { wakeups: Number(switches), seconds: processorSeconds(pid) }
}

export const idle = (): Promise<Row[]> =>
  withHome(async home => {
    if (process.platform !== 'linux')
      return [{ row: 'n', what: 'an idle up', measured: 'only on Linux', target: '', ok: null }]
    // Webhooks of both sides are on: nothing is polled. Neither side can be reached.
    const child = spawn(process.execPath, [entry, 'up'], {
      env: botEnvironment(home, privateKey()),
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    try {
      let output = ''
      child.stderr.on('data', chunk => {
        output += chunk
      })
      await until('up', () => output.includes('listens on'), { within: 15_000 })
      await delay(SETTLE_MS)
      const before = costOf(child.pid)
      await delay(SECONDS * 1000)
      const now = costOf(child.pid)
      const wakeups = (now.wakeups - before.wakeups) / SECONDS
      const processor = ((now.seconds - before.seconds) / SECONDS) * 100
      return [
        {
          row: 'n',
          what: `wake-ups of an idle up per second, over ${SECONDS} s`,
          measured: wakeups.toFixed(2),
          target: `< ${TARGETS.wakeups}`,
          ok: wakeups < TARGETS.wakeups,
        },
        {
          row: 'n',
          what: 'processor that it takes, of one core',
          measured: `${processor.toFixed(2)} %`,
          target: `< ${TARGETS.processor} %`,
          ok: processor < TARGETS.processor,
        },
      ]
    } finally {
      child.kill('SIGKILL')
    }
  })
