/** What `swarm status` prints: what the runner knows of this machine, from the registry alone. */
import type { EnvironmentRow } from '../../registry/registry.ts'
import type { ProjectStep } from '../../schema/environment.ts'
import type { RunnerContext } from '../context.ts'

/** Outside text, on one line. */
const line = (text: string, most = 500): string =>
  text
    .slice(0, most)
    .replaceAll(/[\s\p{Cc}\p{Cf}]+/gu, ' ')
    .trim()
const minute = (time: string): string => `${time.slice(0, 16).replace('T', ' ')} UTC`

const stepText = (name: string, step: ProjectStep | null): string[] => {
  if (step === null) return []
  return [`${name} ${step.state}${step.exit === null ? '' : ` (exit ${step.exit})`}`]
}

const projectLines = ({ registry }: Pick<RunnerContext, 'registry'>, ticket: string): string[] => {
  const project = registry.project(ticket)
  if (project === null) return ['Project: none']
  const { repo, branch, path, setup, start, problem } = project
  const steps = [...stepText('setup', setup), ...stepText('start', start)]
  return [
    `Project: ${[`${repo}${branch === null ? '' : `, branch ${branch}`}`, path, ...steps].map(part => line(part)).join('; ')}`,
    ...(problem === null ? [] : [`Problem: ${line(problem)}`]),
  ]
}

const agentLines = ({ registry }: Pick<RunnerContext, 'registry'>, ticket: string): string[] => {
  const agent = registry.agent(ticket)
  if (agent === null) return []
  return [`Agent: ${agent.use}, ${agent.state}${agent.result === null ? '' : ` (${agent.result})`}`]
}

const checkpointLines = ({ registry }: Pick<RunnerContext, 'registry'>, ticket: string): string[] => {
  const checkpoints = registry.checkpoints(ticket)
  if (checkpoints.length === 0) return ['Checkpoints: none']
  const width = Math.max(...checkpoints.map(({ name }) => name.length))
  return [
    'Checkpoints, the newest last:',
    ...checkpoints.map(({ name, why, createdAt }) => `  ${name.padEnd(width)}  ${minute(createdAt)}  ${why}`),
  ]
}

/** The note of before a restore is for whoever works in the restored machine, and knows nothing of it. */
const noteLines = ({ registry }: Pick<RunnerContext, 'registry'>, ticket: string): string[] => {
  const restored = registry.lastRestore(ticket)
  const last = restored === null ? [] : [`Last restore: ${restored.name ?? 'a checkpoint'}, ${minute(restored.at)}`]
  const note = registry.note(ticket)
  if (note === null) return last
  const isBefore = restored !== null && note.at <= restored.at
  return [...last, `${isBefore ? 'before this restore' : `Note of ${minute(note.at)}`}: ${note.text}`]
}

export const statusText = (context: Pick<RunnerContext, 'registry'>, row: EnvironmentRow): string => {
  const { ticket, vmId, provider, baseImage } = row
  return [
    `Ticket: ${ticket}`,
    `Machine: ${vmId} on ${provider}, from ${baseImage}`,
    ...projectLines(context, ticket),
    ...agentLines(context, ticket),
    ...checkpointLines(context, ticket),
    ...noteLines(context, ticket),
  ].join('\n')
}
