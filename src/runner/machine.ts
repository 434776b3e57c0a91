/** Observing a machine, and moving it towards the desired state. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Provider } from '../../providers/provider.ts'
import { type FailureError, fail, failureOf, isFailure } from '../errors.ts'
import type { Desired, EnvironmentRow } from '../registry/registry.ts'
import { makeAgain } from '../words.ts'
import type { RunnerContext } from './context.ts'
import { nextStep, type Observed, type Step } from './lifecycle.ts'
import { type Target, throwIfCancelled } from './operation.ts'
import { unsavedWorkScript } from './rescue/scripts.ts'
import { isNothingUnsaved, parseUnsavedWork, type UnsavedWorkReport } from './rescue/unsaved-work.ts'
import { putGuestFiles, runInGuest, waitForGuest } from './ssh/guest.ts'
import { forgetHostKey, forgetPrivateHalf, hostKeyOfCreate, loginKey } from './ssh/keys.ts'
import { putPeopleKeys } from './ssh/people-keys.ts'

/** The script searches all home directories of the machine for repositories. */
const UNSAVED_WORK_DEADLINE_MS = 60_000
/** Characters: a line of at most 250 for each of 200 repositories. */
const MAX_UNSAVED_WORK = 100_000
const WAIT_MS = 250
/** How long a hypervisor may report `creating`, or a state that its last step should have changed. */
const CREATING_DEADLINE_MS = 5 * 60_000

export const observe = async (
  provider: Provider,
  row: EnvironmentRow,
): Promise<Exclude<Observed, 'stuck' | 'held' | 'taken'>> => {
  try {
    return await provider.status(row.vmId)
  } catch (error) {
    if (isFailure(error) && error.failure.kind === 'no-such-vm') return row.status === 'creating' ? 'unmade' : 'gone'
    throw error
  }
}

/** The hypervisor's reason why the machine is paused; null when it is not. */
export const pausedReason = async (
  provider: Provider,
  { vmId }: Pick<EnvironmentRow, 'vmId'>,
): Promise<string | null> => (await provider.listVms()).find(vm => vm.vmId === vmId)?.paused ?? null

export const machineGone = (row: Pick<EnvironmentRow, 'ticket' | 'vmId'>): FailureError =>
  fail(
    'no-such-vm',
    `${row.ticket}: its machine ${row.vmId} no longer exists, and agent-swarm did not delete it`,
    `Make a new one: ${makeAgain(row.ticket)}. Or forget it: agent-swarm delete ${row.ticket} --force`,
  )

/** Deletes the row last, so that a crash leaves an owner for what remains. */
export const forgetEnvironment = ({ home, registry }: RunnerContext, row: EnvironmentRow): void => {
  forgetHostKey(home, row.vmId)
  registry.remove(row.ticket)
}

/** "Nothing unsaved" was found when the machine stopped; once it runs, that is unknown again. */
const clearUnsavedWork = ({ registry }: RunnerContext, { ticket, unsavedWork }: EnvironmentRow): void => {
  if (unsavedWork !== null && isNothingUnsaved(unsavedWork)) registry.setUnsavedWork(ticket, null)
}

/** Records the observed status of a machine that was created. One whose creation failed stays `failed`. */
export const recordObserved = (context: RunnerContext, row: EnvironmentRow, observed: 'running' | 'stopped'): void => {
  if (row.status === 'failed') return
  if (observed === 'running') clearUnsavedWork(context, row)
  context.registry.setStatus(row.ticket, observed)
}

/** Notes what the machine shall be. A clock that only follows that changes nobody's wish. */
export const want = ({ context, row, by }: Target, desired: Desired): void => {
  if (by.via !== 'clock' || row.desired !== desired) context.registry.setDesired(row.ticket, desired, by)
}

const take = {
  create: async ({ context, caller, provider, row, size = context.config.size }) => {
    const { ticket, vmId, baseImage } = row
    const [publicKey, hostKey] = await Promise.all([
      loginKey(context.run, context.home),
      hostKeyOfCreate(context.run, context.home, vmId),
    ])
    await provider.createVm(ticket, baseImage, { vmId, ...size, publicKey, hostKey }, caller.onPhase)
  },
  start: async ({ context, caller, provider, row, coldStart = false }) => {
    caller.onPhase('start')
    // Before it runs, so that a crash leaves no earlier finding about a machine that has run since.
    clearUnsavedWork(context, row)
    try {
      await provider.startVm(row.vmId, { cold: coldStart })
    } catch (error) {
      // Nobody can have worked in it: what was found before still holds.
      if ((await observe(provider, row).catch(() => null)) === 'stopped')
        context.registry.setUnsavedWork(row.ticket, row.unsavedWork)
      throw error
    }
  },
  resume: async ({ caller, provider, row }) => {
    caller.onPhase('resume')
    await provider.startVm(row.vmId)
  },
  stop: async ({ caller, provider, row }) => {
    caller.onPhase('stop')
    await provider.stopVm(row.vmId)
  },
  delete: async ({ context, caller, provider, row }) => {
    caller.onPhase('delete')
    context.registry.setStatus(row.ticket, 'deleting')
    await provider.deleteVm(row.vmId)
    forgetEnvironment(context, row)
  },
  forget: async ({ context, provider, row }) => {
    // Its disks may exist without it.
    await provider.deleteVm(row.vmId)
    forgetEnvironment(context, row)
  },
  lose: async ({ context, row }) => {
    context.registry.setStatus(row.ticket, 'lost')
    throw machineGone(row)
  },
  wait: async ({ caller }) => {
    await delay(WAIT_MS, undefined, { signal: caller.signal }).catch(() => {
      throw fail('cancelled', 'waiting for the hypervisor: cancelled')
    })
  },
  none: async () => {},
} satisfies Record<Step, (target: Target) => Promise<void>>

const FINAL_STEPS: readonly Step[] = ['none', 'delete', 'forget']

/** Takes steps of the lifecycle table until the desired state is observed. A step has a deadline of its own, in its provider. */
export const converge = async (target: Target, desired: Desired): Promise<void> => {
  const { provider, row } = target
  const taken = new Set<Step>(['wait'])
  let deadline = performance.now() + CREATING_DEADLINE_MS
  while (true) {
    await throwIfCancelled(target)
    const step = nextStep[desired][await observe(provider, row)]
    const isRepeated = taken.has(step)
    if (isRepeated && performance.now() > deadline)
      throw fail(
        'timeout',
        `${row.ticket}: ${row.vmId} did not become ${desired} within ${CREATING_DEADLINE_MS / 60_000} minutes`,
        `See its state: agent-swarm status ${row.ticket}`,
      )
    await take[step](target)
    if (FINAL_STEPS.includes(step)) return
    if (isRepeated) continue
    taken.add(step)
    deadline = performance.now() + CREATING_DEADLINE_MS
  }
}

/**
 * Waits until the guest answers, and records its address. `deadline`: milliseconds; by default what a boot may take. Returns notes for
 * the summary: sentences without the last full stop.
 */
export const waitUntilReady = async (
  target: Target,
  deadline = target.context.config.bootMinutes * 60_000,
): Promise<string[]> => {
  const { context, caller, provider, row } = target
  caller.onPhase('address')
  const answered = await waitForGuest(context, provider, row.vmId, {
    signal: caller.signal,
    deadline,
    onAddress: () => caller.onPhase('ssh'),
  })
  // A guest that is not reached over SSH gave no answer.
  if (answered === null) await throwIfCancelled(target)
  // From here on people may work in it: a create is no longer undone.
  context.registry.setAddress(row.ticket, answered?.ssh ?? null)
  context.registry.setStatus(row.ticket, 'running')
  forgetPrivateHalf(context.home, row.vmId)
  await throwIfCancelled(target)
  const notes: string[] = []
  /** The machine is of use without it. */
  const unlessItFails = (work: Promise<void>, tell: (reason: string) => void) =>
    work.catch(error => {
      if (caller.signal.aborted) throw error
      tell(failureOf(error, 'putting it in').message)
    })
  // The link tries again.
  if (answered?.hasOurFiles === false)
    await unlessItFails(putGuestFiles(context, provider, row.vmId, caller.signal), reason =>
      caller.onPhase(`swarm is not in the machine: ${reason}`),
    )
  // Nobody tries again, and a key that was removed from the setting still opens the machine.
  await unlessItFails(putPeopleKeys(context, provider, row.vmId, caller.signal), reason =>
    notes.push(`The keys of people (authorizedKeys) in it are those that it had before: ${reason}`),
  )
  return notes
}

export const shutDown = async (target: Target): Promise<void> => {
  const { context, row } = target
  await converge(target, 'stopped')
  recordObserved(context, row, 'stopped')
  context.registry.setAddress(row.ticket, null)
}

/** `mergedCommits`: commits of merged pull requests, which are saved on GitHub. */
export const findUnsavedWork = async (
  { context, caller, provider, row }: Target,
  mergedCommits: readonly string[] = [],
): Promise<UnsavedWorkReport> => {
  caller.onPhase('looking for unsaved work')
  // An earlier result is about another time.
  context.registry.setUnsavedWork(row.ticket, null)
  try {
    const options = { deadline: UNSAVED_WORK_DEADLINE_MS, signal: caller.signal, maxOutput: MAX_UNSAVED_WORK }
    const script = unsavedWorkScript(mergedCommits, context.registry.project(row.ticket))
    return parseUnsavedWork((await runInGuest(context, provider, row.vmId, script, options)).stdout)
  } catch (error) {
    const failure = failureOf(error, 'running a script in the machine')
    if (failure.kind === 'cancelled') throw error
    const paused = await pausedReason(provider, row).catch(() => null)
    return { known: false, reason: paused === null ? failure.message : `the machine is paused (${paused})` }
  }
}

/** Something is left half-done in spite of everything. It is reported as it is, after a cancellation too. */
export const partialFailure = (doing: string, error: unknown, remedy: string): FailureError =>
  Object.assign(fail('unknown', `${doing}: ${failureOf(error, 'removing it').message}`, remedy, error), {
    halfDone: true,
  })
export const isPartialFailure = (error: unknown): boolean => error instanceof Error && 'halfDone' in error

/** Undoes a create that did not finish. A machine that cannot be removed is marked `failed`, and reported. */
export const undoCreate = async ({ context, provider, row }: Target): Promise<void> => {
  try {
    await provider.deleteVm(row.vmId)
    forgetEnvironment(context, row)
  } catch (error) {
    context.registry.setStatus(row.ticket, 'failed')
    throw partialFailure(
      `undoing the create of ${row.ticket}`,
      error,
      `Try again: agent-swarm delete ${row.ticket} --force`,
    )
  }
}
