import { type Reconciled, reconcile } from '../../runner/reconciler/reconcile.ts'
import { type Invocation, print, printFailure, printJson, printNote, type RunCommand } from '../terminal/output.ts'
import { openProgress } from '../terminal/progress.ts'
import { table } from '../terminal/table.ts'
import { withRunnerContext } from '../with-context.ts'

const show = ({ findings, unread, failed }: Reconciled, { json, quiet, terminal }: Invocation): void => {
  for (const { message } of unread) printNote(`${message}\nIts machines were not looked at.`, terminal)
  for (const { failure } of failed) printFailure('reconcile', failure, terminal)
  if (json) printJson<'reconcile'>(findings, terminal)
  else if (findings.length > 0)
    print(
      table(
        [{ title: 'TICKET', whole: true }, { title: 'MACHINE', whole: true }, 'FINDING', 'STEP'],
        findings.map(({ ticket, vmId, finding, step }) => [ticket ?? '-', vmId ?? '-', finding, step]),
        terminal,
      ),
      terminal,
    )
  else if (!quiet && unread.length === 0) printNote('Registry and hypervisor agree.', terminal)
}

export const run: RunCommand = invocation =>
  withRunnerContext(invocation, async context => {
    const { flags, signal } = invocation
    const dryRun = flags['dry-run'] === true
    const progress = dryRun ? null : openProgress(invocation)
    const onPhase = (ticket: string, phase: string) => progress?.phase(`${ticket}: ${phase}`)
    const result = await reconcile(context, { dryRun, signal, onPhase }).finally(() => progress?.end(true))
    show(result, invocation)
    return result.unread.length + result.failed.length > 0 ? 1 : 0
  })
