/**
 * Machines that a command makes and removes again: those of a build and of a selftest. Each is journalled, and locked by its
 * process, before the provider creates it; when that process dies, the next command or the runner removes it.
 */
import { randomBytes } from 'node:crypto'
import type { Provider } from '../../providers/provider.ts'
import { newVmId } from '../domain.ts'
import { failureOf } from '../errors.ts'
import { ifUnlocked, lockNewMachine } from '../registry/lock.ts'
import type { MachineOperation, MachineRow } from '../registry/machines.ts'
import type { Failure } from '../schema/failure.ts'
import type { RunnerContext } from './context.ts'
import { forgetHostKey } from './ssh/keys.ts'

type Kept = Pick<MachineRow, 'purpose'> & Pick<MachineOperation, 'kind' | 'by'>

/** What becomes of them when their process dies. */
const isTemporary = ({ purpose }: MachineRow): boolean => purpose !== 'pool'

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
  for (const { vmId, provider, purpose } of registry.machines().filter(isTemporary)) {
    try {
      await ifUnlocked(home, vmId, async () => {
        await (await context.provider(provider)).deleteVm(vmId)
        forgetHostKey(home, vmId)
        registry.endMachine(vmId, clock().toISOString(), 'interrupted')
      })
    } catch (error) {
      const doing = `deleting ${vmId}, the machine of ${purpose === 'base' ? 'a build' : 'a selftest'} that was killed`
      left.push({ ticket: null, failure: failureOf(error, doing) })
    }
  }
  return left
}
