/** Long work in the background: the same command in a process of its own, which the terminal's end does not end. */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Ticket } from '../domain.ts'
import { fail } from '../errors.ts'
import { openDetach } from '../exec.ts'
import type { RunnerContext } from '../runner/context.ts'
import type { ActionKind } from '../schema/action.ts'
import type { Changing } from './change.ts'
import { type Invocation, print, printJson } from './terminal/output.ts'

const POLL_MS = 20
const LINES_TOLD = 5

/** Our own words without `--detach`: only what stands before `--` is an option. */
const words = (argv: readonly string[]): string[] => {
  const end = argv.includes('--') ? argv.indexOf('--') : argv.length
  return argv.filter((word, at) => word !== '--detach' || at > end)
}

/** Returns when the other process has begun, waits for its ticket, or has failed to: silence would leave one wondering. */
export const detach = async (
  { json, quiet }: Invocation,
  { registry, home, config }: RunnerContext,
  { kind, ticket }: { kind: ActionKind; ticket: Ticket },
): Promise<void> => {
  const folder = join(home, 'logs')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const log = join(folder, `${ticket}.log`)
  const newest = () => registry.operations(ticket, 1)[0]?.id ?? 0
  const before = newest()
  const { pid, ended } = await openDetach(config.environment)(process.execPath, words(process.argv.slice(1)), log)
  let code: number | null = null
  void ended.then(found => {
    code = found
  })
  while (code === null && newest() === before && !registry.waiting().some(one => one.pid === pid)) await delay(POLL_MS)
  if (code !== null && code !== 0) {
    const said = readFileSync(log, 'utf8').trim().split('\n').slice(-LINES_TOLD).join('\n')
    throw fail('unknown', `${kind} of ${ticket} ended at once: ${said || `exit status ${code}`}`)
  }
  if (json) printJson<Changing>({ ticket, result: 'detached', kind, pid, log })
  else if (!quiet)
    print(`${kind} of ${ticket} goes on in the background (process ${pid}). How it goes: agent-swarm status ${ticket}`)
}
