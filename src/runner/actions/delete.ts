/** Deletes a machine with its disk and its checkpoints. The work in it is saved first, or it is kept. */
import type { Provider } from '../../../providers/provider.ts'
import { fail, failureOf } from '../../errors.ts'
import type { EnvironmentRow } from '../../registry/registry.ts'
import type { RunnerContext } from '../context.ts'
import {
  converge,
  findUnsavedWork,
  forgetEnvironment,
  observe,
  partialFailure,
  shutDown,
  waitUntilReady,
} from '../machine.ts'
import { type ActionRunner, earlierAttempts, type Operation, throwIfCancelled } from '../operation.ts'
import { describeUnsavedWork, isNothingUnsaved, toUnsavedWork, type UnsavedWorkReport } from '../rescue/unsaved-work.ts'
import { openGuest } from '../ssh/guest.ts'

const SAVE_DEADLINE_MS = 30 * 60_000

/** What is known of the work in a machine that shall be deleted. One that is stopped, with work in it, is started for that. */
const findBeforeDelete = async (
  work: Operation,
  provider: Provider,
  row: EnvironmentRow,
): Promise<UnsavedWorkReport> => {
  const observed = await observe(provider, row)
  if (observed === 'gone' || observed === 'unmade') return { known: true, repositories: [] }
  if (observed === 'running') return findUnsavedWork(work, provider, row)
  const earlier = row.workAtRisk
  if (earlier === null) return { known: false, because: 'the machine is stopped, and was not asked before' }
  if (!earlier.known) return earlier
  if (isNothingUnsaved(earlier)) return { known: true, repositories: [] }
  work.asked.onPhase('starting it to save its work')
  await converge(work, provider, row, 'running')
  await waitUntilReady(work, provider, row)
  return findUnsavedWork(work, provider, row)
}

/** A path of ours as it is told: published too, where nobody needs to know whose home it is. */
const underHome = ({ config }: RunnerContext, path: string): string => {
  const { HOME } = config.environment
  return HOME !== undefined && path.startsWith(`${HOME}/`) ? `~${path.slice(HOME.length)}` : path
}

/** Null when there was nothing to save; otherwise what was, as a clause. Throws when it is not known, or not saved. */
const saveBeforeDelete = async (work: Operation, provider: Provider, row: EnvironmentRow): Promise<string | null> => {
  const { world, asked, by } = work
  const found = await findBeforeDelete(work, provider, row)
  if (isNothingUnsaved(found)) return null
  world.registry.setWorkAtRisk(row.ticket, toUnsavedWork(found))
  if (!found.known) throw fail('unsaved-work', describeUnsavedWork(found))
  const { rescue } = await import('../rescue/rescue.ts')
  const guest = openGuest(world.run, world.home)
  const folder = await rescue(world, row, found.repositories, {
    by,
    signal: asked.signal,
    onPhase: asked.onPhase,
    stream: (script, into) =>
      guest.stream(provider, row.vmId, script, { into, deadline: SAVE_DEADLINE_MS, signal: asked.signal }),
  })
  return `its unsaved work (${describeUnsavedWork(found)}) is kept in ${underHome(world, folder)}`
}

export const deleteEnvironment: ActionRunner<'delete'> = async (work, { ticket, force, by }) => {
  const { world, operation, asked } = work
  const row = world.registry.environment(ticket)
  const earlier = earlierAttempts(work).at(-1)
  let kept = earlier?.detail.kept ?? null
  const detail = () => ({ force, ...(kept === null ? {} : { kept }) })
  const said = () =>
    `${ticket} is deleted: its machine, its disk and its checkpoints are gone${kept === null ? '' : `; ${kept}`}`
  if (row === null) return kept === null ? { skipped: `${ticket} has no environment` } : { said: said(), kept }
  const provider = await world.provider(row.provider)
  const decided = earlier?.detail.reached === 'decided' && row.status === 'deleting' && row.desired === 'absent'
  // That it failed was told, and people may have gone on working in it.
  const cleared = decided && (earlier.result === 'interrupted' || (await observe(provider, row)) !== 'running')
  if (!force && !cleared) {
    world.registry.setDetail(operation, detail())
    try {
      const saved = await saveBeforeDelete(work, provider, row)
      kept = [kept, saved].filter(one => one !== null).join('; ') || null
    } catch (error) {
      const { kind, message } = failureOf(error, 'saving its work')
      if (asked.signal.aborted || kind === 'cancelled') throw error
      world.registry.setDesired(ticket, 'stopped', by)
      await shutDown(work, provider, row)
      const risk = world.registry.environment(ticket)?.workAtRisk ?? null
      const what =
        risk?.known === true && !isNothingUnsaved(risk)
          ? `${describeUnsavedWork(risk)}, which could not be saved: `
          : ''
      throw fail(
        'unsaved-work',
        `${ticket} is kept and stopped: ${what}${message}`,
        `agent-swarm start ${ticket} to look after it, or agent-swarm delete ${ticket} --force, which saves nothing.`,
        error,
      )
    }
  }
  await throwIfCancelled(work)
  // From here on the delete is decided: after a crash it goes on without asking again.
  world.registry.setDetail(operation, { ...detail(), reached: 'decided' })
  world.registry.setDesired(ticket, 'absent', by)
  world.registry.setStatus(ticket, 'deleting')
  try {
    await converge(work, provider, row, 'absent')
  } catch (error) {
    if (!asked.signal.aborted) throw error
    // Who lets go of it now does not want half a machine either.
    await provider.deleteVm(row.vmId).catch(ending => {
      throw partialFailure(
        `deleting ${ticket}, which was begun`,
        ending,
        `agent-swarm delete ${ticket} --force tries it again.`,
      )
    })
    forgetEnvironment(world, row)
  }
  return { said: said(), kept: kept ?? undefined }
}
