/** The project of a machine that has no ticket yet: cloned, set up and started. What is left to do has to do with the ticket. */
import { fail } from '../../errors.ts'
import type { ProjectAccess } from '../project/access.ts'
import { cloneRepository } from '../project/clone.ts'
import { copyFiles } from '../project/files.ts'
import { firstPath, moveProject, type Preparing, readPlan } from '../project/project.ts'
import { beginStart, installSteps, runSetup, waitForStart } from '../project/steps.ts'
import type { Plan } from '../project/workspace.ts'

/** For git in the machine, until it has a ticket. */
const NOBODY = 'pool'

/** A step that fails here would fail in every machine that is taken from the pool. */
const requireDone = (what: string, repo: string, { state, exit }: { state: string; exit: number | null }): void => {
  if (state !== 'failed') return
  throw fail(
    'refused',
    `keeping machines of ${repo} ready: ${what} failed${exit === null ? '' : ` with exit status ${exit}`}`,
    'A machine that is created shows its output: agent-swarm logs TICKET',
  )
}

const setUp = async (machine: Preparing, repo: string, plan: Plan): Promise<void> => {
  const { context, caller } = machine
  const options = { signal: caller.signal, clock: context.clock }
  await installSteps(machine, plan, caller.signal, { again: false })
  if (plan.setup !== null) {
    caller.onPhase('setup')
    requireDone('setup', repo, await runSetup(machine, plan.path, plan.setup, { ...options, onLost: async () => {} }))
  }
  if (plan.start === null) return
  caller.onPhase('start of the project')
  requireDone('start', repo, await beginStart(machine, plan.path, plan.start, options))
  // Its memory is kept as it is then: every machine that is taken goes on from there.
  caller.onPhase('ports of the project')
  requireDone('start', repo, await waitForStart(machine, plan, plan.start, options))
}

/** Returns the project's folder in the machine. */
export const preparePooled = async (machine: Preparing, repo: string, access: ProjectAccess): Promise<string> => {
  const { caller, provider } = machine
  const first = firstPath(machine, repo)
  caller.onPhase('clone')
  await cloneRepository(machine, access, { ticket: NOBODY, repo, branch: null, path: first }, caller.signal)
  const plan = await readPlan(machine, access, repo, first)
  const { path } = plan
  if (path !== first) await moveProject(machine, first, path)
  await copyFiles(machine, { repo, path }, { onlyMissing: false, signal: caller.signal })
  if (provider.ownSystem !== true) await setUp(machine, repo, plan)
  return path
}
