/** (e) Memory of the idle servers. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { until } from '../test/support/wait.ts'
import type { Row } from './main.ts'
import { botEnvironment, entry, privateKey, resident, withHome } from './measure.ts'

const IDLE_MS = 5_000

export const memory = (): Promise<Row[]> =>
  withHome(async home => {
    if (process.platform !== 'linux')
      return [{ row: 'e', what: 'idle memory', measured: 'only on Linux', target: '', ok: null }]
    const rows: Row[] = []
    let botUrl = ''
    const open: { kill(signal: 'SIGKILL'): boolean }[] = []
    try {
      for (const command of ['bot', 'runner', 'up']) {
        const child = spawn(process.execPath, [entry, command], {
          env: { ...botEnvironment(join(home, command), privateKey()), AGENT_SWARM_BOT_URL: botUrl },
          stdio: ['ignore', 'ignore', 'pipe'],
        })
        open.push(child)
        let output = ''
        child.stderr.on('data', chunk => {
          output += chunk
        })
        const url = await until(command, () => output.match(/(?:listens on|takes work from) (http:[^\s,]+)/)?.[1], {
          within: 15_000,
        })
        if (command === 'bot') botUrl = url
        // After everything that is loaded late.
        await delay(IDLE_MS)
        rows.push({
          row: 'e',
          what: `memory of an idle ${command} (resident)`,
          measured: `${resident(child.pid)} MiB`,
          target: '',
          ok: null,
        })
      }
    } finally {
      for (const child of open) child.kill('SIGKILL')
    }
    return rows
  })
