/** Softnet, a filter in front of a machine's network that comes with Tart. Without it machines reach each other and the local net. */
import { existsSync, realpathSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { covers, parseRange } from '../ipv4.ts'
import type { IsolationReport } from '../provider.ts'
import type { Context } from './context.ts'
import { parseVmName } from './marks.ts'
import { OWN_PROCESSES, parseRuns } from './parse.ts'

const SET_UID = 0o4000
const ROOT = 0
const GIVE_RIGHTS =
  'In a terminal, once: sudo chown root "$(command -v softnet)" && sudo chmod u+s "$(command -v softnet)"'

type Softnet = 'usable' | 'without rights' | 'missing'

/** Where PATH lacks it, that of Homebrew. */
const findSoftnet = async ({ run, host }: Context): Promise<string | null> => {
  const { stdout } = await run('/bin/sh', ['-c', 'command -v softnet'], { answers: [1, 127] })
  const path = stdout.trim() || join(host.homebrew, 'softnet')
  return existsSync(path) ? realpathSync(path) : null
}

/** `tart run` gives Softnet its rights only on a terminal, and a runner has none. */
const softnetState = async (context: Context): Promise<Softnet> => {
  const path = await findSoftnet(context)
  if (path === null) return 'missing'
  const { uid, mode } = statSync(path)
  return uid === ROOT && (mode & SET_UID) !== 0 ? 'usable' : 'without rights'
}

/**
 * The arguments of `tart run` that isolate a machine, where Softnet is usable. It lets a machine reach the gateway of its bridge, which
 * is this Mac (softnet's proxy/vm.rs): the report says so.
 */
export const softnetArguments = async (context: Context): Promise<string[]> => {
  if ((await softnetState(context)) !== 'usable') return []
  const { tartAllow } = context.settings
  return ['--net-softnet', ...(tartAllow.length === 0 ? [] : ['--net-softnet-allow', tartAllow.join(',')])]
}

/** Our machines that run, by vmId, with the ranges that they were started with. Null: without Softnet, which was not usable then. */
const startedWith = async ({ run, homeId }: Context): Promise<{ vmId: string; allowed: string[] | null }[]> => {
  const { stdout } = await run('ps', OWN_PROCESSES)
  return parseRuns(stdout).flatMap(({ name, words }) => {
    const mark = parseVmName(name)
    if (mark === null || mark.kind === 'image' || mark.home !== homeId) return []
    const allowed = / --net-softnet-allow (\S+)/.exec(words)?.[1]?.split(',') ?? []
    return [{ vmId: mark.vmId, allowed: words.includes(' --net-softnet') ? allowed : null }]
  })
}

/** Whether one of the settings' ranges has all of it. */
const isAllowed = (allowed: string, { settings }: Context): boolean => {
  const range = parseRange(allowed)
  return (
    range !== null &&
    settings.tartAllow.some(text => {
      const outer = parseRange(text)
      return outer !== null && covers(outer, range)
    })
  )
}

const RESTART = 'Restart them: agent-swarm restart TICKET'
/** Of five at most. */
const namesOf = (machines: readonly { vmId: string }[]): string =>
  machines
    .slice(0, 5)
    .map(({ vmId }) => vmId)
    .join(', ')

export const isolationReport = async (context: Context): Promise<IsolationReport> => {
  const state = await softnetState(context)
  if (state === 'missing')
    return {
      isolated: false,
      reason: 'Softnet is not installed, so machines reach each other, this Mac and the local network',
      remedy: `Install it: brew install openai/tools/softnet. ${GIVE_RIGHTS}. Then restart the machines.`,
    }
  if (state === 'without rights')
    return {
      isolated: false,
      reason: 'Softnet lacks its rights (owner root, SUID bit), so machines start without it',
      remedy: `${GIVE_RIGHTS}. Then restart the machines.`,
    }
  const started = await startedWith(context)
  const without = started.filter(({ allowed }) => allowed === null)
  if (without.length > 0)
    return { isolated: false, reason: `${namesOf(without)} started before Softnet could be used`, remedy: RESTART }
  const wider = started.filter(({ allowed }) => allowed?.some(range => !isAllowed(range, context)))
  if (wider.length > 0)
    return {
      isolated: false,
      reason: `${namesOf(wider)} started with ranges that AGENT_SWARM_TART_ALLOW does not have any more`,
      remedy: RESTART,
    }
  const { tartAllow } = context.settings
  const opened = tartAllow.length === 0 ? 'private networks are closed' : `of private networks, ${tartAllow.join(', ')}`
  return {
    isolated: true,
    note: `Machines reach the internet, and this Mac at the address of their bridge: what listens there on all addresses, they reach; ${opened}. To open a range: AGENT_SWARM_TART_ALLOW=10.1.0.0/16.`,
  }
}
