/**
 * The project of a machine: cloned on the ticket's branch, the operator's files in it, set up once, started at each boot. Each step
 * may be done again: an interrupted create goes on where it was. Whatever fails leaves the machine usable, and is recorded.
 */
import { servedProjects } from '../../config/serving.ts'
import { projectOf } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import type { ProjectRow } from '../../registry/registry.ts'
import type { ProjectSpec } from '../../schema/action.ts'
import type { Failure } from '../../schema/failure.ts'
import { MAX_REPOSITORY_FILE, REPOSITORY_FILE, readProjectFile } from '../../schema/repository-file.ts'
import { waitUntilReady } from '../machine.ts'
import { type Target, throwIfCancelled } from '../operation.ts'
import type { ProjectAccess } from './access.ts'
import { cloneProject, originOf, setGitUp } from './clone.ts'
import { copyFiles } from './files.ts'
import { answered, askGuest, shown } from './guest.ts'
import { beginStart, describeStep, installSteps, runSetup } from './steps.ts'
import { type Found, LOOKED_AT, MAX_FILE, type Plan, planWorkspace } from './workspace.ts'

/** A machine that answers, with a ticket or without one yet. */
export type Preparing = Pick<Target, 'context' | 'provider' | 'caller'> & { row: Pick<Target['row'], 'vmId' | 'ssh'> }

/** The operator's `workspace` of a repository, whose name has no case. */
export const operatorWorkspace = ({ context }: Pick<Preparing, 'context'>, repo: string) =>
  Object.entries(context.config.workspace).find(([name]) => name.toLowerCase() === repo.toLowerCase())?.[1]

/** Writes what is known now. */
const record = ({ context, row }: Target, project: ProjectRow): ProjectRow => {
  context.registry.setProject(row.ticket, project)
  return project
}

/** Where the project goes before its own file has been read. */
export const firstPath = (target: Preparing, repo: string): string =>
  operatorWorkspace(target, repo)?.path ?? `~/${repo.slice(repo.indexOf('/') + 1)}`

/** The same for a machine that may have been kept ready. */
const begunPath = (target: Target, repo: string): string => target.pooled?.path ?? firstPath(target, repo)

/** How setup and start are decided. `path`: where the project is now. */
export const readPlan = async (target: Preparing, access: ProjectAccess, repo: string, path: string): Promise<Plan> => {
  const { signal } = target.caller
  const ownFile =
    access.readDefaultFile === null ? null : await access.readDefaultFile(REPOSITORY_FILE, MAX_REPOSITORY_FILE)
  const variables = {
    ...{ path, names: LOOKED_AT.join('\n'), limit: String(MAX_FILE) },
    default_file: access.readDefaultFile === null ? REPOSITORY_FILE : '',
  }
  const answer = await askGuest(target, 'look.sh', { variables }, { signal })
  const files = new Map(
    answer.flatMap(({ word, text }) => (word.startsWith('file ') ? [[word.slice('file '.length), text] as const] : [])),
  )
  const found: Found = { files, hasMise: answered(answer, 'mise') !== null }
  const file = await readProjectFile(ownFile ?? answered(answer, 'default') ?? '')
  return planWorkspace(repo, operatorWorkspace(target, repo), file, found)
}

const sentenceOf = ({ message, remedy }: Failure): string =>
  [shown(message, 1_500).replaceAll(/\s*\n\s*/g, '; '), remedy]
    .filter(part => part !== null)
    .join('. ')
    .replace(/\.$/, '')

/** The ticket's project on the way, for as long as nothing else is known. */
const unfinished = (ticket: string) =>
  `It is being cloned and set up, or this was interrupted. To go on: agent-swarm create ${ticket}`

const cancelled = (ticket: string, error: unknown) =>
  // The outcome says this, and not that a machine is removed.
  Object.assign(
    fail(
      'cancelled',
      `create of ${ticket}: cancelled; the machine exists, and its project is not complete`,
      `To go on: agent-swarm create ${ticket}`,
      error,
    ),
    { halfDone: true },
  )

/** The row, and notes for the summary. */
type Told = { project: ProjectRow; notes: string[] }

const setUp = async (target: Target, project: ProjectRow, plan: Plan): Promise<ProjectRow> => {
  const { caller, context } = target
  const { signal } = caller
  // A machine that was kept ready was set up for another commit or another plan, perhaps.
  await installSteps(target, plan, signal, { again: project.setup === null })
  let reached = project
  if (plan.setup !== null) {
    caller.onPhase('setup')
    const { source } = plan.setup
    const startedAt = context.clock().toISOString()
    const running = { state: 'running', source, exit: null, startedAt, seconds: null } as const
    reached = record(target, { ...reached, setup: running, prepared: true })
    const onLost = async () => void (await waitUntilReady(target))
    const setup = await runSetup(target, plan.path, plan.setup, { signal, clock: context.clock, onLost }).catch(
      async error => {
        await stopSetup(target, plan.path)
        record(target, { ...reached, setup: { ...running, state: 'failed' } })
        throw error
      },
    )
    reached = record(target, { ...reached, setup })
  }
  if (plan.start !== null) {
    caller.onPhase('start of the project')
    const start = await beginStart(target, plan.path, plan.start, { signal, clock: context.clock })
    reached = record(target, { ...reached, start })
  }
  return reached
}

/** A setup that nobody waits for any more does not go on, as far as the machine can be reached. */
const stopSetup = async (target: Target, path: string): Promise<void> => {
  const signal = AbortSignal.timeout(20_000)
  await askGuest(target, 'stop.sh', { variables: { path } }, { signal }).catch(() => null)
}

/** Why setup and start are not run here; null when they are. */
const refusal = ({ provider }: Preparing, { setup, start }: Plan): string | null => {
  const sources = [...new Set([setup, start].flatMap(step => step?.source ?? []))]
  return provider.ownSystem !== true || sources.length === 0
    ? null
    : `setup and start (${sources.join(', ')}) are not run: machines of ${provider.name} are folders, and the commands would run on this host itself`
}

/** To the folder that its own file names. */
export const moveProject = async (target: Preparing, from: string, path: string): Promise<void> =>
  void (await askGuest(target, 'move.sh', { variables: { path, from, url: '' } }, target.caller))

/** The same when the registry has the new folder already: nobody knows whether the project is there. */
const finishMove = async (target: Target, { repo, path }: ProjectRow, access: ProjectAccess): Promise<void> => {
  const from = begunPath(target, repo)
  if (path === from) return
  await askGuest(target, 'move.sh', { variables: { path, from, url: originOf(access, repo) } }, target.caller)
}

/** Notes the new folder first: work in it is looked for from then on, and after a create that dies meanwhile the next one goes on. */
const moveTo = async (target: Target, project: ProjectRow, path: string): Promise<ProjectRow> => {
  const moved = record(target, { ...project, path })
  await moveProject(target, project.path, path).catch(error => {
    // The machine refused it.
    if (failureOf(error, 'moving the project').kind === 'unknown') record(target, project)
    throw error
  })
  return moved
}

/** By this home's own settings: the projects by which branches of the repository name their tickets. */
const ownProjects = ({ context, row }: Target, repo: string): string[] => {
  const served = servedProjects([repo], context.config.serving)
  return served.length === 0 ? [projectOf(row.ticket)] : served
}

const prepareThrough = async (target: Target, begun: ProjectRow, access: ProjectAccess): Promise<Told> => {
  const { caller, provider, row } = target
  const { ticket } = row
  const projects = access.projects ?? (async () => ownProjects(target, begun.repo))
  caller.onPhase('clone')
  await finishMove(target, begun, access)
  const branch = await cloneProject(target, access, { ticket, ...begun }, { projects, signal: caller.signal })
  let project = record(target, { ...begun, branch: branch.name })
  const plan = await readPlan(target, access, project.repo, project.path)
  if (plan.path !== project.path) project = await moveTo(target, project, plan.path)
  project = record(target, { ...project, ports: plan.ports, save: plan.save })
  const problems = [
    ...plan.problems,
    ...(await copyFiles(target, project, { onlyMissing: false, signal: caller.signal })),
  ]
  await throwIfCancelled(target)
  const refused = refusal(target, plan)
  if (refused !== null) problems.push(refused)
  else if (provider.ownSystem !== true) project = await setUp(target, project, plan)
  const problem = problems.length === 0 ? null : problems.join('. ').slice(0, 2_000)
  project = record(target, { ...project, problem, prepared: true })
  return { project, notes: [branch.note, access.note].filter(note => note !== null) }
}

/** Git in the machine is left with what answers after this command. */
const leaveGit = async (target: Target, access: ProjectAccess, path: string): Promise<void> => {
  if (access.stays || access.through === null) return
  const { ticket } = target.row
  await setGitUp(target, { ticket, path }, { ...access, through: null }, AbortSignal.timeout(20_000)).catch(() => null)
}

const clauses = (ticket: string, { project, notes }: Told): string[] =>
  [
    `${project.repo} is in ${project.path} on the branch ${project.branch}`,
    describeStep(ticket, 'setup', project.setup),
    describeStep(ticket, 'start', project.start),
    project.problem,
    ...notes,
  ].filter(clause => clause !== null)

const begin = (target: Target, spec: ProjectSpec, known: ProjectRow | null): ProjectRow => {
  const problem = unfinished(target.row.ticket)
  if (known !== null) return record(target, { ...known, problem })
  const { repo, branch, summary } = spec
  const path = begunPath(target, repo)
  const nothing = { ports: [], save: [], setup: null, start: null, prepared: false }
  return record(target, { repo, branch, summary, path, problem, ...nothing })
}

/**
 * Brings the project into a machine that answers, or goes on with it. Returns sentences for the summary; none when it was complete.
 * Throws only when it is cancelled.
 */
export const prepareProject = async (target: Target, spec: ProjectSpec): Promise<string[]> => {
  const { caller, context, row } = target
  const { ticket, vmId } = row
  const known = context.registry.project(ticket)
  const isOther = known !== null && known.repo.toLowerCase() !== spec.repo.toLowerCase()
  // One that was never cloned, for example because its name is wrong, gives way to one that a person names.
  const isReplaced = isOther && spec.named === true && known.branch === null
  if (isOther && spec.named === true && !isReplaced) return [`Its project is ${known.repo}, and stays so`]
  if (!isReplaced && known !== null && known.problem === null) return []
  const begun = begin(target, spec, isReplaced ? null : known)
  try {
    const machine = { ticket, vmId, repo: begun.repo, signal: caller.signal }
    const told = await context.projectAccess(machine, async access => {
      try {
        return await prepareThrough(target, begun, access)
      } finally {
        await leaveGit(target, access, begun.path)
      }
    })
    return clauses(ticket, told)
  } catch (error) {
    if (caller.signal.aborted) throw cancelled(ticket, error)
    const reason = sentenceOf(failureOf(error, `preparing ${begun.repo}`))
    const problem = `${reason}. To try again: agent-swarm create ${ticket}`
    record(target, { ...(context.registry.project(ticket) ?? begun), problem })
    return [`The project is not complete: ${problem}`]
  }
}
