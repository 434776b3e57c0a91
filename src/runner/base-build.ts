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
  Omit<SourceTools, 'home' | 'beginning'> & {
    wanted: Wanted
    by: Requester
  }

type Build = {
  make(request: Omit<BuildBase, 'from'>): Promise<BaseManifest>
  /** Lets go of what was downloaded. */
  end(isBuilt: boolean): void
}

/** Fails with `unsupported` when the provider cannot. */
const openBuild = ({ name, buildBase, takeBase }: Provider, wanted: Wanted, tools: SourceTools): Build => {
  if (buildBase === undefined) throw fail('unsupported', `${name} needs no base image`)
  if (wanted.kind !== 'registry') {
    const { from, end } = openSource(wanted, tools)
    return { make: request => buildBase({ ...request, from }), end }
  }
  if (takeBase === undefined)
    throw fail('unsupported', `${name} takes no base image from a registry`, 'Name a file or an address: --from FILE')
  const { reference } = wanted
  return { make: request => takeBase({ ...request, reference }), end: () => {} }
}

/** Removes first what a killed build left. */
export const buildBaseImage = async (
  context: RunnerContext,
  provider: Provider,
  { by, wanted, onBytes, onNote, ...request }: Request,
): Promise<BaseManifest> => {
  const { home, run } = context
  const { signal, onPhase } = request
  const { beginning } = provider
  const build = openBuild(provider, wanted, { home, signal, onPhase, onBytes, onNote, beginning })
  await removeDeadMachines(context)
  const machines = openTemporaryMachines(context, provider, { purpose: 'base', kind: 'build-base', by })
  const newMachine = () => machines.newMachine('base')
  const openGuest = () => guestForBuild(run, home, `build-${randomBytes(4).toString('hex')}`, signal)
  const guest = await openGuest()
  const proofGuest = await openGuest().catch(error => {
    guest.forget()
    throw error
  })
  let isBuilt = false
  try {
    const manifest = await build.make({ ...request, newMachine, guest: guest.access, proofGuest: proofGuest.access })
    isBuilt = true
    await machines.end('done')
    return manifest
  } catch (error) {
    // The build's own failure says more than that of cleaning up.
    await machines.end('failed').catch(() => {})
    throw error
  } finally {
    build.end(isBuilt)
    guest.forget()
    proofGuest.forget()
  }
}
