/** Looks at the project in a machine that runs. */
import { is } from 'valibot'
import type { ProjectRow } from '../../registry/registry.ts'
import { branchName } from '../../schema/basics.ts'
import type { Target } from '../operation.ts'
import { copyFiles } from './files.ts'
import { lookAtSteps, parseStep } from './steps.ts'

/** Copies the operator's files where they are missing. What has no setup or start in the machine is as it was. */
export const readProject = async (target: Target, project: ProjectRow): Promise<ProjectRow> => {
  const { context, caller } = target
  await copyFiles(target, project, { onlyMissing: true, signal: caller.signal })
  const { branch, setup, start } = await lookAtSteps(target, project.path, {}, caller.signal)
  const now = context.clock()
  const step = (text: string | null, known: ProjectRow['setup']) =>
    text === null ? known : parseStep(text, known?.source ?? 'the machine', now)
  return {
    ...project,
    branch: is(branchName, branch) ? branch : null,
    setup: step(setup, project.setup),
    start: step(start, project.start),
  }
}
