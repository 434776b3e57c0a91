/** The project of a machine, on both status pages. Branches, sources and notes are outside text. */

import type { AgentReport, Environment, ProjectStep } from '../../schema/environment.ts'
import { counted } from '../../words.ts'
import { stripControls } from '../terminal/output.ts'
import type { Cell } from '../terminal/table.ts'
import { when } from '../terminal/text.ts'
import type { View } from './shared.ts'

const PUSHES_SHOWN = 3

/** `done`, `failed (1)`, `-`. */
export const stepWord = (step: ProjectStep | null): Cell => {
  if (step === null) return '-'
  if (step.state === 'failed') return [step.exit === null ? 'failed' : `failed (${step.exit})`, 'red']
  return step.state
}

const stepText = (step: ProjectStep, { now, terminal }: View): Cell => {
  const began = `${stripControls(step.source)}, began ${when(step.startedAt, now, terminal)}`
  if (step.state === 'running') return `running at the last look (${began})`
  const after = step.seconds === null ? '' : ` after ${step.seconds} s`
  if (step.state === 'done') return `done${after} (${began})`
  return [
    `${step.exit === null ? 'did not end by itself' : `failed with exit status ${step.exit}`}${after} (${began})`,
    'red',
  ]
}

/** `claude, at work since 10:00: 12 turns, 340,000 tokens, 1.20 US dollars`. What ends it may be outside text. */
const agentText = (agent: AgentReport, status: Environment['status'], { now, terminal }: View): string => {
  const { use, state, result, reason, startedAt, turns, tokens, usd } = agent
  const why = reason === null ? '' : `: ${stripControls(reason)}`
  if (state !== 'ended' && status !== 'running')
    return `${use}, ${state === 'wanted' ? 'starts' : 'goes on'} when the machine runs again`
  if (state === 'wanted') return `${use}, starts as soon as it can${why}`
  const cost = usd === null ? '' : `, ${usd.toFixed(2)} US dollars`
  const used = `${counted(turns, 'turn')}, ${tokens.toLocaleString('en-US')} tokens${cost}`
  const since = startedAt === null ? '' : ` since ${when(startedAt, now, terminal)}`
  return state === 'running' ? `${use}, at work${since} (${used})` : `${use}, ${result ?? 'ended'}${why} (${used})`
}

/** Rows of the page of one ticket. */
export const projectRows = (
  { ticket, status, project, pushes = [], note, agent }: Environment,
  view: View,
): (readonly [string, Cell])[] => {
  const { now, terminal } = view
  const rows: (readonly [string, Cell])[] = []
  if (project !== undefined) {
    rows.push(['project', `${project.repo} in ${stripControls(project.path)}`])
    rows.push(['branch', project.branch === null ? '-' : stripControls(project.branch)])
    if (project.setup !== null) rows.push(['setup', stepText(project.setup, view)])
    if (project.start !== null) rows.push(['start', stepText(project.start, view)])
    if (project.setup !== null || project.start !== null) rows.push(['logs', `agent-swarm logs ${ticket}`])
    if (project.ports.length > 0) rows.push(['ports', `${project.ports.join(', ')} (agent-swarm forward ${ticket})`])
    if (project.problem !== null) rows.push(['problem', [stripControls(project.problem), 'yellow']])
  }
  if (agent !== undefined) rows.push(['agent', agentText(agent, status, view)])
  for (const { repo, branch, commit, byAgent, at } of pushes.slice(-PUSHES_SHOWN))
    rows.push([
      'pushed',
      `${commit.slice(0, 7)} to ${stripControls(branch)} of ${repo}${byAgent ? ' by the agent' : ''}, ${when(at, now, terminal)}`,
    ])
  if (note !== undefined) rows.push(['note', `${stripControls(note.text)} (${when(note.at, now, terminal)})`])
  return rows
}
