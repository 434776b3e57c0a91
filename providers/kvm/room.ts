/** Room on a disk, in figures: before something is written that would not fit, and after something did not. */
import { fail, isFailure } from '../../src/errors.ts'
import { MAKE_ROOM } from './explain.ts'

export type Room = { folder: string; available: number }

const mebibytes = (bytes: number) => `${Math.ceil(bytes / 1024 ** 2)} MiB`

/** Fails with `disk-full` unless `needed` bytes are free. A disk that fills up while guests write to it stops all of them. */
export const needRoom = (doing: string, needed: number, { folder, available }: Room): void => {
  if (available < needed)
    throw fail(
      'disk-full',
      `${doing}: it needs about ${mebibytes(needed)}, and ${mebibytes(available)} are free in ${folder}: ${mebibytes(needed - available)} are missing`,
      MAKE_ROOM,
    )
}

/** For `.catch()`: a `disk-full` that came all the same says how much is free. `look` asks for it now. */
export const sayingRoom =
  (look: () => Promise<Room>) =>
  async (error: unknown): Promise<never> => {
    if (!isFailure(error) || error.failure.kind !== 'disk-full') throw error
    const { folder, available } = await look()
    throw fail(
      'disk-full',
      `${error.failure.message}: ${mebibytes(available)} are free in ${folder}`,
      error.failure.remedy,
      error,
    )
  }
