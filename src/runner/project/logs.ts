/** The logs of setup and start in a machine, and of its agent. Outside text: nothing of it moves a cursor. */
import type { Ticket } from '../../domain.ts'
import { lastAgentLines } from '../agent/agent-log.ts'
import type { Target } from '../operation.ts'
import { answered, askGuest, type Guest, shown } from './guest.ts'

export const LOGS = ['setup', 'start'] as const
export type LogName = (typeof LOGS)[number]

/** Bytes of each that are read. */
const MAX_BYTES = 65_536
/** Characters of each in the answer to a person elsewhere. */
const MAX_LAST = 6_000
const LAST_LINES = 40

/** The end of each log that is there. */
export const readLogs = async (
  guest: Guest,
  path: string,
  names: readonly LogName[],
  signal: AbortSignal,
): Promise<{ name: LogName; text: string }[]> => {
  const variables = { path, names: names.join(' '), bytes: String(MAX_BYTES) }
  const answer = await askGuest(guest, 'logs.sh', { variables }, { signal })
  return names.flatMap(name => {
    const text = answered(answer, name)
    return text === null ? [] : [{ name, text: shown(text, MAX_BYTES) }]
  })
}

const projectLogs = async ({ context, provider, row, caller }: Target): Promise<{ name: string; text: string }[]> => {
  const project = context.registry.project(row.ticket)
  return project === null ? [] : readLogs({ context, provider, row }, project.path, LOGS, caller.signal)
}

/** The agent's last steps, a line each, on the runner's own disk. */
export const agentLogs = async (
  { home, registry }: Pick<Target['context'], 'home' | 'registry'>,
  ticket: Ticket,
  most: number,
): Promise<{ name: 'agent'; text: string }[]> => {
  const [agent, row] = [registry.agent(ticket), registry.environment(ticket)]
  const lines =
    agent === null || row === null ? [] : await lastAgentLines({ home, vmId: row.vmId, use: agent.use }, most)
  return lines.length === 0 ? [] : [{ name: 'agent', text: lines.join('\n').slice(-MAX_BYTES) }]
}

/** The last lines of setup, start and agent, each under its name. */
export const lastLines = async (target: Target): Promise<string> => {
  const { context, row } = target
  if (context.registry.project(row.ticket) === null && context.registry.agent(row.ticket) === null)
    return 'This machine has no project, and so no logs.'
  const logs = [...(await projectLogs(target)), ...(await agentLogs(context, row.ticket, LAST_LINES))]
  if (logs.length === 0) return 'There are no logs of setup, start and agent yet.'
  const lastOf = (text: string) => text.split('\n').slice(-LAST_LINES).join('\n').slice(-MAX_LAST)
  return logs.map(({ name, text }) => `== ${name} ==\n${lastOf(text) || '(empty)'}`).join('\n\n')
}
