/** Brings rescued work back: into a folder of this host, or into the project's clone in a running machine. */
import { join, resolve } from 'node:path'
import type { Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import { withLocks } from '../../registry/lock.ts'
import { type RunnerContext, requireEnvironment, resolveTicket } from '../../runner/context.ts'
import { observe } from '../../runner/machine.ts'
import { parseFolderName } from '../../runner/rescue/folder.ts'
import type { RestoreTools } from '../../runner/rescue/restore.ts'
import { counted } from '../../words.ts'
import { machineArgument } from '../arguments.ts'
import type { Output } from '../json.ts'
import { type Invocation, print, printJson, type RunCommand } from '../terminal/output.ts'
import { openProgress } from '../terminal/progress.ts'
import { withRunnerContext } from '../with-context.ts'

type Restored = Output<'rescued restore'>

/** `prune` removes no rescue whose ticket is locked. */
const whileKept = <T>(tools: RestoreTools, name: string, tickets: Ticket[], work: () => Promise<T>): Promise<T> => {
  const waiting = { signal: tools.signal, onWait: () => tools.onPhase('waiting for another command on this ticket') }
  const own = parseFolderName(name)
  return withLocks(tools.home, own === null ? tickets : [...tickets, own.ticket], waiting, work)
}

const intoFolder = async (tools: RestoreTools, name: string, folder: string): Promise<Restored> => {
  const { restoreIntoFolder } = await import('../../runner/rescue/restore.ts')
  const restored = await whileKept(tools, name, [], () => restoreIntoFolder(tools, name, folder))
  return {
    ...{ name, ticket: null },
    repositories: restored.map(({ path, folder: place, links }) => ({ path, folder: place, branches: [], links })),
  }
}

const intoMachine = async (
  context: RunnerContext,
  tools: RestoreTools,
  name: string,
  ticket: Ticket,
): Promise<Restored> => {
  const row = requireEnvironment(context, ticket)
  const projectPath = context.registry.project(ticket)?.path
  if (projectPath === undefined)
    throw fail(
      'refused',
      `restoring into ${ticket}: its machine has no project`,
      `Restore into a folder: agent-swarm rescued restore ${name}`,
    )
  const provider = await context.provider(row.provider)
  const observed = await observe(provider, row)
  if (observed !== 'running')
    throw fail('not-running', `restoring into ${ticket}: its machine is ${observed}`, `agent-swarm start ${ticket}`)
  const { restoreIntoMachine } = await import('../../runner/rescue/restore-into.ts')
  const repositories = await whileKept(tools, name, [ticket], () =>
    restoreIntoMachine(tools, name, { provider, row, projectPath }),
  )
  return { name, ticket, repositories: repositories.map(repository => ({ ...repository, folder: null, links: 0 })) }
}

const LINKS_NOTE = 'Its symbolic links are files with their targets, since a machine wrote them.'

const textOf = ({ repositories, ticket }: Restored): string =>
  repositories
    .map(({ path, folder, branches, links }) => {
      if (folder !== null) return `${path} is in ${folder}.${links > 0 ? ` ${LINKS_NOTE}` : ''}`
      if (branches.length === 0) return `${path}: the machine of ${ticket} has all of it already.`
      return [`${path}: ${counted(branches.length, 'new ref')} in the machine of ${ticket}:`, ...branches].join('\n  ')
    })
    .join('\n')

const restoreNamed = async (
  invocation: Invocation,
  context: RunnerContext,
  onPhase: (phase: string) => void,
): Promise<Restored> => {
  const { flags, signal, terminal, words } = invocation
  const [name = '', folder] = words
  const tools = { home: context.home, run: context.run, signal, onPhase }
  if (typeof flags.into !== 'string') return intoFolder(tools, name, resolve(folder ?? join('.', name)))
  if (folder !== undefined)
    throw fail('usage', 'DIR and --into cannot be used together.', 'Usage: agent-swarm rescued restore NAME [DIR]')
  return intoMachine(context, tools, name, resolveTicket(context, await machineArgument(flags.into, terminal)))
}

export const run: RunCommand = invocation =>
  withRunnerContext(invocation, async context => {
    const { json, terminal } = invocation
    const progress = openProgress(invocation)
    let restored: Restored | null = null
    try {
      restored = await restoreNamed(invocation, context, progress.phase)
    } finally {
      progress.end(restored !== null)
    }
    if (json) printJson<'rescued restore'>(restored, terminal)
    else print(textOf(restored), terminal)
    return 0
  })
