/** Seeing a machine, and moving it towards what is wanted. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Provider } from '../../providers/provider.ts'
import { fail, failureOf, isFailure } from '../errors.ts'
import type { EnvironmentRow } from '../registry/registry.ts'
import type { RunnerContext } from './context.ts'
import { type Desired, nextStep, type Observed, type Step } from './lifecycle.ts'
import { type Operation, throwIfCancelled } from './operation.ts'
import { isNothingUnsaved, parseUnsavedWork, type UnsavedWorkReport, unsavedWorkScript } from './rescue/unsaved-work.ts'
import { forgetHostKey, loginKey, openGuest, pinnedHostKey } from './ssh/guest.ts'

/** The whole of its homes is looked through for repositories. */
const WORK_AT_RISK_DEADLINE_MS = 60_000
const WAIT_MS = 250
/** Milliseconds that a hypervisor may be "creating" before we say that it hangs. */
const CREATING_DEADLINE_MS = 5 * 60_000

export const observe = async (provider: Provider, row: EnvironmentRow): Promise<Observed> => {
  try {
    return await provider.status(row.vmId)
  } catch (error) {
    if (isFailure(error) && error.failure.kind === 'no-such-vm') return row.status === 'creating' ? 'unmade' : 'gone'
    throw error
  }
}

export const machineGone = (row: EnvironmentRow) =>
  fail(
    'no-such-vm',
    `${row.ticket}: its machine ${row.vmId} is gone, and nothing here deleted it`,
    `agent-swarm delete ${row.ticket} --force forgets it; agent-swarm create ${row.ticket} makes a new one after that.`,
  )

/** Its row goes last: what is left before that is still somebody's. */
export const forgetEnvironment = (world: RunnerContext, row: EnvironmentRow) => {
  forgetHostKey(world.home, row.vmId)
  world.registry.remove(row.ticket)
}

/** That nothing was at risk in a machine that was off is not known any more, once it runs. */
const runsAgain = (world: RunnerContext, { ticket, workAtRisk }: EnvironmentRow) => {
  if (workAtRisk !== null && isNothingUnsaved(workAtRisk)) world.registry.setWorkAtRisk(ticket, null)
}

/** Notes what is seen of a machine that was made. One that was not stays what it is. */
export const recordObserved = (world: RunnerContext, row: EnvironmentRow, observed: 'running' | 'stopped') => {
  if (row.status === 'failed') return
  if (observed === 'running') runsAgain(world, row)
  world.registry.setStatus(row.ticket, observed)
}

const take = {
  create: async ({ world, asked, size = world.config.size }, provider, row) => {
    const [publicKey, hostKey] = await Promise.all([
      loginKey(world.run, world.home),
      pinnedHostKey(world.run, world.home, row.vmId),
    ])
    await provider.createVm(row.ticket, row.baseImage, { vmId: row.vmId, ...size, publicKey, hostKey }, asked.onPhase)
  },
  start: async ({ world, asked }, provider, row) => {
    asked.onPhase('start')
    runsAgain(world, row)
    await provider.startVm(row.vmId)
  },
  stop: async ({ asked }, provider, row) => {
    asked.onPhase('stop')
    await provider.stopVm(row.vmId)
  },
  delete: async ({ world, asked }, provider, row) => {
    asked.onPhase('delete')
    world.registry.setStatus(row.ticket, 'deleting')
    await provider.deleteVm(row.vmId)
    forgetEnvironment(world, row)
  },
  forget: async ({ world }, provider, row) => {
    // Its disks may be there without it.
    await provider.deleteVm(row.vmId)
    forgetEnvironment(world, row)
  },
  lose: async ({ world }, _provider, row) => {
    world.registry.setStatus(row.ticket, 'lost')
    throw machineGone(row)
  },
  wait: async ({ asked }) => {
    await delay(WAIT_MS, undefined, { signal: asked.signal }).catch(() => {
      throw fail('cancelled', 'waiting for the hypervisor: cancelled')
    })
  },
  none: async () => {},
} satisfies Record<Step, (work: Operation, provider: Provider, row: EnvironmentRow) => Promise<void>>

const SETTLED: readonly Step[] = ['none', 'delete', 'forget']

/** Takes step after step of the lifecycle table until what is wanted is seen. */
export const converge = async (
  work: Operation,
  provider: Provider,
  row: EnvironmentRow,
  desired: Desired,
): Promise<void> => {
  const until = performance.now() + CREATING_DEADLINE_MS
  while (true) {
    await throwIfCancelled(work)
    const step = nextStep[desired][await observe(provider, row)]
    await take[step](work, provider, row)
    if (SETTLED.includes(step)) return
    if (performance.now() > until)
      throw fail('timeout', `${row.ticket}: ${row.vmId} does not become ${desired}`, 'Try: agent-swarm status')
  }
}

/** Waits for the guest's own answer, and notes where it is. */
export const waitUntilReady = async (work: Operation, provider: Provider, row: EnvironmentRow): Promise<void> => {
  const { world, asked } = work
  asked.onPhase('address')
  const ssh = await openGuest(world.run, world.home).ready(provider, row.vmId, undefined, asked.signal, () =>
    asked.onPhase('ssh'),
  )
  await throwIfCancelled(work)
  world.registry.setAddress(row.ticket, ssh)
  world.registry.setStatus(row.ticket, 'running')
}

export const shutDown = async (work: Operation, provider: Provider, row: EnvironmentRow): Promise<void> => {
  await converge(work, provider, row, 'stopped')
  recordObserved(work.world, row, 'stopped')
  work.world.registry.setAddress(row.ticket, null)
}

export const findUnsavedWork = async (
  { world, asked }: Operation,
  provider: Provider,
  row: EnvironmentRow,
): Promise<UnsavedWorkReport> => {
  asked.onPhase('looking for work at risk')
  // What was found before is about another time.
  world.registry.setWorkAtRisk(row.ticket, null)
  try {
    return parseUnsavedWork(
      await openGuest(world.run, world.home).script(
        provider,
        row.vmId,
        unsavedWorkScript,
        WORK_AT_RISK_DEADLINE_MS,
        asked.signal,
      ),
    )
  } catch (error) {
    const failure = failureOf(error, 'asking the machine')
    if (failure.kind === 'cancelled') throw error
    return { known: false, because: failure.message }
  }
}

/** What is left half-done in spite of all: told as it is, also to who let go of the action. */
export const partialFailure = (doing: string, error: unknown, remedy: string) =>
  Object.assign(fail('unknown', `${doing}: ${failureOf(error, 'removing it').message}`, remedy, error), {
    halfDone: true,
  })
export const isPartialFailure = (error: unknown): boolean => error instanceof Error && 'halfDone' in error

/** Undoes a create that did not come to its end. What cannot be undone is marked, and told. */
export const undoCreate = async (world: RunnerContext, provider: Provider, row: EnvironmentRow): Promise<void> => {
  try {
    await provider.deleteVm(row.vmId)
    forgetEnvironment(world, row)
  } catch (error) {
    world.registry.setStatus(row.ticket, 'failed')
    throw partialFailure(
      `undoing the create of ${row.ticket}`,
      error,
      `agent-swarm delete ${row.ticket} --force tries it again.`,
    )
  }
}
