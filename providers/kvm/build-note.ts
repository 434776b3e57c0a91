/** Where builds under way are noted, and what earlier versions noted besides. */
import { join } from 'node:path'
import { killedBuilds } from '../../base-image/build-note.ts'
import type { Context } from './context.ts'
import { deleteMachine } from './machines.ts'

export const folderOf = ({ home }: Pick<Context, 'home'>): string => join(home, 'kvm')

/** Removes the machines of killed builds whose notes name them. Their marks have no home: the note proves that they are ours. */
export const removeOldMachines = async (context: Context): Promise<void> => {
  for (const { machines = [] } of killedBuilds(folderOf(context)))
    for (const machine of machines) await deleteMachine({ ...context, knows: id => id === machine }, machine)
}
