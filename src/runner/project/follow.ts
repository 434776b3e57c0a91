/** What is known of a project follows what its machine has. A machine without one is not asked, and loads nothing for it. */
import { failureOf } from '../../errors.ts'
import type { Target } from '../operation.ts'

/**
 * After a start or a restore: the branch, how setup and start ended, and the operator's files where they are missing. Nothing is
 * cloned or set up again. What cannot be asked stays as it was known.
 */
export const followProject = async (target: Target): Promise<void> => {
  const { caller, context, row } = target
  const project = context.registry.project(row.ticket)
  if (project === null) return
  try {
    const { readProject } = await import('./read.ts')
    context.registry.setProject(row.ticket, await readProject(target, project))
  } catch (error) {
    if (caller.signal.aborted) throw error
    caller.onPhase(`the project could not be looked at: ${failureOf(error, 'looking at it').message}`)
  }
}
