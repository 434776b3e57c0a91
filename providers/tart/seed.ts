/** The seed of a machine. Tart does not store which disks a VM has besides its own: it is attached at every start. */
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { type Seed, seedImage } from '../../base-image/seed.ts'
import { fail } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files.ts'
import type { CreateOptions } from '../provider.ts'
import { type Context, folderOf, seedFile } from './context.ts'

/**
 * Of all interfaces of Ethernet: a restore gives the machine another MAC. The instance id stays, so that cloud-init has nothing new
 * to do at later boots.
 */
const NETWORK = { by: 'name', pattern: 'e*' } as const

type Keys = Pick<CreateOptions, 'publicKey' | 'hostKey'> & Pick<Seed, 'instanceId' | 'machineId'>

/** Writes the machine's seed, which holds its private host key, for its owner alone. */
export const writeSeed = async (context: Context, id: string, keys: Keys): Promise<void> => {
  await mkdir(folderOf(context, id), { recursive: true, mode: 0o700 })
  writeFileAtomic(seedFile(context, id), seedImage({ hostname: id, network: NETWORK, ...keys }), { mode: 0o600 })
}

/**
 * The arguments that attach it. An absolute path: Tart takes `seed/x.iso` for an image of the registry `seed`. Read-only: Tart locks
 * a disk that a guest may write to. Without a seed the guest boots with what it had.
 */
export const seedArguments = (context: Context, id: string): string[] => {
  const path = resolve(seedFile(context, id))
  if (!existsSync(path)) return []
  // Tart splits the value at the colon.
  if (path.includes(':'))
    throw fail(
      'not-configured',
      `starting ${id}: tart takes no path with a colon (${path})`,
      'Move AGENT_SWARM_HOME to a folder without one.',
    )
  return ['--disk', `${path}:ro`]
}
