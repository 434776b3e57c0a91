/** Logs a problem once, until it is another one or solved. */
import type { Log } from '../log.ts'
import type { Failure } from '../schema/failure.ts'

export type ProblemLog = {
  /** `doing`: what fails, which names the problem. */
  report(doing: string, problem: Pick<Failure, 'message' | 'remedy'>): void
  clear(doing: string): void
}

export const openProblemLog = (log: Log): ProblemLog => {
  const known = new Map<string, string>()
  return {
    report: (doing, { message, remedy }) => {
      if (known.get(doing) === message) return
      known.set(doing, message)
      log.warn({ remedy }, message)
    },
    clear: doing => {
      if (known.delete(doing)) log.info({ happened: 'connection' }, `${doing}: works again`)
    },
  }
}
