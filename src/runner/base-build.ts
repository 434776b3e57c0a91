/** Builds a base image. */
import { randomBytes } from 'node:crypto'
import type { BaseManifest, BuildBase, Provider } from '../../providers/provider.ts'
import { fail } from '../errors.ts'
import type { Requester } from '../schema/action.ts'
import type { RunnerContext } from './context.ts'
import { openSource, type SourceTools, type Wanted } from './images/source.ts'
import { guestForBuild } from './ssh/guest.ts'
import { openTemporaryMachines, removeDeadMachines } from './temporary-machines.ts'

type Request = Pick<BuildBase, 'name' | 'setup'> &
  Omit<SourceTools, 'home'> & {
    wanted: Wanted
    by: Requester
  }

/** Removes first what a killed build left. */
export const buildBaseImage = async (
  context: RunnerContext,
  provider: Provider,
  { by, wanted, onBytes, onNote, ...request }: Request,
): Promise<BaseManifest> => {
  const { home, run } = context
  if (provider.buildBase === undefined) throw fail('unsupported', `${provider.name} needs no base image`)
  await removeDeadMachines(context)
  const machines = openTemporaryMachines(context, provider, { purpose: 'base', kind: 'build-base', by })
  const newMachine = () => machines.newMachine('base')
  const guest = await guestForBuild(run, home, `build-${randomBytes(4).toString('hex')}`, request.signal)
  const { signal, onPhase } = request
  const source = openSource(wanted, { home, signal, onPhase, onBytes, onNote })
  let isBuilt = false
  try {
    const manifest = await provider.buildBase({ ...request, from: source.from, newMachine, guest: guest.access })
    isBuilt = true
    await machines.end('done')
    return manifest
  } catch (error) {
    // The build's own failure says more than that of cleaning up.
    await machines.end('failed').catch(() => {})
    throw error
  } finally {
    source.end(isBuilt)
    guest.forget()
  }
}
