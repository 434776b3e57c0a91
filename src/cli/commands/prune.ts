/** Housekeeping: shows what nobody needs any more, and removes it when the person says so. */
import type { Pruned, PrunePlan } from '../../runner/prune/prune.ts'
import type { PruneItem } from '../../schema/prune.ts'
import { counted } from '../../words.ts'
import { cliUser } from '../change.ts'
import { isAgreed } from '../terminal/confirm.ts'
import {
  type Invocation,
  print,
  printFailure,
  printJson,
  printNote,
  type RunCommand,
  stripControls,
} from '../terminal/output.ts'
import { openProgress } from '../terminal/progress.ts'
import { table } from '../terminal/table.ts'
import { size } from '../terminal/text.ts'
import { withRunnerContext } from '../with-context.ts'

const sumOf = (items: readonly PruneItem[]): number => items.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0)

const itemTable = (why: string, items: readonly PruneItem[], { terminal }: Invocation): string =>
  table(
    ['WHAT', { title: 'NAME', whole: true }, { title: 'SIZE', whole: true }, why],
    items.map(({ kind, name, bytes, reason }) => [kind, stripControls(name), size(bytes), stripControls(reason)]),
    terminal,
  )

const showPlan = ({ prunable, kept, unread }: PrunePlan, invocation: Invocation): void => {
  const { quiet, terminal } = invocation
  for (const { provider, message } of unread)
    printNote(`${message}\nWhat ${provider} has is left out, and so are host keys.`, terminal)
  if (prunable.length > 0) print(itemTable('WHY IT MAY GO', prunable, invocation), terminal)
  if (kept.length > 0 && !quiet) printNote(`\nKept:\n${itemTable('WHY', kept, invocation)}`, terminal)
  if (prunable.length > 0) print(`\n${counted(prunable.length, 'item')}, ${size(sumOf(prunable))} in total.`, terminal)
  else if (!quiet) printNote('Nothing to prune.', terminal)
}

const showPruned = ({ removed, failed }: Pruned, { quiet, terminal }: Invocation): void => {
  for (const { name, rescued } of removed) if (rescued !== null) print(`${name}: ${stripControls(rescued)}`, terminal)
  for (const { failure } of failed) printFailure('prune', failure, terminal)
  if (!quiet)
    printNote(
      `Removed ${counted(removed.length, 'item')}, ${size(sumOf(removed))}.${failed.length > 0 ? ` Kept ${failed.length} after all.` : ''}`,
      terminal,
    )
}

const bare = ({ kind, name, bytes, reason }: PruneItem): PruneItem => ({ kind, name, bytes, reason })

export const run: RunCommand = invocation =>
  withRunnerContext(invocation, async context => {
    const { json, signal, terminal } = invocation
    const [{ planPrune, prune }, { recoverAll }] = await Promise.all([
      import('../../runner/prune/prune.ts'),
      import('../../runner/recovery.ts'),
    ])
    const plan = await planPrune(context)
    if (!json) showPlan(plan, invocation)
    const agreed = plan.prunable.length > 0 && (await isAgreed('Remove these?', invocation))
    const progress = agreed ? openProgress(invocation) : null
    if (agreed) await recoverAll(context)
    const planned: Pruned = { removed: plan.prunable.map(item => ({ ...bare(item), rescued: null })), failed: [] }
    const pruned = agreed
      ? await prune(plan.prunable, { by: cliUser(), signal, onPhase: phase => progress?.phase(phase) }).finally(() =>
          progress?.end(true),
        )
      : planned
    if (json)
      printJson<'prune'>(
        {
          result: agreed ? 'done' : 'planned',
          bytes: sumOf(pruned.removed),
          ...pruned,
          ...{ kept: plan.kept, unread: plan.unread },
        },
        terminal,
      )
    else if (agreed) showPruned(pruned, invocation)
    else if (plan.prunable.length > 0)
      printNote('Nothing was removed. To remove these: agent-swarm prune --yes', terminal)
    return plan.unread.length + pruned.failed.length > 0 ? 1 : 0
  })
