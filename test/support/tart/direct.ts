/** Calls the stand-in as a person would, however it ends. */
import { spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { until } from '../wait.ts'
import type { Mac } from './install.ts'

type Ended = { code: number | null; stdout: string; stderr: string }

export const direct = (mac: Mac, argv: string[], environment: Record<string, string | undefined> = {}): Ended => {
  const env = { ...mac.environment, ...environment }
  const { status, stdout, stderr } = spawnSync(join(mac.bin, 'tart'), argv, { env, encoding: 'utf8' })
  return { code: status, stdout, stderr }
}

/** Starts `tart run` and waits until it holds its lock. */
export const runDirect = async (mac: Mac, name: string, argv: string[] = []) => {
  const child = spawn(join(mac.bin, 'tart'), ['run', name, ...argv], { env: mac.environment, stdio: 'ignore' })
  const ended = new Promise<number | null>(done => child.on('exit', done))
  await until(`${name} runs`, () => direct(mac, ['get', name, '--format', 'json']).stdout.includes('"running"'))
  return { ended, kill: (signal: NodeJS.Signals) => child.kill(signal) }
}
