/** Checks a host, with the way on for each problem; and makes a registry from what the hypervisors have. */
import { type Check, hasError } from '../../check.ts'
import { fail } from '../../errors.ts'
import type { RebuildPlan } from '../../runner/reconciler/rebuild.ts'
import { counted } from '../../words.ts'
import { checkLine } from '../terminal/checks.ts'
import { type Invocation, print, printJson, printNote, type RunCommand } from '../terminal/output.ts'
import { table } from '../terminal/table.ts'

const USAGE = 'Usage: agent-swarm doctor [--selftest | --rebuild-registry [--home-id ID] [--yes]]'

const showChecks = (checks: readonly Check[], invocation: Invocation): void => {
  const { json, quiet, terminal } = invocation
  if (json) printJson<'doctor'>({ checks: [...checks] }, terminal)
  else for (const check of checks) if (!quiet || check.status !== 'ok') print(checkLine(check, invocation), terminal)
  const count = (status: Check['status']) => checks.filter(check => check.status === status).length
  if (!json && !quiet)
    printNote(`${counted(count('error'), 'problem')}, ${counted(count('warning'), 'warning')}.`, terminal)
}

const examine = async (invocation: Invocation): Promise<number> => {
  const { json, quiet, terminal } = invocation
  const { examine } = await import('../../doctor/doctor.ts')
  if (!json && !quiet && terminal.stderr.isTTY === true) printNote('Checking this host…', terminal)
  const checks = await examine(await invocation.config(), invocation.signal)
  showChecks(checks, invocation)
  return hasError(checks) ? 1 : 0
}

// ── The registry ──

const CANNOT_LOG_IN = 'no: this home does not have its keys'
const showPlan = (plan: RebuildPlan, isDone: boolean, { json, quiet, terminal }: Invocation): void => {
  const { homeId, machines, unread, would } = plan
  for (const { provider, message } of unread)
    printNote(`${message}\nThe machines of ${provider} are left out.`, terminal)
  if (json) {
    printJson<'doctor'>({ result: isDone ? 'done' : 'planned', ...plan }, terminal)
    return
  }
  if (machines.length > 0)
    print(
      table(
        [{ title: 'TICKET', whole: true }, { title: 'MACHINE', whole: true }, 'PROVIDER', 'STATE', 'LOGIN', 'NOTE'],
        machines.map(({ ticket, vmId, provider, status, canLogIn, kept }) => [
          ...[ticket ?? '-', vmId, provider, status],
          canLogIn ? 'yes' : CANNOT_LOG_IN,
          kept === null ? '' : `left as it is: ${kept}`,
        ]),
        terminal,
      ),
      terminal,
    )
  if (quiet) return
  const adopted = machines.filter(({ kept }) => kept === null).length
  const steps = [...would, ...(adopted === 0 ? [] : [`record ${counted(adopted, 'machine')} of the home ${homeId}`])]
  if (steps.length === 0) printNote('The registry is whole, and has all machines of this home.', terminal)
  else if (isDone) printNote(`Done: ${steps.join(', and ')}.`, terminal)
  else
    printNote(
      `This would ${steps.join(', and ')}.\nNothing was changed. Stop agent-swarm up and runner of this home first, then do it with --yes.`,
      terminal,
    )
}

const rebuildRegistry = async (invocation: Invocation): Promise<number> => {
  const { flags } = invocation
  const { planRebuild, rebuild } = await import('../../runner/reconciler/rebuild.ts')
  const request = { homeId: typeof flags['home-id'] === 'string' ? flags['home-id'] : null }
  const isDone = flags.yes === true
  const plan = await (isDone ? rebuild : planRebuild)(await invocation.config(), request)
  showPlan(plan, isDone, invocation)
  return plan.unread.length > 0 ? 1 : 0
}

export const run: RunCommand = invocation => {
  const { flags } = invocation
  if (flags.selftest === true) return import('../selftest.ts').then(({ showSelftest }) => showSelftest(invocation))
  if (flags['rebuild-registry'] === true || typeof flags['home-id'] === 'string') return rebuildRegistry(invocation)
  if (flags.yes === true) throw fail('usage', '--yes needs --rebuild-registry', USAGE)
  return examine(invocation)
}
