/** Free disk space: checked before a write that would not fit, and reported after one that did not. */
import { fail, isFailure } from '../../src/errors.ts'
import type { Context } from './context.ts'
import { FREE_DISK_SPACE } from './explain.ts'
import { ensurePool } from './host.ts'

/** Bytes. */
type DiskSpace = { folder: string; available: number }

const mebibytes = (bytes: number) => `${Math.ceil(bytes / 1024 ** 2)} MiB`

/** Fails with `disk-full` unless `needed` bytes are free. When a disk fills up, every guest that writes to it pauses. */
export const requireSpace = (doing: string, needed: number, { folder, available }: DiskSpace): void => {
  if (available < needed)
    throw fail(
      'disk-full',
      `${doing}: it needs about ${mebibytes(needed)}, but ${folder} has ${mebibytes(available)} free (${mebibytes(needed - available)} missing)`,
      FREE_DISK_SPACE,
    )
}

/** For `.catch()`: adds to a `disk-full` how much is free, which `measure` finds out now. */
export const addFreeSpace =
  (measure: () => Promise<DiskSpace>) =>
  async (error: unknown): Promise<never> => {
    if (!isFailure(error) || error.failure.kind !== 'disk-full') throw error
    const { folder, available } = await measure()
    const { message, remedy } = error.failure
    throw fail('disk-full', `${message}: ${folder} has ${mebibytes(available)} free`, remedy, error)
  }

/** The same, of the pool's folder. */
export const withFreeSpace = (context: Context) => addFreeSpace(() => ensurePool(context))
