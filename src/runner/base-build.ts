/** Builds a base image, and removes the machines of a build that was killed. */
import { randomBytes } from 'node:crypto'
import type { BaseManifest, BuildBase, Provider } from '../../providers/provider.ts'
import { newVmId } from '../domain.ts'
import { fail, failureOf } from '../errors.ts'
import { ifUnlocked, lockNewMachine } from '../registry/lock.ts'
import type { Requester } from '../schema/action.ts'
import type { Failure } from '../schema/failure.ts'
import type { RunnerContext } from './context.ts'
import { openSource, type SourceTools, type Wanted } from './images/source.ts'
import { guestForBuild } from './ssh/guest.ts'

const random = (): string => randomBytes(4).toString('hex')

type Request = Pick<BuildBase, 'name' | 'setup'> &
  Omit<SourceTools, 'home'> & {
    wanted: Wanted
    by: Requester
  }

/** Removes first what a killed build left. Each machine of this build is journalled, and locked by this process, before the provider creates it. */
export const buildBaseImage = async (
  context: RunnerContext,
  provider: Provider,
  { by, wanted, onBytes, onNote, ...request }: Request,
): Promise<BaseManifest> => {
  const { home, run, registry, clock } = context
  if (provider.buildBase === undefined) throw fail('unsupported', `${provider.name} needs no base image`)
  await removeDeadBuilds(context)
  const machines: { vmId: string; unlock: () => void }[] = []
  const newMachine = (): string => {
    const vmId = newVmId('base', random())
    const unlock = lockNewMachine(home, vmId)
    machines.push({ vmId, unlock })
    const at = clock().toISOString()
    registry.beginMachine({ vmId, provider: provider.name, purpose: 'base' }, { kind: 'build-base', by, at })
    return vmId
  }
  /** A machine that cannot be deleted stays in the journal, for the recovery. */
  const end = async (result: 'done' | 'failed'): Promise<void> => {
    for (const { vmId, unlock } of machines) {
      try {
        await provider.deleteVm(vmId)
        registry.endMachine(vmId, clock().toISOString(), result)
      } finally {
        unlock()
      }
    }
  }
  const guest = await guestForBuild(run, home, `build-${random()}`, request.signal)
  const { signal, onPhase } = request
  const source = openSource(wanted, { home, signal, onPhase, onBytes, onNote })
  let isBuilt = false
  try {
    const manifest = await provider.buildBase({ ...request, from: source.from, newMachine, guest: guest.access })
    isBuilt = true
    await end('done')
    return manifest
  } catch (error) {
    // The build's own failure says more than that of cleaning up.
    await end('failed').catch(() => {})
    throw error
  } finally {
    source.end(isBuilt)
    guest.forget()
  }
}

/** Deletes the machines of builds whose process died. Returns what cannot be deleted now. */
export const removeDeadBuilds = async (context: RunnerContext): Promise<{ ticket: null; failure: Failure }[]> => {
  const { home, registry, clock } = context
  const left: { ticket: null; failure: Failure }[] = []
  for (const { vmId, provider, purpose } of registry.machines()) {
    if (purpose !== 'base') continue
    try {
      await ifUnlocked(home, vmId, async () => {
        await (await context.provider(provider)).deleteVm(vmId)
        registry.endMachine(vmId, clock().toISOString(), 'interrupted')
      })
    } catch (error) {
      left.push({ ticket: null, failure: failureOf(error, `deleting ${vmId}, the machine of a build that was killed`) })
    }
  }
  return left
}
