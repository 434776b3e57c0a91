/**
 * Machines that a command makes and removes again: those of a build and of a selftest, and those of a pool on their way in and out.
 * Each is journalled, and locked by its process, before the provider creates it; when that process dies, the next command or the
 * runner removes it.
 */
import { randomBytes } from 'node:crypto'
import type { Provider } from '../../providers/provider.ts'
import { newVmId } from '../domain.ts'
import { failureOf } from '../errors.ts'
import { ifUnlocked, lockNewMachine } from '../registry/lock.ts'
import type { MachineOperation, MachineRow } from '../registry/machines.ts'
import type { PoolMachine } from '../registry/registry.ts'
import type { Failure } from '../schema/failure.ts'
import type { RunnerContext } from './context.ts'
import { removePoolMachine } from './pool/give-up.ts'
import { forgetHostKey } from './ssh/keys.ts'

type Kept = Pick<MachineRow, 'purpose'> & Pick<MachineOperation, 'kind' | 'by'>

const WORK = { base: 'a build', selftest: 'a selftest' } as const
/** Whether nobody but its process needs it. */
const isUnfinished = ({ state }: Pick<PoolMachine, 'state'>): boolean => state === 'filling' || state === 'leaving'

/** `end` deletes them. One that cannot be deleted stays in the journal, for the recovery; `end` throws then. */
export const openTemporaryMachines = (context: RunnerContext, provider: Provider, { purpose, kind, by }: Kept) => {
  const { home, registry, clock } = context
  const machines: { vmId: string; unlock: () => void }[] = []
  return {
    newMachine: (slug: string): string => {
      const vmId = newVmId(slug, randomBytes(4).toString('hex'))
      const unlock = lockNewMachine(home, vmId)
      machines.push({ vmId, unlock })
      registry.beginMachine({ vmId, provider: provider.name, purpose }, { kind, by, at: clock().toISOString() })
      return vmId
    },
    end: async (result: 'done' | 'failed'): Promise<void> => {
      let failed: { error: unknown } | null = null
      for (const { vmId, unlock } of machines) {
        try {
          await provider.deleteVm(vmId)
          forgetHostKey(home, vmId)
          registry.endMachine(vmId, clock().toISOString(), result)
        } catch (error) {
          failed ??= { error }
        } finally {
          unlock()
        }
      }
      if (failed !== null) throw failed.error
    },
  }
}

/** Deletes those whose process died. Returns what cannot be deleted now. */
export const removeDeadMachines = async (context: RunnerContext): Promise<{ ticket: null; failure: Failure }[]> => {
  const { home, registry, clock } = context
  const left: { ticket: null; failure: Failure }[] = []
  registry.endClaims()
  for (const machine of registry.poolMachines().filter(isUnfinished)) {
    const { vmId, pool } = machine
    try {
      await ifUnlocked(home, vmId, async () => {
        const now = registry.poolMachine(vmId)
        if (now !== null && isUnfinished(now)) await removePoolMachine(context, now)
      })
    } catch (error) {
      left.push({ ticket: null, failure: failureOf(error, `deleting ${vmId}, a machine of the pool ${pool}`) })
    }
  }
  for (const { vmId, provider, purpose } of registry.machines()) {
    if (purpose === 'pool') continue
    try {
      await ifUnlocked(home, vmId, async () => {
        await (await context.provider(provider)).deleteVm(vmId)
        forgetHostKey(home, vmId)
        registry.endMachine(vmId, clock().toISOString(), 'interrupted')
      })
    } catch (error) {
      const doing = `deleting ${vmId}, the machine of ${WORK[purpose]} that was killed`
      left.push({ ticket: null, failure: failureOf(error, doing) })
    }
  }
  return left
}
